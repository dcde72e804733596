"""The writer of the embed room: vectors, refusals and failures as shards of three tables."""

import datetime
import json
from collections import Counter
from typing import Any

import pyarrow as pa

from boldstream.artifacts.embeddings import FAILURES_SCHEMA, REFUSALS_SCHEMA
from boldstream.artifacts.shards import content_name, write_shard
from boldstream.embed.task import EmbedTask
from boldstream.errors import StorageError


def write_rows(batch: pa.Table, task: EmbedTask) -> dict[str, Any]:
    """Write a batch's vectors, refusals and failures as Parquet shards; return the receipt for the driver."""
    refused = batch.filter(batch["reason"].is_valid())
    failed = batch.filter(batch["error_class"].is_valid())
    good = batch.filter(batch["vector_sha256"].is_valid()).select(task.schema.names).cast(task.schema)
    first = failed.slice(0, 1).to_pylist()
    receipt: dict[str, Any] = {
        "shard": "",
        "quarantine": "",
        "failures": "",
        "rows": good.num_rows,
        "quarantined": refused.num_rows,
        "failed": failed.num_rows,
        "reasons": json.dumps(Counter(refused["reason"].to_pylist())),
        "error": "; ".join(f"{row['row_key']} failed: {row['error_class']}: {row['message']}" for row in first),
        "stopped": "",
    }
    try:
        receipt["shard"] = _write(task.table_uri, good)
        receipt["quarantine"] = _write(task.quarantine_uri, _refusals(refused))
        receipt["failures"] = _write(task.failures_uri, _failures(failed, task))
    except StorageError as error:
        receipt["stopped"] = str(error)
    return receipt


def _write(table_uri: str, rows: pa.Table) -> str:
    return write_shard(table_uri, content_name(rows), rows) if rows.num_rows else ""


def _refusals(rows: pa.Table) -> pa.Table:
    columns = {name: rows[name] for name in REFUSALS_SCHEMA.names if name in rows.column_names}
    columns |= {"scan_key": rows["row_key"], "room": pa.array(["embed"] * rows.num_rows, pa.string())}
    return pa.table([columns[name] for name in REFUSALS_SCHEMA.names], schema=REFUSALS_SCHEMA)


def _failures(rows: pa.Table, task: EmbedTask) -> pa.Table:
    columns: dict[str, Any] = {name: rows[name] for name in FAILURES_SCHEMA.names if name in rows.column_names}
    same = {"room": "embed", "run_id": task.run_id, "failed_at": datetime.datetime.now(datetime.UTC)}
    columns |= {
        name: pa.array([value] * rows.num_rows, FAILURES_SCHEMA.field(name).type) for name, value in same.items()
    }
    return pa.table([columns[name] for name in FAILURES_SCHEMA.names], schema=FAILURES_SCHEMA)

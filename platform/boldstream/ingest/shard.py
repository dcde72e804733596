"""One Ray task of the ingest room: read a shard's scans, write its rows and its quarantine."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from boldstream.artifacts.cohort import QUARANTINE_SCHEMA, ROW_STATE, STAMPS_SCHEMA
from boldstream.artifacts.shards import content_name, write_shard
from boldstream.config import digest_json
from boldstream.errors import ScanError, StorageError
from boldstream.ingest.config import IngestConfig
from boldstream.ingest.plan import ScanPlan, problem_of
from boldstream.ingest.prepare import prepare_scan
from boldstream.ingest.read import read_scan
from boldstream.ingest.regions import Regions


@dataclass(frozen=True)
class IngestTask:
    """What every task of a run is told.

    Attributes
    ----------
    config : IngestConfig
    regions : Regions
    schema : pyarrow.Schema
        Of the cohort.
    cohort_uri, quarantine_uri, stamps_uri : str
        Where the tables live.
    """

    config: IngestConfig
    regions: Regions
    schema: pa.Schema
    cohort_uri: str
    quarantine_uri: str
    stamps_uri: str


def shard_of(plans: Sequence[ScanPlan], held: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """Return the row that tells a task its scans, with the `ROW_STATE` of the rows that the cohort has of them."""
    return {"scans": json.dumps([[plan.as_dict(), held.get(plan.scan_key)] for plan in plans])}


def ingest_shard(row: dict[str, Any], *, task: IngestTask) -> dict[str, Any]:
    """Read the scans of one shard and write their Parquet files; return the receipt for the driver.

    The receipt names the written files (empty where there is none) and counts rows and quarantine reasons. A row that
    the cohort has in the same state is not written again.
    """
    good: list[dict[str, Any]] = []
    bad: list[dict[str, Any]] = []
    stamps: list[dict[str, str]] = []
    n_same = 0
    for values, held in json.loads(row["scans"]):
        plan = ScanPlan(**values)
        state = dict.fromkeys(ROW_STATE, "")
        try:
            if problem := problem_of(plan):
                raise problem
            made = cohort_row(plan, task)
            state = {name: made[name] for name in ROW_STATE}
            if list(state.values()) == held:
                n_same += 1
            else:
                good.append(made)
        except ScanError as error:
            bad.append(quarantine_row(plan.scan_key, error, plan.source_uri))
        stamps.append({"scan_key": plan.scan_key, "stamp": plan.stamp, **state})
    receipt: dict[str, Any] = {
        "shard": "",
        "quarantine": "",
        "stamps": "",
        "rows": len(good) + n_same,
        "quarantined": len(bad),
        "reasons": json.dumps(Counter(scan["reason"] for scan in bad)),
        "stopped": "",
    }
    try:
        receipt["shard"] = _write(task.cohort_uri, good, task.schema)
        receipt["quarantine"] = _write(task.quarantine_uri, bad, QUARANTINE_SCHEMA)
        receipt["stamps"] = _write(task.stamps_uri, stamps, STAMPS_SCHEMA)
    except StorageError as error:
        receipt["stopped"] = str(error)
    return receipt


def _write(table_uri: str, rows: list[dict[str, Any]], schema: pa.Schema) -> str:
    """Write rows as a shard; return its URI, empty if there are none."""
    if not rows:
        return ""
    table = pa.Table.from_pylist(rows, schema)
    return write_shard(table_uri, content_name(table), table)


def quarantine_row(scan_key: str, error: ScanError, source_uri: str) -> dict[str, Any]:
    """Return the quarantine's row of a scan."""
    return {
        "scan_key": scan_key,
        "room": "ingest",
        "reason": error.reason,
        "message": error.message,
        "source_uri": source_uri,
        "source_sha256": None,
    }


def cohort_row(plan: ScanPlan, task: IngestTask) -> dict[str, Any]:
    """Return the cohort's row of one scan.

    Raises
    ------
    ScanError
        If the scan cannot be used.
    """
    scan = read_scan(plan, task.config.source, task.regions)
    prepared = prepare_scan(scan, plan.values, task.regions.atlas.roi_names, task.config)
    columns = prepared.columns()
    content = hashlib.sha256(prepared.values.tobytes()).hexdigest()
    told = {name: columns[name] for name in ("t_r", "mean_fd", "bad_rois", "censored", "notes")}
    return {
        **plan.values,
        **columns,
        "scan_key": plan.scan_key,
        "source_uri": plan.source_uri,
        "source_sha256": scan.sha256,
        "row_digest": digest_json([content, plan.values, told]),
    }

"""A version of a table as plain files that need neither boldstream nor Iceberg."""

import json
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from boldstream.artifacts.settings import plain_schema
from boldstream.artifacts.versions import iter_batches
from boldstream.errors import ConfigError, OutputExistsError
from boldstream.storage import local_path, publish_folder
from boldstream.tables.find import Version, find_version

VECTOR = "embedding"
HEAVY = frozenset({"timeseries", "roi_latents", "qc_fc_sketch", "censored"})
"""Columns that CSV has no place for."""


@dataclass(frozen=True)
class Exported:
    """Where a version was written, and how many rows it has; columns that CSV leaves out."""

    version: Version
    target: Path
    rows: int
    left_out: list[str]


def export_table(pointer: str, warehouse: str, target: str, *, overwrite: bool = False) -> Exported:
    """Write a version as one Parquet file, one CSV file, or a folder of Parquet files with its manifest.

    Parquet keeps all columns, vectors as lists of float32, and carries the manifest in its metadata
    (``boldstream.manifest``). CSV spreads the vector over columns ``embedding_0``, ``embedding_1``, …, exactly, and
    leaves out time series and regional latents. A file appears when it is whole.

    Raises
    ------
    ArtifactError
        If there is no such version, or a file of it is damaged.
    ConfigError
        If the target is neither .parquet, nor .csv, nor a folder's name.
    OutputExistsError
        If the target is there already.
    """
    path = local_path(target)
    if path.suffix not in {".parquet", ".csv", ""}:
        raise ConfigError(f"--to: {target!r} ends in {path.suffix!r}; write FILE.parquet, FILE.csv, or a folder")
    found = find_version(pointer, warehouse)
    if path.exists() and not overwrite:
        raise OutputExistsError(f"--to: {path} exists; choose another place, or add --overwrite")
    found.table.check_files(found.manifest.version)
    if path.suffix == "":
        return _export_folder(found, path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        rows, left_out = _write_csv(found, draft) if path.suffix == ".csv" else (_write_parquet(found, draft), [])
        if path.is_dir():
            shutil.rmtree(path)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return Exported(found, path, rows, left_out)


def _export_folder(found: Version, path: Path) -> Exported:
    with publish_folder(path) as draft:
        rows = _write_parquet(found, draft / f"{found.manifest.name}.parquet")
        (draft / "manifest.json").write_text(found.manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return Exported(found, path, rows, [])


def _batches(found: Version) -> Iterator[pa.RecordBatch]:
    """Stream all rows with Arrow's usual types instead of pyiceberg's large ones."""
    for batch in iter_batches(found.table, found.manifest.version):
        plain = plain_schema(batch.schema)
        if batch.num_rows:
            yield from pa.Table.from_batches([batch]).cast(plain).to_batches()


def _write_parquet(found: Version, path: Path) -> int:
    rows, writer = 0, None
    manifest = {"boldstream.manifest": found.manifest.model_dump_json()}
    try:
        for batch in _batches(found):
            if writer is None:
                schema = batch.schema.with_metadata(manifest)
                text = [field.name for field in schema if pa.types.is_string(field.type)]
                writer = pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=text)
            writer.write_batch(batch.replace_schema_metadata(manifest))
            rows += batch.num_rows
    finally:
        if writer is not None:
            writer.close()
    return rows


def _write_csv(found: Version, path: Path) -> tuple[int, list[str]]:
    rows, writer, left_out = 0, None, []
    try:
        for batch in _batches(found):
            left_out = [name for name in batch.schema.names if name in HEAVY]
            flat = _flat(batch)
            if writer is None:
                writer = pacsv.CSVWriter(path, flat.schema)
            writer.write_table(flat)
            rows += batch.num_rows
    finally:
        if writer is not None:
            writer.close()
    return rows, left_out


def _flat(batch: pa.RecordBatch) -> pa.Table:
    """Return a batch with lists of words as JSON text and the vector spread over columns."""
    columns: dict[str, pa.Array] = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if name in HEAVY:
            continue
        if name == VECTOR:
            values = column.flatten().to_numpy(zero_copy_only=False).reshape(batch.num_rows, -1)
            columns |= {f"{VECTOR}_{i}": pa.array(values[:, i]) for i in range(values.shape[1])}
        elif pa.types.is_list(column.type):
            words = [None if value is None else json.dumps(value, ensure_ascii=False) for value in column.to_pylist()]
            columns[name] = pa.array(words, pa.string())
        else:
            columns[name] = column
    return pa.table(columns)

"""The embedding table: one row an embedded scan (or part of one), with everything that its vector depends on."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from boldstream.artifacts.cohort import QUARANTINE_SCHEMA
from boldstream.artifacts.files import DataFile
from boldstream.artifacts.manifest import Manifest
from boldstream.artifacts.tables import VersionedTable
from boldstream.artifacts.versions import resolve_version
from boldstream.errors import EmbeddingsError
from boldstream.refs import EmbeddingTableRef
from boldstream.storage import Warehouse

KIND = "embeddings"
QUARANTINE_KIND = "embeddings_quarantine"
FAILURES_KIND = "embeddings_failures"

KEY_FIELDS = [
    pa.field("row_key", pa.string(), nullable=False),
    pa.field("part", pa.int32(), nullable=False),
    pa.field("scan_digest", pa.string(), nullable=False),
]
VECTOR_FIELDS = [
    pa.field("status", pa.string(), nullable=False),
    pa.field("n_windows", pa.int32(), nullable=False),
    pa.field("vector_sha256", pa.string(), nullable=False),
    pa.field("embedding", pa.list_(pa.float32()), nullable=False),
    pa.field("roi_latents", pa.list_(pa.float32())),
    pa.field("strategy_id", pa.string(), nullable=False),
    pa.field("model_version", pa.string(), nullable=False),
    pa.field("model_digest", pa.string(), nullable=False),
    pa.field("cohort_version", pa.string(), nullable=False),
    pa.field("cohort_digest", pa.string(), nullable=False),
]

REFUSALS_SCHEMA = QUARANTINE_SCHEMA.append(pa.field("scan_digest", pa.string(), nullable=False))
"""The quarantine: what can never be embedded as it is. ``scan_key`` holds the row's key, the part's number in it."""

FAILURES_SCHEMA = pa.schema(
    [
        pa.field("row_key", pa.string(), nullable=False),
        pa.field("scan_key", pa.string(), nullable=False),
        pa.field("scan_digest", pa.string(), nullable=False),
        pa.field("room", pa.string(), nullable=False),
        pa.field("error_class", pa.string(), nullable=False),
        pa.field("message", pa.string(), nullable=False),
        pa.field("traceback_digest", pa.string(), nullable=False),
        pa.field("attempt", pa.int32(), nullable=False),
        pa.field("run_id", pa.string(), nullable=False),
        pa.field("failed_at", pa.timestamp("us", tz="UTC"), nullable=False),
    ]
)
"""Errors that may pass: one row a scan (or part) that failed in its last attempt, gone once it is embedded.

``traceback_digest`` is the sha256 of the traceback without paths, line numbers and values: equal for equal faults.
"""


def embedding_schema(cohort_columns: pa.Schema) -> pa.Schema:
    """Return the schema of an embedding table: keys, the cohort's light columns carried through, the vectors.

    ``scan_digest`` is the cohort row's ``row_digest``: a scan whose digest changes is embedded again.
    ``status`` is ``ok`` or ``padded`` (the scan was shorter than one window and the strategy allowed padding).
    ``embedding`` holds the vector; ``roi_latents`` the (n_rois, n_dims) mean over windows and patches, flattened
    row by row, where the strategy keeps it, else null. Scans without a vector are in the quarantine table.
    """
    return pa.schema(KEY_FIELDS + list(cohort_columns) + VECTOR_FIELDS)


ADJUSTED_FIELDS = [
    pa.field("source_vector_sha256", pa.string(), nullable=False),
    pa.field("adjustment_version", pa.string(), nullable=False),
    pa.field("adjustment_digest", pa.string(), nullable=False),
]


def adjusted_schema(source: pa.Schema) -> pa.Schema:
    """Return the schema of a table of adjusted vectors: the source table's columns, and what each vector follows from.

    ``roi_latents`` is null: the source table has them.
    """
    return pa.schema([*source, *ADJUSTED_FIELDS])


def row_key(scan_key: str, part: int, n_parts: int) -> str:
    """Return the key of an embedding row: the scan's, with the part's number where scans are cut in parts."""
    return scan_key if n_parts == 1 else f"{scan_key}_part-{part + 1}"


@dataclass(frozen=True)
class EmbeddingTable:
    """An embedding table version opened for reading."""

    ref: EmbeddingTableRef
    manifest: Manifest
    table: VersionedTable
    files: tuple[DataFile, ...]

    @property
    def label(self) -> str:
        """Short name for messages: ``name@version``."""
        return f"{self.manifest.name}@{self.manifest.version}"

    def rows(self) -> pd.DataFrame:
        """Return all columns but the vectors, one row an embedding, sorted by ``row_key``."""
        names = [n for n in self.table.iceberg.schema().as_arrow().names if n not in {"embedding", "roi_latents"}]
        frame: pd.DataFrame = self.table.column(names, self.manifest.version).to_pandas()
        return frame.sort_values("row_key", ignore_index=True)

    def vectors(self) -> NDArray[np.float32]:
        """Return the vectors, shape (n_rows, n_dims), in the order of `rows`."""
        found = self.table.column(["row_key", "embedding"], self.manifest.version).sort_by("row_key")
        column = found.column("embedding").combine_chunks()
        return np.asarray(column.flatten(), dtype=np.float32).reshape(found.num_rows, -1)


def open_table(pointer: str, warehouse: str) -> EmbeddingTable:
    """Open an embedding table version and check that it is whole.

    Parameters
    ----------
    pointer : str
        ``name`` (the newest), ``name@version``, ``name@champion`` or another alias, or the full line that the embed
        job printed.
    warehouse : str
        Path or URI of the warehouse, for pointers that do not name theirs.

    Raises
    ------
    EmbeddingsError
        If it is not there, was never finished, has no manifest, or has a missing, truncated or foreign file.
    """
    table, version = VersionedTable.locate(pointer, KIND, warehouse, field="table", error=EmbeddingsError)
    manifest = table.manifest(resolve_version(table, version))
    files = table.check_files(manifest.version)
    ref = EmbeddingTableRef(table.uri, manifest.version, manifest.digest)
    return EmbeddingTable(ref, manifest, table, tuple(files))


def embedding_tables(warehouse: Warehouse, name: str) -> tuple[VersionedTable, VersionedTable]:
    """Return an embedding table and its quarantine table."""
    return (
        VersionedTable(warehouse, KIND, name, EmbeddingsError),
        VersionedTable(warehouse, QUARANTINE_KIND, name, EmbeddingsError),
    )


def failures_table(warehouse: Warehouse, name: str) -> VersionedTable:
    """Return the table of scans that failed when they were embedded."""
    return VersionedTable(warehouse, FAILURES_KIND, name, EmbeddingsError)

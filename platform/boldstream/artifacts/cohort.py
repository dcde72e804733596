"""The cohort: one row a scan, with its time series, who it is of, and where it came from."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from boldstream.artifacts.files import DataFile, read_parquet
from boldstream.artifacts.manifest import Manifest
from boldstream.artifacts.tables import VersionedTable
from boldstream.errors import CohortError
from boldstream.refs import CohortRef
from boldstream.storage import Warehouse, filesystem, read_bytes

if TYPE_CHECKING:
    import ray.data

KIND = "cohorts"
QUARANTINE_KIND = "cohorts_quarantine"
SET_ASIDE_KIND = "cohorts_set_aside"
STATISTICS = "statistics.npz"
"""A model's file of them; a cohort's has a part of its sha256 in its name."""

IDENTITY_FIELDS = [
    pa.field("scan_key", pa.string(), nullable=False),
    pa.field("subject", pa.string(), nullable=False),
    pa.field("session", pa.string()),
    pa.field("task", pa.string()),
    pa.field("run", pa.string()),
]
COVARIATE_FIELDS = [
    pa.field("site", pa.string()),
    pa.field("age", pa.float64()),
    pa.field("sex", pa.string()),
    pa.field("mean_fd", pa.float64()),
]
SERIES_FIELDS = [
    pa.field("t_r", pa.float64()),
    pa.field("t_r_original", pa.float64()),
    pa.field("n_timepoints", pa.int32(), nullable=False),
    pa.field("n_timepoints_original", pa.int32()),
    pa.field("n_rois", pa.int32(), nullable=False),
    pa.field("timeseries", pa.list_(pa.float32()), nullable=False),
    pa.field("bad_rois", pa.list_(pa.string()), nullable=False),
    pa.field("censored", pa.list_(pa.int32())),
    pa.field("notes", pa.list_(pa.string())),
    pa.field("source_uri", pa.string(), nullable=False),
    pa.field("source_sha256", pa.string(), nullable=False),
    pa.field("source_stamp", pa.string(), nullable=False),
    pa.field("row_digest", pa.string(), nullable=False),
]
QUALITY_MEASURES = (
    "mean_fd",
    "high_fd_share",
    "censored_share",
    "dvars",
    "spike_share",
    "tsnr",
    "min_coverage",
    "n_low_coverage",
    "n_zero_rois",
    "n_flat_rois",
    "n_nonfinite_rois",
    "bad_roi_share",
    "fc_mean",
    "fc_homotopic",
)
QUALITY_FIELDS = [
    pa.field("qc_status", pa.string()),
    pa.field("qc_reasons", pa.list_(pa.string())),
    *(pa.field(f"qc_{name}", pa.float64()) for name in QUALITY_MEASURES),
    pa.field("qc_content_sha256", pa.string()),
    pa.field("qc_fc_sketch", pa.list_(pa.float32())),
]
NOT_CARRIED = frozenset({"timeseries", "row_digest", "source_stamp", "censored", "qc_fc_sketch", "qc_content_sha256"})
"""Columns that tables made of a cohort do not carry on: they are heavy, or only of use beside the time series."""

QUARANTINE_SCHEMA = pa.schema(
    [
        pa.field("scan_key", pa.string(), nullable=False),
        pa.field("room", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("message", pa.string(), nullable=False),
        pa.field("source_uri", pa.string()),
        pa.field("source_sha256", pa.string()),
    ]
)

COHORT_QUARANTINE_SCHEMA = QUARANTINE_SCHEMA.append(pa.field("source_stamp", pa.string(), nullable=False))
"""A cohort's quarantine."""
FIXED_NAMES = frozenset(field.name for field in IDENTITY_FIELDS + COVARIATE_FIELDS + SERIES_FIELDS + QUALITY_FIELDS)


def cohort_schema(phenotypes: dict[str, pa.DataType]) -> pa.Schema:
    """Return the schema of a cohort: the fixed columns and the phenotype columns, by name.

    ``timeseries`` holds the (n_timepoints, n_rois) float32 array flattened row by row, a plain ``list<float>``
    that every Parquet reader understands. ``t_r_original`` and ``n_timepoints_original`` are the source's, before
    dummy scans were removed and the series was resampled; ``censored`` lists timepoints, after dummy scans and before
    resampling, whose values are interpolated or left out (see ``notes``). Columns ``qc_…`` are measures and the
    decision of quality control. ``source_stamp`` tells whether a scan's files, or what tables say of it, have changed
    since it was read, without reading them again; it is no part of ``row_digest``. Cohorts of schema version 1
    have none of these.
    """
    extra = [pa.field(name, kind) for name, kind in sorted(phenotypes.items())]
    return pa.schema(IDENTITY_FIELDS + COVARIATE_FIELDS + extra + SERIES_FIELDS + QUALITY_FIELDS)


def iter_timeseries(rows: pa.Table | pa.RecordBatch) -> Iterator[NDArray[np.float32]]:
    """Yield the (n_timepoints, n_rois) float32 array of each row, without copying the values."""
    table = pa.Table.from_batches([rows]) if isinstance(rows, pa.RecordBatch) else rows
    for batch in table.select(["timeseries", "n_timepoints", "n_rois"]).to_batches():
        column = batch.column(0)
        values = column.values.to_numpy(zero_copy_only=True)
        offsets = column.offsets.to_numpy()
        lengths, widths = batch.column(1).to_numpy(), batch.column(2).to_numpy()
        for row in range(batch.num_rows):
            yield values[offsets[row] : offsets[row + 1]].reshape(lengths[row], widths[row])


@dataclass(frozen=True)
class Cohort:
    """A cohort version opened for reading.

    Attributes
    ----------
    ref : CohortRef
    manifest : Manifest
    table : VersionedTable
    files : tuple of DataFile
        Its Parquet files, checked against the catalog.
    """

    ref: CohortRef
    manifest: Manifest
    table: VersionedTable
    files: tuple[DataFile, ...]

    @property
    def atlas(self) -> str:
        """Name of the atlas."""
        return str(self.manifest.content["atlas"])

    @property
    def roi_names(self) -> tuple[str, ...]:
        """Names of the regions, in the order of the columns of every time series."""
        return tuple(self.manifest.content["roi_names"])

    @property
    def label(self) -> str:
        """Short name for messages: ``name@version``."""
        return f"{self.manifest.name}@{self.manifest.version}"

    def read(self, columns: Sequence[str], files: Sequence[DataFile] | None = None) -> "ray.data.Dataset":
        """Stream columns of all files, or of some of them, through Ray Data, a block a file."""
        return read_parquet(files or self.files, columns)

    def statistics(self) -> bytes | None:
        """Return the statistics of its training scans (`analysis.roi_statistics`), None where it has none.

        Raises
        ------
        CohortError
            If they are not those that the manifest tells.
        StorageError
            If the file is not there.
        """
        told = self.manifest.content.get("statistics")
        if told is None:
            return None
        uri = self.table.beside(self.manifest.version, told["file"])
        data = read_bytes(uri)
        if hashlib.sha256(data).hexdigest() != told["sha256"]:
            raise CohortError(
                f"{uri}: has another sha256 than cohort {self.label} tells; restore the file, or ingest under another "
                "output"
            )
        return data

    def keys_by_file(self) -> Iterator[tuple[DataFile, list[str]]]:
        """Yield each file with the scan keys in it, reading nothing else."""
        for file in self.files:
            fs, path = filesystem(file.uri)
            yield file, pq.read_table(path, columns=["scan_key"], filesystem=fs)["scan_key"].to_pylist()


def open_cohort(pointer: str, warehouse: str) -> Cohort:
    """Open a cohort version and check that it is whole.

    Parameters
    ----------
    pointer : str
        ``name``, ``name@version`` or the full line that the ingest job printed.
    warehouse : str
        Path or URI of the warehouse, for pointers that do not name theirs.

    Raises
    ------
    CohortError
        If it is not there, was never finished, has no manifest, or has a missing, truncated or foreign file.
    """
    table, version = VersionedTable.locate(pointer, KIND, warehouse, field="cohort", error=CohortError)
    manifest = table.manifest(version)
    files = table.check_files(manifest.version)
    ref = CohortRef(table.uri, manifest.version, manifest.digest)
    return Cohort(ref, manifest, table, tuple(files))


def cohort_tables(warehouse: Warehouse, name: str) -> tuple[VersionedTable, VersionedTable]:
    """Return a cohort's table and its quarantine table."""
    return (
        VersionedTable(warehouse, KIND, name, CohortError),
        VersionedTable(warehouse, QUARANTINE_KIND, name, CohortError),
    )


def set_aside_table(warehouse: Warehouse, name: str) -> VersionedTable:
    """Return the table of the scans that rules over a cohort set aside, with all their columns; it has no versions.

    They are in quarantine too. Here they can be judged again, with the others, when the cohort changes, and come back.
    """
    return VersionedTable(warehouse, SET_ASIDE_KIND, name, CohortError)

"""What the gate looks at: a version's rows and some of its vectors, and the scans behind them."""

from collections.abc import Iterator
from functools import cached_property

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray

from boldstream.analysis.roi_statistics import RoiStatistics
from boldstream.analysis.shift import compare_scan
from boldstream.artifacts.cohort import Cohort, iter_timeseries
from boldstream.artifacts.embeddings import EmbeddingTable
from boldstream.artifacts.tables import VersionedTable
from boldstream.artifacts.versions import iter_batches
from boldstream.storage import filesystem


class Side:
    """One version of the table, as the gate looks at it: all light columns, and some of the vectors.

    Parameters
    ----------
    table : EmbeddingTable
    most : int
        Vectors kept.
    seed : int
    """

    def __init__(self, table: EmbeddingTable, most: int, seed: int) -> None:
        self.table, self.most, self.seed = table, most, seed

    @cached_property
    def rows(self) -> pd.DataFrame:
        """Light columns, by ``row_key``."""
        return self.table.rows().set_index("row_key")

    @cached_property
    def n_bad(self) -> int:
        """Vectors that hold NaN or infinity, or are all zero."""
        return sum(self._is_bad(vector) for _, vector in self._stream())

    @staticmethod
    def _is_bad(vector: NDArray[np.float32]) -> bool:
        return not np.isfinite(vector).all() or not vector.any()

    def _stream(self) -> Iterator[tuple[str, NDArray[np.float32]]]:
        version = self.table.manifest.version
        for batch in iter_batches(self.table.table, version, ["row_key", "embedding"]):
            for key, vector in zip(batch["row_key"].to_pylist(), batch["embedding"], strict=True):
                yield key, np.asarray(vector.values, dtype=np.float32)

    def draw(self, keys: "pd.Index[str]", most: int | None = None) -> "pd.Index[str]":
        """Return the keys, or a random sample of them."""
        most = min(self.most, most or self.most)
        if len(keys) <= most:
            return keys
        places = np.random.default_rng(self.seed).choice(len(keys), most, replace=False)
        return keys[np.sort(places)]

    @cached_property
    def sample(self) -> tuple["pd.Index[str]", NDArray[np.float64]]:
        """Keys and vectors of all rows, or of a random sample of them; read once, for every check that takes it."""
        keys = self.draw(self.rows.index)
        return keys, self.vectors(keys)

    def vectors(self, keys: "pd.Index[str]") -> NDArray[np.float64]:
        """Return the vectors of some rows, in their order, shape (n, d); the others are streamed past."""
        place = {key: i for i, key in enumerate(keys)}
        found: dict[int, NDArray[np.float32]] = {place[key]: v for key, v in self._stream() if key in place}
        return np.stack([found[i] for i in range(len(keys))]).astype(np.float64)


def n_refused(quarantine: VersionedTable) -> int:
    """Return how many scans are in a quarantine now; a manifest tells that of its version only."""
    return quarantine.column(["scan_key"]).num_rows if quarantine.exists else 0


def similarities(cohort: Cohort, keys: "pd.Index[str]", trained: RoiStatistics) -> dict[str, float]:
    """Return how the connectivity of some scans correlates with the training scans' mean, file by file."""
    found: dict[str, float] = {}
    for file in cohort.files if len(keys) else ():
        fs, path = filesystem(file.uri)
        names = ["scan_key", "timeseries", "n_timepoints", "n_rois"]
        rows = pq.read_table(path, columns=names, filesystem=fs, filters=[("scan_key", "in", list(keys))])
        for key, series in zip(rows["scan_key"].to_pylist(), iter_timeseries(rows), strict=True):
            found[key] = compare_scan(series, trained).similarity
    return found

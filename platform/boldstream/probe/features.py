"""Features of the cohort's time series, computed by Ray Data file by file and put together in the object store."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from boldstream.analysis.baselines import Connectivity
from boldstream.artifacts.cohort import Cohort, iter_timeseries
from boldstream.errors import ResultsError, few_of

if TYPE_CHECKING:
    import ray

CONNECTIVITY, SERIES = "connectivity", "series"
COLUMNS = ["scan_key", "n_timepoints", "n_rois", "timeseries"]
N_NAMED = 5


class SeriesList(Sequence[NDArray[np.float32]]):
    """Time series of many scans in one array, so that the object store hands them out without a copy.

    Parameters
    ----------
    values : array, float32
        All series, flattened one after the other.
    lengths : array of int
        Timepoints of each.
    n_rois : int
    """

    def __init__(self, values: NDArray[np.float32], lengths: NDArray[np.int64], n_rois: int) -> None:
        self.values, self.n_rois = values, n_rois
        self.ends = np.cumsum(lengths) * n_rois

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, at: Any) -> Any:
        first = self.ends[at - 1] if at else 0
        return self.values[first : self.ends[at]].reshape(-1, self.n_rois)

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        return (self[at] for at in range(len(self)))


def compute_features(cohort: Cohort, keys: Sequence[str], kinds: set[str]) -> dict[str, "ray.ObjectRef"]:
    """Compute features of scans, each in the order of the keys; every file is read once, whatever is asked for.

    Parameters
    ----------
    kinds : set of str
        ``connectivity``: Fisher's z of all pairs of regions, (n_scans, n_pairs) float32. ``series``: a `SeriesList`.

    Returns
    -------
    dict of str to ObjectRef
        They stay in the object store; the driver holds references only.
    """
    import ray

    told = {"kinds": sorted(kinds), "wanted": ray.put(pa.array(keys))}
    rows = cohort.read(COLUMNS).map_batches(_wanted_rows, batch_format="pyarrow", batch_size=None, fn_kwargs=told)
    blocks = rows.materialize().to_arrow_refs()
    task = ray.remote(assemble)
    return {kind: task.remote(kind, list(keys), *blocks) for kind in told["kinds"]}


def _wanted_rows(rows: pa.Table, kinds: Sequence[str], wanted: Any) -> pa.Table:
    import ray

    return feature_rows(rows.filter(pc.is_in(rows["scan_key"], value_set=ray.get(wanted))), kinds)


def feature_rows(rows: pa.Table, kinds: Sequence[str]) -> pa.Table:
    """Return ``scan_key``, ``n_rois``, and a column a kind: each scan's values, float32."""
    columns = {kind: _column([MAKERS[kind](scan) for scan in iter_timeseries(rows)]) for kind in kinds}
    return pa.table({"scan_key": rows["scan_key"], "n_rois": rows["n_rois"].cast(pa.int64()), **columns})


def _connectivity(scan: NDArray[np.float32]) -> NDArray[np.float32]:
    return Connectivity().fit_transform([scan])[0].astype(np.float32)


MAKERS: dict[str, Callable[[NDArray[np.float32]], NDArray[np.float32]]] = {
    CONNECTIVITY: _connectivity,
    SERIES: np.ravel,
}


def _column(values: list[NDArray[np.float32]]) -> pa.LargeListArray:
    # offsets of 64 bits: a file of long scans may hold more than 2^31 values
    ends = np.concatenate([[0], np.cumsum([len(one) for one in values])]).astype(np.int64)
    flat = pa.array(np.concatenate([np.empty(0, np.float32), *values]))
    return pa.LargeListArray.from_arrays(pa.array(ends), flat)


def assemble(kind: str, keys: list[str], *blocks: pa.Table) -> "NDArray[np.float32] | SeriesList":
    """Put blocks of rows together in the order of keys; runs where there is room, not on the driver.

    Raises
    ------
    ResultsError
        If a scan is in none.
    """
    filled = [block for block in blocks if block.num_rows]
    there = [key for block in filled for key in block["scan_key"].to_pylist()]
    place = {key: at for at, key in enumerate(there)}
    if lost := [key for key in keys if key not in place]:
        raise ResultsError(f"{len(lost)} scans are not in the cohort any more: {few_of(lost, N_NAMED)}")
    arrays = [
        np.asarray(one.values.to_numpy(zero_copy_only=False))
        for block in filled
        for one in block[kind].combine_chunks().slice(0)
    ]
    rows = [arrays[place[key]] for key in keys]
    if kind == CONNECTIVITY:
        return np.stack(rows)
    n_rois = int(filled[0]["n_rois"][0].as_py())
    return SeriesList(np.concatenate(rows), np.array([len(one) // n_rois for one in rows]), n_rois)

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest

from boldstream.analysis.baselines import Connectivity
from boldstream.errors import ResultsError
from boldstream.probe.features import CONNECTIVITY, SERIES, SeriesList, assemble, feature_rows

N_ROIS = 4
COLUMNS = pa.schema(
    [
        ("scan_key", pa.string()),
        ("n_timepoints", pa.int32()),
        ("n_rois", pa.int32()),
        ("timeseries", pa.list_(pa.float32())),
    ]
)


def scan_of(key):
    return np.random.default_rng(ord(key)).normal(size=(20 + ord(key) % 5, N_ROIS)).astype(np.float32)


def rows_of(keys):
    rows = [
        {"scan_key": key, "n_timepoints": len(scan_of(key)), "n_rois": N_ROIS, "timeseries": scan_of(key).ravel()}
        for key in keys
    ]
    return pa.Table.from_pylist(rows, COLUMNS)


def test_features__are_in_the_order_of_the_keys_whatever_blocks_hold_them():
    blocks = [feature_rows(rows_of(some), [CONNECTIVITY, SERIES]) for some in ("ba", "", "dc")]
    keys = ["c", "a", "d"]
    matrix = assemble(CONNECTIVITY, keys, *blocks)
    assert matrix.dtype == np.float32
    np.testing.assert_allclose(matrix, Connectivity().fit_transform([scan_of(key) for key in keys]), rtol=1e-6)
    series = assemble(SERIES, keys, *blocks)
    assert len(series) == 3
    for found, key in zip(series, keys, strict=True):
        np.testing.assert_array_equal(found, scan_of(key))


def test_scans__that_the_cohort_has_lost_are_named():
    with pytest.raises(ResultsError, match="2 scans are not in the cohort any more: x, y"):
        assemble(CONNECTIVITY, ["a", "x", "y"], feature_rows(rows_of("ab"), [CONNECTIVITY]))


@hypothesis.given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(1, 4))
def test_series__come_back_whatever_their_lengths(lengths, n_rois):
    scans = [np.full((length, n_rois), at, dtype=np.float32) for at, length in enumerate(lengths)]
    held = SeriesList(np.concatenate([scan.ravel() for scan in scans]), np.array(lengths), n_rois)
    for at, scan in enumerate(scans):
        np.testing.assert_array_equal(held[at], scan)
    assert [len(one) for one in held] == lengths

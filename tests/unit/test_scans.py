import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boldstream.errors import ScanError
from boldstream.parcellation.timing import resample, resampled_length
from boldstream.pretrain.scans import describe_file
from boldstream.pretrain.windows import read_series
from small_training import pretrain_config, window_plan

T_R = st.floats(0.3, 4.0)


@settings(deadline=None, max_examples=60)
@given(n=st.integers(2, 60), t_r=T_R, target=T_R)
def test_resampled_length__is_that_of_the_resampled_scan(n, t_r, target):
    assert resampled_length(n, t_r, target) == len(resample(np.ones((n, 1), dtype=np.float32), t_r, target))


@pytest.mark.parametrize(("n", "t_r", "target", "length"), [(100, 2.0, 2.0, 100), (100, 2.0, 1.0, 200), (3, 1, 2, 2)])
def test_resampled_length__of_known_ratios(n, t_r, target, length):
    assert resampled_length(n, t_r, target) == length


def test_resampled_length__of_nearly_the_same_t_r_is_unchanged():
    assert resampled_length(1000, 2.001, 2.0) == 1000


@pytest.mark.parametrize("t_r", [None, 0.0, -1.0, float("nan"), float("inf")])
def test_resampled_length__without_t_r_is_refused(t_r):
    with pytest.raises(ScanError, match=r"t_r_unknown: repetition time is .*give t_r"):
        resampled_length(100, t_r, 2.0)


def test_resampled_length__of_milliseconds_is_refused():
    with pytest.raises(ScanError, match=r"t_r_unknown: t_r 0.0007 s cannot be resampled to 2.0 s"):
        resampled_length(100, 0.0007, 2.0)


@pytest.fixture
def file(tmp_path):
    """Return the URI of a file with five scans in two row groups; of the last, t_r is unknown."""
    rng = np.random.default_rng(0)
    lengths = [20, 15, 16, 40, 40]
    series = [rng.normal(i, 1 + i, size=(n, 6)).astype(np.float32) for i, n in enumerate(lengths)]
    table = pa.table(
        {
            "scan_key": [f"sub-{i}" for i in range(5)],
            "subject": [str(i) for i in range(5)],
            "age": [20.0, None, 22.0, 23.0, 24.0],
            "sex": ["F", "M", None, "male", "f"],
            "t_r": pa.array([2.0, 2.0, 2.0, 1.0, None]),
            "n_timepoints": pa.array(lengths, pa.int32()),
            "n_rois": pa.array([6] * 5, pa.int32()),
            "timeseries": pa.array([values.ravel().tolist() for values in series], pa.list_(pa.float32())),
        }
    )
    pq.write_table(table, tmp_path / "scans.parquet", row_group_size=3)
    return f"file://{tmp_path}/scans.parquet", series


def described(uri, **values):
    return list(describe_file({"id": 0}, uris=[uri], config=pretrain_config(**values)))


def test_describe_file__says_where_scans_lie_and_which_fill_a_window(file):
    rows = described(file[0], scaling="zscore")
    assert [(row["file"], row["group"], row["row"]) for row in rows] == [
        (0, 0, 0), (0, 0, 1), (0, 0, 2), (0, 1, 0), (0, 1, 1)
    ]  # fmt: skip
    assert [row["usable"] for row in rows] == [True, False, True, True, True]
    assert [row["age"] for row in rows] == [20.0, None, 22.0, 23.0, 24.0]
    assert "mean" not in rows[0]


def test_describe_file__counts_timepoints_after_resampling(file):
    assert [row["usable"] for row in described(file[0], scaling="zscore", target_t_r=1.0)] == [True] * 4 + [False]
    assert [row["usable"] for row in described(file[0], scaling="zscore", target_t_r=2.5)] == [
        True, False, False, True, False
    ]  # fmt: skip


def test_describe_file__has_the_moments_that_robust_scaling_needs(file):
    uri, series = file
    for row, values in zip(described(uri, scaling="robust"), series, strict=True):
        np.testing.assert_allclose(row["mean"], values.mean(axis=0, dtype=np.float64))
        np.testing.assert_allclose(row["std"], values.std(axis=0, dtype=np.float64))


@pytest.mark.parametrize("target_t_r", [None, 1.0])
def test_read_series__gives_the_scans_that_are_asked_for(file, target_t_r):
    uri, series = file
    plan = window_plan((3, 2), files=(uri,), target_t_r=target_t_r)
    found = read_series(plan, np.array([1, 3, 2]))
    assert sorted(found) == [1, 2, 3]
    for scan, t_r in ((1, 2.0), (2, 2.0), (3, 1.0)):
        wanted = series[scan] if target_t_r is None else resample(series[scan], t_r, target_t_r)
        np.testing.assert_array_equal(found[scan], wanted)

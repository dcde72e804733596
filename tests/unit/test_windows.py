import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from boldstream.encoders.windows import WindowSpec, cut_windows, to_model_input
from boldstream.errors import ConfigError, ScanError


def scan(n_timepoints, n_rois=3, seed=0):
    return np.random.default_rng(seed).normal(size=(n_timepoints, n_rois)).astype(np.float32)


@given(n=st.integers(1, 80), length=st.integers(1, 40), stride=st.integers(1, 50))
def test_windows__are_the_scan_at_their_starts(n, length, stride):
    series = scan(n)
    spec = WindowSpec(length=length, stride=stride)
    if n < length:
        with pytest.raises(ScanError, match=f"shorter_than_window: {n} timepoints, a window has {length}"):
            cut_windows(series, None, spec)
        return
    windows = cut_windows(series, None, spec)
    assert windows.starts.tolist() == list(range(0, n - length + 1, stride))
    assert (windows.padded, windows.n_timepoints) == (False, n)
    assert windows.values.dtype == np.float32
    for values, start in zip(windows.values, windows.starts, strict=True):
        np.testing.assert_array_equal(values, series[start : start + length])


@given(n=st.integers(2, 19))
def test_windows__padded_are_mirrored_and_flagged(n):
    series = scan(n)
    windows = cut_windows(series, None, WindowSpec(length=20, stride=5, short_scans="pad"))
    assert windows.padded
    assert windows.n_timepoints == n
    assert windows.values.shape == (1, 20, 3)
    np.testing.assert_array_equal(windows.values[0, :n], series)
    np.testing.assert_array_equal(windows.values[0, n], series[n - 2])


def test_windows__of_a_single_timepoint_are_refused():
    with pytest.raises(ScanError, match="shorter_than_window"):
        cut_windows(scan(1), None, WindowSpec(length=20, stride=5, short_scans="pad"))


@pytest.mark.parametrize("t_r", [None, float("nan"), 0.0])
def test_windows__without_t_r_are_refused_when_resampling(t_r):
    with pytest.raises(ScanError, match=r"t_r_unknown: repetition time is .*give t_r"):
        cut_windows(scan(30), t_r, WindowSpec(length=10, stride=5, target_t_r=2.0))


def test_windows__message_names_the_length_before_resampling():
    with pytest.raises(ScanError, match=r"10 timepoints \(30 before resampling to 3.0 s\)"):
        cut_windows(scan(30), 1.0, WindowSpec(length=20, stride=5, target_t_r=3.0))


def test_windows__not_finite_are_refused():
    series = scan(30)
    series[3, 1] = np.nan
    with pytest.raises(ScanError, match="not_finite: 1 values"):
        cut_windows(series, None, WindowSpec(length=10, stride=5))


def test_windows__of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"\(n_timepoints, n_rois\), got shape \(3,\)"):
        cut_windows(np.zeros(3), None, WindowSpec(length=1, stride=1))


@pytest.mark.parametrize("values", [{"length": 0, "stride": 1}, {"length": 5, "stride": 0}])
def test_spec__refuses_zero(values):
    with pytest.raises(ConfigError, match="greater than 0"):
        WindowSpec.from_mapping(values, where="window")


def test_model_input__is_the_transpose():
    windows = scan(20, 3).reshape(2, 10, 3)
    windows.flags.writeable = False
    x = to_model_input(windows)
    assert x.shape == (2, 1, 3, 10)
    assert x.dtype is torch.float32
    assert x.is_contiguous()
    assert x[1, 0, 2, 7] == windows[1, 7, 2]


def test_model_input__refuses_one_window():
    with pytest.raises(ValueError, match=r"\(W, n_timepoints, n_rois\), got shape \(10, 3\)"):
        to_model_input(scan(10))

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from boldstream.encoders.windows import WindowSpec, cut_windows, resample, to_model_input
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


def wave(t_r, seconds, hertz):
    t = np.arange(0, seconds, t_r)
    return t, np.sin(2 * np.pi * hertz * t)[:, None]


@pytest.mark.parametrize(("t_r", "target"), [(0.735, 2.0), (0.72, 0.735), (2.0, 0.72), (3.0, 2.0), (1.66, 2.205)])
def test_resample__keeps_slow_waves(t_r, target):
    _, series = wave(t_r, 400, 0.03)
    out = resample(series, t_r, target)
    t = np.arange(len(out)) * target
    middle = (t > 40) & (t < 360)
    assert abs(len(out) - 400 / target) <= 2
    assert np.abs(out[middle, 0] - np.sin(2 * np.pi * 0.03 * t[middle])).max() < 0.02


def test_resample__removes_what_the_target_cannot_hold():
    _, series = wave(0.5, 400, 0.4)  # the Nyquist frequency of 2 s is 0.25 Hz
    assert np.abs(resample(series, 0.5, 2.0)[20:-20]).max() < 0.02


@given(offset=st.floats(-1e4, 1e4), slope=st.floats(-10, 10))
def test_resample__keeps_offset_and_drift_to_the_ends(offset, slope):
    t = np.arange(100) * 0.735
    out = resample((offset + slope * t)[:, None], 0.735, 2.2)
    expected = offset + slope * np.arange(len(out)) * 2.2
    inside = np.arange(len(out)) * 2.2 <= t[-1]
    np.testing.assert_allclose(out[inside, 0], expected[inside], atol=2e-3 * max(1, abs(offset), abs(slope)) ** 0.9)


def test_resample__leaves_equal_repetition_times_alone():
    series = scan(30)
    np.testing.assert_array_equal(resample(series, 2.0, 2.001), series)


def test_resample__refuses_nonsense():
    with pytest.raises(ValueError, match="target_t_r must be a positive number"):
        resample(scan(30), 2.0, 0.0)
    with pytest.raises(ScanError, match=r"t_r_unknown: .*check the sidecar's unit"):
        resample(scan(30), 1e-5, 2.0)
    with pytest.raises(ScanError, match="too_short: 1 timepoint"):
        resample(scan(1), 1.0, 2.0)


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

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boldstream.encoders.brainjepa.scaling import RoiRobustScaler, WindowZscore
from boldstream.errors import TrainingError


def test_robust__is_median_and_quartiles_of_scan_means():
    rng = np.random.default_rng(0)
    means, stds = rng.normal(100, 10, size=(50, 4)), np.ones((50, 4))
    scaler = RoiRobustScaler().fit(means, stds)
    np.testing.assert_allclose(scaler.median_, np.median(means, axis=0))
    np.testing.assert_allclose(scaler.iqr_, np.percentile(means, 75, axis=0) - np.percentile(means, 25, axis=0))
    windows = rng.normal(size=(2, 10, 4)).astype(np.float32)
    scaled = scaler.transform(windows)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled, (windows - scaler.median_) / scaler.iqr_, rtol=1e-5)


def test_robust__refuses_demeaned_series():
    rng = np.random.default_rng(0)
    means, stds = rng.normal(0, 1e-4, size=(20, 3)), np.full((20, 3), 28.0)
    means[:, 1] = rng.normal(100, 30, size=20)
    with pytest.raises(TrainingError, match=r"in 2 of 3 regions .* \(region 0: .*use scaling: zscore"):
        RoiRobustScaler().fit(means, stds)


def test_robust__refuses_constant_regions():
    means = np.random.default_rng(0).normal(100, 30, size=(20, 3))
    means[:, 2] = 0.0
    with pytest.raises(TrainingError, match=r"in 1 of 3 regions .* \(region 2"):
        RoiRobustScaler().fit(means, np.zeros((20, 3)))


def test_robust__refuses_what_it_cannot_fit():
    with pytest.raises(TrainingError, match="at least 4 scans for its quartiles, got 3"):
        RoiRobustScaler().fit(np.ones((3, 2)), np.ones((3, 2)))
    with pytest.raises(TrainingError, match="NaN or infinite"):
        RoiRobustScaler().fit(np.full((5, 2), np.nan), np.ones((5, 2)))
    with pytest.raises(ValueError, match="both"):
        RoiRobustScaler().fit(np.ones((5, 2)), np.ones((5, 3)))


def test_robust__refuses_another_number_of_regions():
    scaler = RoiRobustScaler.from_statistics([0.0, 0.0], [1.0, 1.0])
    with pytest.raises(ValueError, match="fitted on 2 regions, got 3"):
        scaler.transform(np.zeros((1, 5, 3)))


@pytest.mark.parametrize("iqr", [[1.0, 0.0], [1.0, np.nan]])
def test_robust__refuses_bad_statistics(iqr):
    with pytest.raises(ValueError, match="finite, and iqr positive"):
        RoiRobustScaler.from_statistics([0.0, 0.0], iqr)
    with pytest.raises(ValueError, match=r"are \(n_rois,\)"):
        RoiRobustScaler.from_statistics([0.0], iqr)


@given(offset=st.floats(-1e4, 1e4), scale=st.floats(0.1, 100))
def test_zscore__has_mean_0_and_std_1_whatever_the_unit(offset, scale):
    windows = np.random.default_rng(0).normal(offset, scale, size=(2, 30, 3)).astype(np.float32)
    scaled = WindowZscore().fit().transform(windows)
    np.testing.assert_allclose(scaled.mean(axis=1), 0, atol=1e-5)
    np.testing.assert_allclose(scaled.std(axis=1), 1, atol=1e-4)


@pytest.mark.parametrize("value", [0.0, 0.1, -12345.678])
def test_zscore__makes_constant_regions_zero(value):
    windows = np.random.default_rng(0).normal(size=(2, 30, 3)).astype(np.float32)
    windows[1, :, 2] = value
    scaled = WindowZscore().transform(windows)
    assert not scaled[1, :, 2].any()
    assert scaled[0, :, 2].any()


def test_zscore__of_a_window_does_not_depend_on_others():
    windows = np.random.default_rng(0).normal(size=(4, 30, 3)).astype(np.float32)
    np.testing.assert_array_equal(WindowZscore().transform(windows)[2:3], WindowZscore().transform(windows[2:3]))

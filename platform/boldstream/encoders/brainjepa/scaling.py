"""Scaling of windows before the encoder; fitted on the training cohort, it goes with the model."""

from typing import Literal, Protocol, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boldstream.errors import TrainingError

ScalingKind = Literal["robust", "zscore"]

SMALLEST_IQR = 0.1
"""Least interquartile range of scan means, relative to the temporal standard deviation, that can scale.

Below it the scaled series would have a temporal standard deviation above 10: the series were demeaned, and
the range of their means is rounding."""

FLAT = 1e-6
"""A region is constant if its standard deviation is below this part of its largest value: float32 rounds."""


class Scaler(Protocol):
    """What a fitted scaling does to windows."""

    @property
    def kind(self) -> ScalingKind:
        """Name of the scaling in configurations."""

    def transform(self, windows: NDArray[np.floating]) -> NDArray[np.float32]:
        """Scale windows of shape (..., n_timepoints, n_rois)."""


class RoiRobustScaler:
    """Subtract each region's median scan mean and divide by the interquartile range of its scan means.

    The reference's pretraining scaling: fitted over scans, not timepoints, so the differences between scans
    in a region's level stay in the data. It needs series that still have their mean.

    Attributes
    ----------
    median_, iqr_ : array, shape (n_rois,), float64
        Learned by `fit`, in the series' unit.
    """

    kind: ScalingKind = "robust"

    def fit(self, scan_means: ArrayLike, scan_stds: ArrayLike) -> Self:
        """Learn median and interquartile range of every region.

        Parameters
        ----------
        scan_means, scan_stds : array, shape (n_scans, n_rois)
            Temporal mean and standard deviation of every training scan.

        Raises
        ------
        TrainingError
            If there are fewer than four scans, a value is not finite, or in some region the range of the
            means is below a tenth (`SMALLEST_IQR`) of the median temporal standard deviation.
        """
        means = np.asarray(scan_means, dtype=np.float64)
        stds = np.asarray(scan_stds, dtype=np.float64)
        if means.ndim != 2 or means.shape != stds.shape:
            raise ValueError(f"means and stds are (n_scans, n_rois) both, got {means.shape} and {stds.shape}")
        if len(means) < 4:
            raise TrainingError(
                f"scaling: robust needs at least 4 scans for its quartiles, got {len(means)}; use scaling: zscore"
            )
        if not (np.isfinite(means).all() and np.isfinite(stds).all()):
            raise TrainingError("scaling: robust got means or standard deviations that are NaN or infinite")
        low, median, high = np.percentile(means, [25, 50, 75], axis=0)
        iqr = high - low
        spread = np.median(stds, axis=0)
        poor = np.flatnonzero(iqr <= SMALLEST_IQR * spread)
        if len(poor):
            first = poor[0]
            raise TrainingError(
                f"scaling: robust does not fit this cohort: in {len(poor)} of {means.shape[1]} regions "
                f"the scans' means hardly differ (region {first}: interquartile range {iqr[first]:.3g}, "
                f"temporal standard deviation {spread[first]:.3g}), as in demeaned series; "
                "use scaling: zscore"
            )
        self.median_ = median
        self.iqr_ = iqr
        return self

    @classmethod
    def from_statistics(cls, median: ArrayLike, iqr: ArrayLike) -> Self:
        """Return a fitted scaler from its statistics, both of shape (n_rois,)."""
        scaler = cls()
        scaler.median_ = np.asarray(median, dtype=np.float64)
        scaler.iqr_ = np.asarray(iqr, dtype=np.float64)
        if scaler.median_.ndim != 1 or scaler.median_.shape != scaler.iqr_.shape:
            raise ValueError(f"median and iqr are (n_rois,), got {scaler.median_.shape} and {scaler.iqr_.shape}")
        if not (np.isfinite(scaler.median_).all() and np.isfinite(scaler.iqr_).all() and (scaler.iqr_ > 0).all()):
            raise ValueError("median and iqr must be finite, and iqr positive")
        return scaler

    def transform(self, windows: NDArray[np.floating]) -> NDArray[np.float32]:
        """Scale values of shape (..., n_rois)."""
        if windows.shape[-1] != len(self.median_):
            raise ValueError(f"scaler was fitted on {len(self.median_)} regions, got {windows.shape[-1]}")
        return ((windows - self.median_) / self.iqr_).astype(np.float32)


class WindowZscore:
    """Standardise each region of each window over time (population standard deviation); nothing is fitted.

    A region that is constant in a window becomes 0 there.
    """

    kind: ScalingKind = "zscore"

    def fit(self, scan_means: ArrayLike | None = None, scan_stds: ArrayLike | None = None) -> Self:
        """Learn nothing; here for the estimators' contract."""
        return self

    def transform(self, windows: NDArray[np.floating]) -> NDArray[np.float32]:
        """Scale windows of shape (..., n_timepoints, n_rois)."""
        values = np.asarray(windows, dtype=np.float64)
        centred = values - values.mean(axis=-2, keepdims=True)
        std = np.sqrt(np.square(centred).mean(axis=-2, keepdims=True))
        flat = std <= FLAT * np.abs(values).max(axis=-2, keepdims=True)
        return np.where(flat, 0.0, centred / np.where(flat, 1.0, std)).astype(np.float32)

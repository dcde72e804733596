"""How far scans are from those that a model was trained on: each scan by itself, and every region over all scans."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from boldstream.analysis.roi_statistics import RoiStatistics
from boldstream.parcellation.gradients import functional_connectivity

EXPECTED = 0.1
"""Share of training scans outside the 5th to 95th percentile."""
OF_REGIONS = ("median", "iqr", "connectivity")
"""Differences that `CohortShift` has of every region."""


@dataclass(frozen=True)
class ScanShift:
    """One scan beside the training scans.

    Attributes
    ----------
    level, spread : array, shape (n_rois,), int8
        -1, 0, 1: a region's temporal mean (standard deviation) is below, within, above the range of nine in ten
        training scans.
    similarity : float
        Correlation of its connectivity with the training scans' mean connectivity, over pairs of regions.
    """

    level: NDArray[np.int8]
    spread: NDArray[np.int8]
    similarity: float

    @property
    def outside(self) -> float:
        """Share of regions whose standard deviation is outside, the means left out: models centre windows."""
        return float((self.spread != 0).mean())


@dataclass(frozen=True)
class RegionShift:
    """How many scans have a region outside the range of nine in ten training scans.

    Attributes
    ----------
    share : array, shape (n_rois,)
        Of the scans; a tenth is expected.
    direction : array, shape (n_rois,)
        Share above less share below.
    off : array, shape (n_rois,), bool
        Where `share` is more than chance allows.
    """

    share: NDArray[np.float64]
    direction: NDArray[np.float64]
    off: NDArray[np.bool_]


@dataclass(frozen=True)
class CohortShift:
    """How large the differences of two cohorts are; NaN where a region never varies.

    Attributes
    ----------
    median : array, shape (n_rois,)
        Median over all timepoints less the training scans', in their interquartile ranges.
    iqr : array, shape (n_rois,)
        Interquartile range over all timepoints, as a multiple of the training scans'.
    connectivity : array, shape (n_rois,)
        Mean over the other regions of the absolute difference of mean correlations.
    difference : float
        Mean absolute difference of mean correlations, over pairs of regions.
    similarity : float
        Correlation of the two mean connectivities, over pairs of regions.
    """

    median: NDArray[np.float64]
    iqr: NDArray[np.float64]
    connectivity: NDArray[np.float64]
    difference: float
    similarity: float

    def of_region(self, at: int) -> dict[str, float]:
        """Return how large one region's differences are."""
        return {name: float(getattr(self, name)[at]) for name in OF_REGIONS}


def compare_cohorts(new: RoiStatistics, trained: RoiStatistics) -> CohortShift:
    """Put the statistics of a cohort beside those of the training scans."""
    with np.errstate(invalid="ignore", divide="ignore"):
        iqr, own = (one.quantiles[3] - one.quantiles[1] for one in (trained, new))
        median = np.where(iqr > 0, (new.quantiles[2] - trained.quantiles[2]) / iqr, np.nan)
        ratio = np.where(iqr > 0, own / iqr, np.nan)
        r, other = (np.tanh(one.z_sum / one.z_count) for one in (new, trained))
        away = np.abs(r - other)
        pairs = np.isfinite(away) & ~np.eye(len(away), dtype=bool)
        by_region = np.where(pairs, away, 0.0).sum(axis=1) / pairs.sum(axis=1)
    there = np.triu(pairs)
    difference = float(away[there].mean()) if there.any() else float("nan")
    return CohortShift(median, ratio, by_region, difference, _similarity(r[there], other[there]))


def _similarity(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Return Pearson's correlation of two rows of finite values; NaN where one of them does not vary."""
    varies = len(first) > 1 and first.std() > 0 and second.std() > 0
    return float(np.corrcoef(first, second)[0, 1]) if varies else float("nan")


def compare_scan(timeseries: NDArray[np.floating], trained: RoiStatistics) -> ScanShift:
    """Put one scan, shape (n_timepoints, n_rois), beside the training scans."""
    x = np.asarray(timeseries, dtype=np.float64)
    upper = np.triu_indices(x.shape[1], 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_z = (trained.z_sum / trained.z_count)[upper]
    own = np.arctanh(np.clip(functional_connectivity(x)[upper], -0.999999, 0.999999))
    there = np.isfinite(mean_z)
    similarity = _similarity(own[there], mean_z[there])
    return ScanShift(
        _side(x.mean(axis=0), trained.scan_mean_quantiles, trained.scan_mean_error),
        _side(x.std(axis=0), trained.scan_sd_quantiles, trained.scan_sd_error),
        0.0 if np.isnan(similarity) else similarity,
    )


def _side(values: NDArray[np.float64], quantiles: NDArray[np.float64], error: NDArray[np.float64]) -> NDArray[np.int8]:
    """Compare with the outermost quantiles; what is within their error is not outside.

    Without that, a value that many scans share (0, of regions that their images do not cover) would be.
    """
    reach = error * (1 + 1e-9)
    return (values > quantiles[-1] + reach).astype(np.int8) - (values < quantiles[0] - reach).astype(np.int8)


def compare_regions(sides: NDArray[np.int8], false_alarms: float, n_trained: int) -> RegionShift:
    """Tell which regions are outside in more scans than chance allows.

    The range is between two ranks of `n_trained` values, so the share of the population outside is itself random:
    Beta(0.1 n + 1, 0.9 n), whatever the distribution (Wilks 1941, Ann. Math. Stat. 12:91), and the count of scans
    outside is beta-binomial. Scans count as independent, and all regions share the chance of a false alarm
    (Bonferroni).

    Parameters
    ----------
    sides : array, shape (n_scans, n_rois), int8
    false_alarms : float
        Chance that at least one region is named in scans like the training scans; no more than that.
    n_trained : int
        Scans that the range was taken from.
    """
    from scipy import stats

    n_scans, n_rois = sides.shape
    outside = (sides != 0).sum(axis=0)
    p = stats.betabinom.sf(outside - 1, n_scans, EXPECTED * n_trained + 1, (1 - EXPECTED) * n_trained)
    return RegionShift(outside / n_scans, sides.mean(axis=0), np.asarray(p < false_alarms / n_rois))

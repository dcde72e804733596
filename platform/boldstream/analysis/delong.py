"""DeLong's test of two areas under the ROC curve of the same people."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from boldstream.analysis.intervals import Estimate
from boldstream.analysis.metrics import as_target


class DeLong(NamedTuple):
    """Two correlated areas under the ROC curve.

    Attributes
    ----------
    first, second, difference : Estimate
        The areas, and the first minus the second, with 95 % intervals of the normal approximation.
    p_value : float
        Two-sided; 1 where the difference cannot vary and is 0.
    """

    first: Estimate
    second: Estimate
    difference: Estimate
    p_value: float


def delong_test(y: ArrayLike, first: ArrayLike, second: ArrayLike, folds: ArrayLike | None = None) -> DeLong:
    """Compare two models' areas under the ROC curve on the same rows.

    Out of fold, the rows of a fold have one model and its areas are independent of other folds', given the models; the
    area is then the mean of the folds', weighted by their pairs of rows, as `metrics.auc` has it. That models of
    different folds share training rows is not in the variance, nor that a subject may have several rows: give one row
    a subject.

    Parameters
    ----------
    y : array, shape (n,)
        Two classes, the second in sorted order is the positive one.
    first, second : array, shape (n,)
        Decision values.
    folds : array of int, shape (n,), optional
        Of the same fold set for both.

    Raises
    ------
    ValueError
        If shapes do not fit, values are not finite, or no fold has two rows of both classes.

    References
    ----------
    DeLong, DeLong & Clarke-Pearson (1988), Biometrics 44:837; midranks as in Sun & Xu (2014), IEEE Signal Process.
    Lett. 21:1389.
    """
    decisions = np.stack([np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)])
    target = as_target(y, "logistic", decisions.shape[1]) == 1
    if not np.isfinite(decisions).all():
        raise ValueError("decision values are not all finite")
    labels = np.zeros(len(target), dtype=np.int64) if folds is None else np.asarray(folds)
    areas, covariance, pairs = np.zeros(2), np.zeros((2, 2)), 0
    for label in np.unique(labels):
        rows = labels == label
        positive, negative = decisions[:, rows & target], decisions[:, rows & ~target]
        if min(positive.shape[1], negative.shape[1]) < 2:
            continue
        weight = positive.shape[1] * negative.shape[1]
        found, of_fold = _components(positive, negative)
        areas, covariance, pairs = areas + weight * found, covariance + weight**2 * of_fold, pairs + weight
    if pairs == 0:
        raise ValueError("no fold has two rows of both classes, so areas have no variance")
    areas, covariance = areas / pairs, covariance / pairs**2
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    difference = _normal(areas[0] - areas[1], variance)
    spread = np.sqrt(max(variance, 0.0))
    p = float(2 * stats.norm.sf(abs(difference.value) / spread)) if spread > 0 else float(difference.value == 0)
    return DeLong(_normal(areas[0], covariance[0, 0]), _normal(areas[1], covariance[1, 1]), difference, p)


def _components(positive: NDArray[np.float64], negative: NDArray[np.float64]) -> tuple[NDArray, NDArray]:
    """Return the two areas and their covariance, from every row's share of rows of the other class that it beats."""
    m, n = positive.shape[1], negative.shape[1]
    together = stats.rankdata(np.concatenate([positive, negative], axis=1), axis=1)
    beats = (together[:, :m] - stats.rankdata(positive, axis=1)) / n
    beaten = 1 - (together[:, m:] - stats.rankdata(negative, axis=1)) / m
    return beats.mean(axis=1), np.cov(beats) / m + np.cov(beaten) / n


def _normal(value: float, variance: float) -> Estimate:
    reach = stats.norm.ppf(0.975) * np.sqrt(max(float(variance), 0.0))
    return Estimate(float(value), float(value - reach), float(value + reach))

"""How sure a score is: bootstrap intervals over subjects, of one model and of the difference between two."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Method = Literal["percentile", "bca"]
LEVELS = np.array([0.025, 0.975])


class Estimate(NamedTuple):
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of zero."""
        return self.low > 0 or self.high < 0


def bootstrap_ci(
    statistic: Callable[..., float],
    *arrays: ArrayLike,
    n: int = 2000,
    seed: int = 0,
    method: Method = "percentile",
    units: ArrayLike | None = None,
) -> Estimate:
    """Return a statistic of arrays with its bootstrap interval, 95 %.

    Units (subjects, or families) are drawn with replacement, all their rows and the same ones from every array;
    predictions are not fitted anew. So the interval is about other subjects of these groups under these probes, not
    about other groups: with few, uneven sites, drawing whole sites gives intervals that depend on which large site is
    drawn. Resamples in which the statistic is NaN (a class is missing) are left out.

    Parameters
    ----------
    statistic : callable
        Takes the arrays, gives a float.
    arrays : array, shape (n_rows, ...)
    n, seed : int
        Number and seed of the resamples.
    method : {"percentile", "bca"}
        Percentiles of the resamples, or percentiles corrected for bias and for a spread that changes with the value
        (BCa), which asks for the statistic without each unit too.
    units : array, shape (n_rows,), optional
        Whose rows are drawn together; none: every row is a unit.

    Raises
    ------
    ValueError
        If arrays differ in length or have fewer than two rows, or the statistic is NaN in more than half of the
        resamples.

    References
    ----------
    Efron & Tibshirani (1993), An Introduction to the Bootstrap, chapters 13 and 14. Efron (1987), J. Am. Stat. Assoc.
    82:171.
    """
    rows = [np.asarray(array) for array in arrays]
    lengths = sorted({len(row) for row in rows})
    if len(lengths) != 1 or lengths[0] < 2:
        raise ValueError(f"a bootstrap needs arrays of one length, at least 2 rows, got lengths {lengths}")
    members = _members(units, lengths[0])

    def of(picked: NDArray[np.int64]) -> float:
        return statistic(*(row[picked] for row in rows))

    rng = np.random.default_rng(seed)
    count = lengths[0] if members is None else len(members)
    drawn = np.array([of(_rows_of(members, rng.integers(0, count, count))) for _ in range(n)])
    if len(kept := drawn[~np.isnan(drawn)]) <= n / 2:
        raise ValueError(f"the statistic is NaN in {n - len(kept)} of {n} resamples; there are too few rows of a class")
    value = float(statistic(*rows))
    levels = LEVELS
    if method == "bca":
        without = np.array([of(_rows_of(members, np.delete(np.arange(count), left))) for left in range(count)])
        levels = _bca_levels(value, kept, without[~np.isnan(without)])
    low, high = np.percentile(kept, 100 * levels)
    return Estimate(value, float(low), float(high))


def paired_difference_ci(
    statistic: Callable[..., float],
    first: tuple[ArrayLike, ...],
    second: tuple[ArrayLike, ...],
    *,
    n: int = 2000,
    seed: int = 0,
    method: Method = "percentile",
    units: ArrayLike | None = None,
) -> Estimate:
    """Return the difference of a statistic between two models on the same rows, with its bootstrap interval.

    Parameters
    ----------
    statistic : callable
        Takes the arrays of one model, gives a float.
    first, second : tuple of array, shape (n_rows, ...)
        The models' arrays, e.g. ``(y, predicted, null_predicted)``, rows in the same order.
    n, seed, method, units
        As `bootstrap_ci` takes them.

    Raises
    ------
    ValueError
        As `bootstrap_ci`.
    """

    def difference(*arrays: NDArray) -> float:
        return statistic(*arrays[: len(first)]) - statistic(*arrays[len(first) :])

    return bootstrap_ci(difference, *first, *second, n=n, seed=seed, method=method, units=units)


def _members(units: ArrayLike | None, n_rows: int) -> list[NDArray[np.int64]] | None:
    """Return the rows of every unit; None where every row is one."""
    if units is None:
        return None
    names = np.asarray(units)
    if names.shape != (n_rows,):
        raise ValueError(f"units have shape {names.shape}, there are {n_rows} rows")
    of = np.unique(names, return_inverse=True)[1]
    if of.max() < 1:
        raise ValueError("a bootstrap needs at least 2 units")
    return np.split(np.argsort(of, kind="stable"), np.cumsum(np.bincount(of))[:-1])


def _rows_of(members: list[NDArray[np.int64]] | None, picked: NDArray[np.int64]) -> NDArray[np.int64]:
    return picked if members is None else np.concatenate([members[at] for at in picked])


def _bca_levels(value: float, drawn: NDArray[np.float64], without: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the resamples' quantiles that a BCa interval ends at; the plain ones where nothing varies."""
    below = ((drawn < value).mean() + (drawn <= value).mean()) / 2
    away = without.mean() - without
    spread = float(np.square(away).sum())
    if not 0 < below < 1 or spread == 0:
        return LEVELS
    bias = stats.norm.ppf(below)
    acceleration = np.power(away, 3).sum() / (6 * spread**1.5)
    z = bias + stats.norm.ppf(LEVELS)
    return np.asarray(stats.norm.cdf(bias + z / (1 - acceleration * z)))

"""Do predictions mean what they say? Calibration of numbers and of probabilities, and curves that mend it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.linear_model import LogisticRegression

from boldstream.analysis.metrics import indicators

N_BINS = 10
"""Bins of equal counts of a reliability curve."""
LEAST = 1e-6
"""Probabilities are kept so far from 0 and 1, where their log odds end."""


class Calibration(NamedTuple):
    """How predictions agree with what was seen, apart from who is ranked above whom.

    Attributes
    ----------
    in_the_large : float
        Mean of what was seen less mean of what was predicted; 0 is right. Of several classes, how much of all
        probability is with classes that have it too often, 0 to 1.
    slope, intercept : float
        Of what was seen on what was predicted (classes: of log odds); 1 and 0 are right, a slope below 1 says that
        predictions are too extreme. NaN where predictions do not vary, or tell classes without a mistake.
    error : float
        Mean over bins of the distance between share predicted and share seen; NaN for numbers.

    Of several classes, slope, intercept and error are means over classes, each against the rest.
    """

    in_the_large: float
    slope: float
    intercept: float
    error: float


class ReliabilityCurve(NamedTuple):
    """Probability predicted and share seen, a bin each, and its rows.

    Attributes
    ----------
    predicted, seen : array, shape (n_bins,)
    n_rows : array of int, shape (n_bins,)
    """

    predicted: NDArray[np.float64]
    seen: NDArray[np.float64]
    n_rows: NDArray[np.int64]


def calibration_of_numbers(y: ArrayLike, predicted: ArrayLike) -> Calibration:
    """Return how predicted numbers agree with a target.

    Parameters
    ----------
    y, predicted : array, shape (n,)

    Raises
    ------
    ValueError
        If there are fewer than two rows, or shapes differ.
    """
    truth, guess = _pair(y, predicted)
    large = float(truth.mean() - guess.mean())
    if np.ptp(guess) == 0:
        return Calibration(large, float("nan"), float("nan"), float("nan"))
    centred = guess - guess.mean()
    slope = float(centred @ (truth - truth.mean()) / (centred @ centred))
    return Calibration(large, slope, float(truth.mean() - slope * guess.mean()), float("nan"))


def calibration_of_classes(y: ArrayLike, probability: ArrayLike, *, n_bins: int = N_BINS) -> Calibration:
    """Return how probabilities of the second class agree with the classes.

    Parameters
    ----------
    y : array, shape (n,)
        0 and 1.
    probability : array, shape (n,)
    n_bins : int

    Raises
    ------
    ValueError
        If there are fewer than two rows, or shapes differ.

    References
    ----------
    Cox (1958), Biometrika 45:562; Van Calster et al. (2019), BMC Med. 17:230; Naeini et al. (2015), AAAI.
    """
    truth, guess = _pair(y, probability)
    curve = reliability_curve(truth, guess, n_bins=n_bins)
    error = float(np.abs(curve.predicted - curve.seen) @ curve.n_rows / curve.n_rows.sum())
    large, odds = float(truth.mean() - guess.mean()), log_odds(guess)
    slope = intercept = float("nan")
    if np.ptp(odds) > 0 and not _is_separated(truth, odds):
        model = LogisticRegression(C=np.inf, max_iter=10_000).fit(odds[:, None], truth)
        slope, intercept = float(model.coef_[0, 0]), float(model.intercept_[0])
    return Calibration(large, slope, intercept, error)


def calibration_of_several(codes: ArrayLike, probability: ArrayLike, *, n_bins: int = N_BINS) -> Calibration:
    """Return how probabilities of several classes agree with the classes: `calibration_of_classes` of each.

    Parameters
    ----------
    codes : array, shape (n,)
        0 to n_classes - 1.
    probability : array, shape (n, n_classes)
    n_bins : int
    """
    guess = np.asarray(probability, dtype=np.float64)
    wanted = indicators(codes, guess.shape[1])
    each = [calibration_of_classes(y, p, n_bins=n_bins) for y, p in zip(wanted.T, guess.T, strict=True)]
    slope, intercept, error = (float(np.mean([one[at] for one in each])) for at in (1, 2, 3))
    return Calibration(float(np.abs([one.in_the_large for one in each]).sum() / 2), slope, intercept, error)


def reliability_curve(y: ArrayLike, probability: ArrayLike, *, n_bins: int = N_BINS) -> ReliabilityCurve:
    """Return what is seen where so much was predicted, in bins of equal counts; equal probabilities share a bin."""
    truth, guess = _pair(y, probability)
    edges = np.unique(np.quantile(guess, np.arange(1, n_bins) / n_bins))
    of = np.searchsorted(edges, guess, side="left")
    bins, at = np.unique(of, return_inverse=True)
    count = np.bincount(at)
    predicted, seen = (np.bincount(at, weights=values, minlength=len(bins)) / count for values in (guess, truth))
    return ReliabilityCurve(predicted, seen, count.astype(np.int64))


def log_odds(probability: ArrayLike) -> NDArray[np.float64]:
    """Return the log odds of probabilities, none of them infinite."""
    p = np.clip(np.asarray(probability, dtype=np.float64), LEAST, 1 - LEAST)
    return np.log(p / (1 - p))


def fit_line(predicted: ArrayLike, y: ArrayLike) -> tuple[float, float]:
    """Return slope and intercept of a target on predictions of it; slope 1 where they do not vary."""
    told = calibration_of_numbers(y, predicted)
    return (1.0, told.in_the_large) if np.isnan(told.slope) else (told.slope, told.intercept)


def fit_curve(decision: ArrayLike, y: ArrayLike) -> LogisticRegression:
    """Fit the logistic curve from decision values to classes, with Platt's targets, which lie a little inside 0 and 1.

    With these the curve stays finite where the classes are told without a mistake.

    Parameters
    ----------
    decision : array, shape (n,)
    y : array, shape (n,)
        0 and 1, both there.

    References
    ----------
    Platt (1999), Probabilistic outputs for support vector machines.
    """
    truth, values = _pair(y, decision)
    n_positive, n_negative = truth.sum(), (1 - truth).sum()
    wanted = np.where(truth == 1, (n_positive + 1) / (n_positive + 2), 1 / (n_negative + 2))
    rows, classes = np.tile(values, 2)[:, None], np.repeat([1, 0], len(truth))
    weights = np.concatenate([wanted, 1 - wanted])
    return LogisticRegression(C=np.inf, max_iter=10_000).fit(rows, classes, sample_weight=weights)


def fit_curves(decisions: ArrayLike, codes: ArrayLike) -> list[LogisticRegression]:
    """Fit a curve of each of several classes against the rest (`fit_curve`).

    Parameters
    ----------
    decisions : array, shape (n, n_classes)
    codes : array, shape (n,)
        0 to n_classes - 1, all there.
    """
    columns = np.asarray(decisions, dtype=np.float64)
    wanted = indicators(codes, columns.shape[1])
    return [fit_curve(columns[:, label], wanted[:, label]) for label in range(columns.shape[1])]


def curves_of_classes(curves: Sequence[LogisticRegression], decisions: ArrayLike) -> NDArray[np.float64]:
    """Return several classes' probabilities by `fit_curves`, made to sum to 1, shape (n, n_classes)."""
    columns = np.asarray(decisions, dtype=np.float64)
    found = [curve.predict_proba(columns[:, [label]])[:, 1] for label, curve in enumerate(curves)]
    return np.asarray(np.stack(found, axis=1) / np.sum(found, axis=0)[:, None])


def _is_separated(y: NDArray[np.float64], values: NDArray[np.float64]) -> bool:
    """Say whether a threshold parts the classes, or there is one only: then no logistic curve is the best."""
    one, other = values[y == 1], values[y == 0]
    return not len(one) or not len(other) or one.min() >= other.max() or one.max() <= other.min()


def _pair(y: ArrayLike, predicted: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    truth, guess = np.asarray(y, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    if truth.shape != guess.shape or truth.ndim != 1 or len(truth) < 2:
        raise ValueError(f"calibration needs two rows of one length, at least 2 long, got {truth.shape}, {guess.shape}")
    return truth, guess

"""Are new vectors like those that were there before? One test over all dimensions, with a stated false-alarm rate."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boldstream.analysis.quality import finite_matrix

N_PERMUTATIONS = 999
FEWEST = 5
"""Subjects on either side below which nothing is tested: with four, no permutation test reaches 1 %."""
NORM = "length"


@dataclass(frozen=True)
class Drift:
    """How new subjects' vectors differ from known subjects'.

    Attributes
    ----------
    n_known, n_new : int
        Subjects.
    p_value : float
        Of the largest deviation in any feature, in level or spread: valid for all of them together.
    shift : array, shape (d + 1,)
        Difference of means of every dimension, and of the vectors' length (last), in standard deviations of the known.
    spread : array, shape (d + 1,)
        Difference of the mean absolute deviations from the median, in the same unit.
    """

    n_known: int
    n_new: int
    p_value: float
    shift: NDArray[np.float64]
    spread: NDArray[np.float64]

    @property
    def largest(self) -> float:
        """The largest difference, of level or spread, in standard deviations."""
        return float(max(np.abs(self.shift).max(), np.abs(self.spread).max()))

    @property
    def where(self) -> str:
        """The feature that differs most: ``dimension 17``, or ``length``."""
        place = int(np.maximum(np.abs(self.shift), np.abs(self.spread)).argmax())
        return NORM if place == len(self.shift) - 1 else f"dimension {place}"


def drift(
    known: ArrayLike,
    new: ArrayLike,
    *,
    known_subjects: ArrayLike,
    new_subjects: ArrayLike,
    n_permutations: int = N_PERMUTATIONS,
    seed: int = 0,
) -> Drift | None:
    """Compare new vectors with known ones by a permutation test over subjects.

    A subject counts once, by the mean of its vectors and of their lengths. Every dimension and the length are looked
    at for level (difference of means) and spread (difference of mean absolute deviations from the common median), each
    divided by its standard error; the largest of all is compared with what permuting subjects between the two sides
    gives. If new subjects are drawn as the known ones were, the p-value is below ``a`` with probability ``a`` at most,
    whatever the number of dimensions and however they correlate (Westfall & Young).

    Parameters
    ----------
    known, new : array, shape (n_known_rows, d) and (n_new_rows, d)
    known_subjects, new_subjects : array of str
        Of each row. New rows of known subjects count as new subjects of their own.
    n_permutations, seed : int

    Returns
    -------
    Drift or None
        None where either side has fewer than `FEWEST` subjects.

    Raises
    ------
    ValueError
        If the matrices do not fit, or hold values that are not finite.

    References
    ----------
    Westfall & Young (1993), Resampling-based multiple testing, Wiley; Phipson & Smyth (2010), Stat. Appl. Genet. Mol.
    Biol. 9:39, for the p-value; Brown & Forsythe (1974), J. Am. Stat. Assoc. 69:364, for spread.
    """
    first, second = (_by_subject(x, s) for x, s in ((known, known_subjects), (new, new_subjects)))
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"vectors have {first.shape[1] - 1} and {second.shape[1] - 1} dimensions")
    n_known, n_new = len(first), len(second)
    if min(n_known, n_new) < FEWEST:
        return None
    values = _features(np.concatenate([first, second]))
    observed = np.zeros((1, n_known + n_new), dtype=bool)
    observed[0, n_known:] = True
    rng = np.random.default_rng(seed)
    permuted = np.stack([rng.permutation(observed[0]) for _ in range(n_permutations)])
    largest = _largest(values, np.concatenate([observed, permuted]))
    shift, spread = _in_sd(first, second)
    p_value = (1 + (largest[1:] >= largest[0] * (1 - 1e-12)).sum()) / (n_permutations + 1)
    return Drift(n_known, n_new, float(p_value), shift, spread)


def _features(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the columns, and beside them their absolute deviations from the median, all with mean 0."""
    values = np.concatenate([rows, np.abs(rows - np.median(rows, axis=0))], axis=1)
    values -= values.mean(axis=0)
    scale = values.std(axis=0)
    # a constant feature says nothing; rounding must not make it the loudest
    values[:, scale <= 1e-9 * max(float(scale.max()), 1e-300)] = 0.0
    return values


def _in_sd(known: NDArray[np.float64], new: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the differences of means and of mean absolute deviations, in standard deviations of the known."""
    unit = known.std(axis=0)
    unit = np.where(unit > 0, unit, np.inf)
    middle = np.median(np.concatenate([known, new]), axis=0)
    away = [np.abs(side - middle).mean(axis=0) for side in (known, new)]
    return (new.mean(axis=0) - known.mean(axis=0)) / unit, (away[1] - away[0]) / unit


def _largest(values: NDArray[np.float64], sides: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the largest |t| over the columns, for every way of choosing the second side."""
    n_second = int(sides[0].sum())
    n_first = len(values) - n_second
    second = sides.astype(np.float64) @ values / n_second
    first = -second * n_second / n_first  # columns have mean 0
    within = np.square(values).mean(axis=0) * len(values) - n_first * first**2 - n_second * second**2
    error = np.sqrt(np.maximum(within, 0) / (len(values) - 2) * (1 / n_first + 1 / n_second))
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(error > 0, np.abs(second - first) / error, 0.0)
    return np.asarray(t.max(axis=1))


def _by_subject(vectors: ArrayLike, subjects: ArrayLike) -> NDArray[np.float64]:
    """Return a row a subject: the mean of its vectors and of their lengths."""
    x = finite_matrix(vectors, "vectors")
    names, place = np.unique(np.asarray(subjects, dtype=str), return_inverse=True)
    if len(place) != len(x):
        raise ValueError(f"{len(x)} vectors of {len(place)} subjects' names")
    rows = np.column_stack([x, np.linalg.norm(x, axis=1)])
    sums = np.zeros((len(names), rows.shape[1]))
    np.add.at(sums, place, rows)
    return sums / np.bincount(place)[:, None]

"""Is an embedding worth keeping? Identification of subjects, effective rank, collapse; no labels needed."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Metric = Literal["correlation", "cosine"]


@dataclass(frozen=True)
class Identification:
    """How well subjects are found again between two sets of vectors.

    Attributes
    ----------
    n : int
        Subjects.
    accuracy : float
        Share found again, mean of both directions.
    correct : tuple of int
        Subjects found: first in second, second in first.
    chance : float
        1 / n.
    chance_95 : float
        95th percentile of one direction's accuracy by chance, Binomial(n, 1 / n) / n, exact.
    p_value : float
        Probability of the worse direction's count or more by chance.
    self_similarity, other_similarity : float
        Mean similarity of a subject's two vectors, and of two subjects'.
    i_diff : float
        100 * (self - other), the differential identifiability of Amico & Goñi (2018).
    """

    n: int
    accuracy: float
    correct: tuple[int, int]
    chance: float
    chance_95: float
    p_value: float
    self_similarity: float
    other_similarity: float
    i_diff: float


def identification(first: ArrayLike, second: ArrayLike, metric: Metric = "correlation") -> Identification:
    """Find every subject of one set in the other by the most similar vector.

    Row i of both belongs to the same subject. A tie counts as not found: collapsed embeddings find nobody.

    Parameters
    ----------
    first, second : array, shape (n_subjects, n_dims)
        Two sessions, runs or halves.
    metric : {"correlation", "cosine"}
        Pearson's over dimensions, or the cosine.

    Raises
    ------
    ValueError
        If shapes differ, there are fewer than two subjects, values are not finite, or a vector has no
        direction (constant, for correlation).

    References
    ----------
    Finn et al. (2015), Nat. Neurosci. 18:1664; Amico & Goñi (2018), Sci. Rep. 8:8254.
    """
    from scipy import stats

    similarity = _similarity(first, second, metric)
    found = _found(similarity)
    n, own = len(similarity), np.diagonal(similarity)
    correct = (int(found[:, 0].sum()), int(found[:, 1].sum()))
    other = float((similarity.sum() - own.sum()) / (n * (n - 1)))
    return Identification(
        n=n,
        accuracy=sum(correct) / (2 * n),
        correct=correct,
        chance=1 / n,
        chance_95=float(stats.binom.ppf(0.95, n, 1 / n)) / n,
        p_value=float(stats.binom.sf(min(correct) - 1, n, 1 / n)),
        self_similarity=float(own.mean()),
        other_similarity=other,
        i_diff=100 * (float(own.mean()) - other),
    )


def found_again(first: ArrayLike, second: ArrayLike, metric: Metric = "correlation") -> NDArray[np.bool_]:
    """Return whom `identification` finds: first in second and second in first, shape (n_subjects, 2).

    Takes and refuses what `identification` does; for intervals over subjects.

    Raises
    ------
    ValueError
    """
    return _found(_similarity(first, second, metric))


def rankme(x: ArrayLike) -> float:
    """Return the effective rank of embeddings: exp of the entropy of their normalised singular values.

    Between 1 (all on one line) and min(n, d); the vectors are not centred, as published.

    Parameters
    ----------
    x : array, shape (n, d)

    Raises
    ------
    ValueError
        If x is no finite matrix, or all zero.

    References
    ----------
    Garrido et al. (2023), RankMe, ICML.
    """
    singular = np.linalg.svd(finite_matrix(x, "x"), compute_uv=False)
    if not singular.sum() > 0:
        raise ValueError("embeddings are all zero, so they have no rank")
    return effective_rank(np.asarray(singular))


def effective_rank(values: NDArray[np.float64]) -> float:
    """Return exp of the entropy of values divided by their sum: how many they are, were they equal.

    Roy & Vetterli (2007), The effective rank, EUSIPCO. Negative values (rounding) count as 0.
    """
    p = np.maximum(values, 0.0)
    p = p[p > 0] / p.sum()
    return float(np.exp(-(p * np.log(p)).sum()))


def mean_pairwise_cosine(x: ArrayLike) -> float:
    """Return the mean cosine of all pairs of different rows; near 1 the embeddings have collapsed.

    Parameters
    ----------
    x : array, shape (n, d)
        At least two rows, none of them zero.

    Raises
    ------
    ValueError
    """
    unit = _unit(finite_matrix(x, "x"), "x")
    n = len(unit)
    if n < 2:
        raise ValueError("pairs need at least 2 rows")
    # the sum over all pairs is the squared length of the sum: no n x n matrix
    return float((np.square(unit.sum(axis=0)).sum() - n) / (n * (n - 1)))


def _similarity(first: ArrayLike, second: ArrayLike, metric: Metric) -> NDArray[np.float64]:
    """Return the similarity of every row of one set with every row of the other."""
    a, b = finite_matrix(first, "first"), finite_matrix(second, "second")
    if a.shape != b.shape or len(a) < 2:
        raise ValueError(f"identification needs two sets of at least 2 rows alike, got {a.shape} and {b.shape}")
    if metric == "correlation":
        a, b = (x - x.mean(axis=1, keepdims=True) for x in (a, b))
    return np.asarray(_unit(a, "first") @ _unit(b, "second").T)


def _found(similarity: NDArray[np.float64]) -> NDArray[np.bool_]:
    own = np.diagonal(similarity)
    others = np.where(np.eye(len(own), dtype=bool), -np.inf, similarity)
    return np.stack([own > others.max(axis=1), own > others.max(axis=0)], axis=1)


def finite_matrix(x: ArrayLike, name: str) -> NDArray[np.float64]:
    """Return a float64 matrix (n, d); ValueError, beginning with `name`, for other shapes and for values not finite."""
    matrix = np.asarray(x, dtype=np.float64)
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise ValueError(f"{name} is (n, d), got shape {matrix.shape}")
    if not np.isfinite(matrix).all():
        raise ValueError(f"{name} holds {int((~np.isfinite(matrix)).sum())} values that are NaN or infinite")
    return matrix


def _unit(x: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    if (norm == 0).any():
        raise ValueError(f"row {int(np.flatnonzero(norm == 0)[0])} of {name} has no direction (zero or constant)")
    return np.asarray(x / norm, dtype=np.float64)

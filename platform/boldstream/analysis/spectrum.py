"""How many directions an embedding uses, and how it decays: no labels needed. `quality.rankme` belongs to it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boldstream.analysis.quality import effective_rank, finite_matrix

DEAD = 1e-6
"""A dimension whose standard deviation is below this share of the largest one's is dead."""


@dataclass(frozen=True)
class Spread:
    """How the dimensions of an embedding vary over rows.

    Attributes
    ----------
    std : array, shape (d,)
        Dividing by the count.
    n_dead : int
        Dimensions that do not vary, or by less than 1e-6 of the most varying one.
    participation_ratio : float
        (sum of eigenvalues)² / sum of squares of the covariance: between 1 and d directions.
    top_share : float
        Share of the variance on the first principal component.
    """

    std: NDArray[np.float64]
    n_dead: int
    participation_ratio: float
    top_share: float


def measure_spread(x: ArrayLike) -> Spread:
    """Measure how dimensions vary; where nothing does, ratio and share are NaN.

    Parameters
    ----------
    x : array, shape (n, d)
    """
    matrix = finite_matrix(x, "x")
    std = matrix.std(axis=0)
    # rounding of a large constant is no spread
    std = np.where(np.ptp(matrix, axis=0) > 0, std, 0.0)
    values = covariance_eigenvalues(matrix)
    total = values.sum()
    if not total > 0:
        return Spread(std, len(std), float("nan"), float("nan"))
    ratio = float(total**2 / np.square(values).sum())
    return Spread(std, int((std <= DEAD * std.max()).sum()), ratio, float(values[0] / total))


def alpha_req(x: ArrayLike, *, first: int = 1, last: int | None = None) -> float:
    """Return the exponent of the power law that the covariance's eigenvalues follow, lambda_i ~ i^-alpha.

    Near 1 is what generalises well; far above 1, few directions carry all; far below, noise does. The slope of log
    eigenvalue on log rank by least squares, over the ranks from `first` to `last`.

    Parameters
    ----------
    x : array, shape (n, d)
    first, last : int
        Ranks, from 1; by default all that are not rounding.

    Raises
    ------
    ValueError
        If fewer than three eigenvalues are left.

    References
    ----------
    Agrawal et al. (2022), alpha-ReQ, NeurIPS.
    """
    matrix = finite_matrix(x, "x")
    values = covariance_eigenvalues(matrix)
    ranks = np.arange(1, len(values) + 1)
    floor = values[0] * max(matrix.shape) * np.finfo(np.float64).eps
    kept = (values > floor) & (ranks >= first) & (ranks <= (last or len(values)))
    if kept.sum() < 3:
        raise ValueError(f"{int(kept.sum())} eigenvalues are too few for a power law; at least 3")
    return float(-np.polyfit(np.log(ranks[kept]), np.log(values[kept]), 1)[0])


def lidar(views: ArrayLike, subjects: ArrayLike, *, delta: float = 1e-4) -> float:
    """Return the effective rank of what tells subjects apart: LiDAR, with subjects as classes and windows as views.

    The exponential of the entropy of the eigenvalues of Sw^-1/2 Sb Sw^-1/2, between subjects (mean views around
    their mean) and within (views around their subject's mean; plus delta times its mean eigenvalue). A large but
    uninformative direction, such as a change from window to window, does not count.

    Parameters
    ----------
    views : array, shape (n_views, d)
    subjects : array, shape (n_views,)
        Whose view each is; at least two subjects, and one with two views.
    delta : float
        The paper adds it to the diagonal as it is; here it is relative, so that the scale of vectors changes nothing.

    Raises
    ------
    ValueError
        If subjects are too few or nothing varies.

    References
    ----------
    Thilak et al. (2024), LiDAR, ICLR.
    """
    x = finite_matrix(views, "views")
    names, of = np.unique(np.asarray(subjects), return_inverse=True)
    if of.shape != (len(x),) or len(names) < 2 or np.bincount(of).max() < 2:
        raise ValueError(f"LiDAR needs views of at least 2 subjects, 2 of one; got {len(x)} of {len(names)}")
    x = x - x.mean(axis=0)
    means = np.stack([np.bincount(of, weights=column) for column in x.T], axis=1) / np.bincount(of)[:, None]
    inside = x - means[of]
    centred = means - means.mean(axis=0)
    between, within = centred.T @ centred / (len(names) - 1), inside.T @ inside / (len(x) - len(names))
    ridge = delta * np.trace(within) / len(within)
    if not (np.trace(between) > 0 and ridge > 0):
        raise ValueError("views do not vary between and within subjects, so they have no LiDAR")
    values, vectors = np.linalg.eigh(within)
    whiten = vectors / np.sqrt(np.maximum(values, 0.0) + ridge)
    return effective_rank(np.linalg.eigvalsh(whiten.T @ between @ whiten))


def covariance_eigenvalues(x: ArrayLike) -> NDArray[np.float64]:
    """Return the eigenvalues of the covariance of rows, largest first, min(n, d) of them.

    Parameters
    ----------
    x : array, shape (n, d)
    """
    matrix = finite_matrix(x, "x")
    centred = matrix - matrix[0]  # equal rows leave exact zeros
    centred = centred - centred.mean(axis=0)
    return np.square(np.linalg.svd(centred, compute_uv=False)) / len(matrix)

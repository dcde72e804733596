"""How alike are two sets of vectors of the same scans? Cosine, linear CKA, shared neighbours, Procrustes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boldstream.analysis.quality import finite_matrix

N_PERMUTATIONS = 5
NEIGHBOURS = 10


@dataclass(frozen=True)
class Comparison:
    """Two representations of the same n scans, as `compare` measures them.

    Attributes
    ----------
    n : int
        Scans.
    n_dims : tuple of int
        Dimensions of the first and the second.
    cosine : array, shape (n,), or None
        Cosine of every scan's two vectors; None where dimensions differ.
    cka, cka_chance : float
        `linear_cka`, and its mean over all pairings of scans with scans.
    k : int
        Neighbours looked at.
    overlap, overlap_chance : float
        `neighbour_overlap`, and k / (n - 1).
    procrustes, procrustes_chance : float
        `procrustes` error, and its mean over a few random pairings.
    moved : array, shape (n,)
        How far a scan is from itself after the best rotation and scaling, in units of the first's mean distance (root
        mean square) from its centre.
    first, second : array, shape (n, 2)
        Both on the first two principal components of the two together, the second rotated and scaled onto the first.
    """

    n: int
    n_dims: tuple[int, int]
    cosine: NDArray[np.float64] | None
    cka: float
    cka_chance: float
    k: int
    overlap: float
    overlap_chance: float
    procrustes: float
    procrustes_chance: float
    moved: NDArray[np.float64]
    first: NDArray[np.float64]
    second: NDArray[np.float64]


def compare(first: ArrayLike, second: ArrayLike, *, seed: int = 0) -> Comparison:
    """Measure two representations of the same scans, rows in the same order.

    Chance is what unrelated rows would give: with few scans and many dimensions, CKA is far above 0 and the
    Procrustes error far below 1 by chance alone.

    Parameters
    ----------
    first, second : array, shape (n, d1) and (n, d2)
        At least 3 rows.
    seed : int
        Of the random pairings behind `procrustes_chance`.

    Raises
    ------
    ValueError
        If rows do not fit or are too few, values are not finite, all rows are equal, or (of equal dimensions) a row
        is zero.
    """
    a, b = _paired(first, second)
    n = len(a)
    k = min(NEIGHBOURS, (n - 1) // 2)
    x, y = _unit_scale(a), _unit_scale(b)
    aligned, error = _align(x, y)
    rng = np.random.default_rng(seed)
    chance = float(np.mean([_align(x, y[rng.permutation(n)])[1] for _ in range(N_PERMUTATIONS)]))
    wide = _padded(x, aligned.shape[1])
    joint = np.concatenate([wide, aligned])
    axes = np.linalg.svd(joint, full_matrices=False)[2][:2]
    axes = np.pad(axes, ((0, 2 - len(axes)), (0, 0)))
    return Comparison(
        n=n,
        n_dims=(a.shape[1], b.shape[1]),
        cosine=paired_cosine(a, b) if a.shape == b.shape else None,
        cka=linear_cka(a, b),
        cka_chance=_cka_chance(x, y),
        k=k,
        overlap=neighbour_overlap(a, b, k),
        overlap_chance=k / (n - 1),
        procrustes=error,
        procrustes_chance=chance,
        moved=np.linalg.norm(wide - aligned, axis=1) * np.sqrt(n),
        first=wide @ axes.T,
        second=aligned @ axes.T,
    )


def paired_cosine(first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    """Return the cosine of every row of one set with the same row of the other.

    Parameters
    ----------
    first, second : array, shape (n, d)

    Raises
    ------
    ValueError
        If shapes differ or a row is zero.
    """
    a, b = finite_matrix(first, "first"), finite_matrix(second, "second")
    if a.shape != b.shape:
        raise ValueError(f"cosines need two sets of one shape, got {a.shape} and {b.shape}")
    lengths = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    for name, length in zip(("first", "second"), lengths, strict=True):
        if (length == 0).any():
            raise ValueError(f"row {int(np.flatnonzero(length == 0)[0])} of {name} is zero, so it has no cosine")
    return np.clip((a / lengths[0][:, None] * (b / lengths[1][:, None])).sum(axis=1), -1.0, 1.0)


def linear_cka(first: ArrayLike, second: ArrayLike) -> float:
    """Return the linear centred kernel alignment: 1 for equal similarities between scans, whatever the axes.

    Unchanged by rotation, by isotropic scaling and by shifts. It is not corrected for the number of dimensions; see
    `Comparison.cka_chance`.

    Parameters
    ----------
    first, second : array, shape (n, d1) and (n, d2)

    Raises
    ------
    ValueError
        As `compare`, but for zero rows.

    References
    ----------
    Kornblith et al. (2019), Similarity of neural network representations revisited, ICML.
    """
    x, y = (_unit_scale(matrix) for matrix in _paired(first, second))
    return float(np.square(np.linalg.norm(x.T @ y)) / (_gram_norm(x) * _gram_norm(y)))


def debiased_cka(first: ArrayLike, second: ArrayLike) -> float:
    """Return the linear centred kernel alignment without the bias of few scans and many dimensions.

    Its numerator and denominators are unbiased estimates (Song et al. 2012), so it is around 0 for unrelated rows, and
    may be below. 1 for equal similarities; NaN where an estimate of a norm is not positive.

    Parameters
    ----------
    first, second : array, shape (n, d1) and (n, d2)
        At least 4 rows.

    Raises
    ------
    ValueError
        As `linear_cka`, and for fewer than 4 rows.

    References
    ----------
    Nguyen, Raghu & Kornblith (2021), Do wide and deep networks learn the same things?, ICLR. Song et al. (2012),
    J. Mach. Learn. Res. 13:1393.
    """
    a, b = _paired(first, second)
    if len(a) < 4:
        raise ValueError(f"a debiased CKA needs at least 4 scans, got {len(a)}")
    x, y = _unit_scale(a), _unit_scale(b)
    norms = _unbiased_hsic(x, x), _unbiased_hsic(y, y)
    if min(norms) <= 0:
        return float("nan")
    return _unbiased_hsic(x, y) / float(np.sqrt(norms[0] * norms[1]))


def neighbour_overlap(first: ArrayLike, second: ArrayLike, k: int = NEIGHBOURS) -> float:
    """Return the mean share of a scan's k nearest neighbours (Euclidean) in one set that are so in the other.

    By chance it is k / (n - 1).

    Parameters
    ----------
    first, second : array, shape (n, d1) and (n, d2)
    k : int
        At least 1, below n - 1.

    Raises
    ------
    ValueError
        As `compare`, but for zero rows, or if k does not fit.
    """
    a, b = _paired(first, second)
    if not 1 <= k < len(a) - 1:
        raise ValueError(f"k is {k}; of {len(a)} scans, 1 to {len(a) - 2} neighbours can be compared")
    near, near_too = _neighbours(_unit_scale(a), k), _neighbours(_unit_scale(b), k)
    return float((near & near_too).sum() / (k * len(a)))


def procrustes(first: ArrayLike, second: ArrayLike) -> float:
    """Return the share of the variance that the best shift, rotation and scaling of one set onto the other leaves.

    0 for rotated copies, 1 where nothing fits. Of different dimensions, the narrower is padded with zeros.

    Parameters
    ----------
    first, second : array, shape (n, d1) and (n, d2)

    Raises
    ------
    ValueError
        As `compare`, but for zero rows.

    References
    ----------
    Schönemann (1966), Psychometrika 31:1; Gower (1975), Psychometrika 40:33.
    """
    x, y = (_unit_scale(matrix) for matrix in _paired(first, second))
    return _align(x, y)[1]


def _paired(first: ArrayLike, second: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    a, b = finite_matrix(first, "first"), finite_matrix(second, "second")
    if len(a) != len(b) or len(a) < 3:
        raise ValueError(f"two sets of the same scans, at least 3, are needed; got {len(a)} and {len(b)} rows")
    for name, matrix in (("first", a), ("second", b)):
        if not np.ptp(matrix, axis=0).any():
            raise ValueError(f"all {len(matrix)} rows of {name} are equal, so nothing can be compared")
    return a, b


def _unit_scale(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the matrix with columns of mean 0 and a Frobenius norm of 1."""
    centred = x - x.mean(axis=0)
    centred = centred / np.abs(centred).max()  # neither tiny nor huge values lose digits when squared
    return np.asarray(centred / np.linalg.norm(centred), dtype=np.float64)


def _gram_norm(x: NDArray[np.float64]) -> float:
    """Return the Frobenius norm of x x^T, by way of the smaller of the two products."""
    return float(np.linalg.norm(x.T @ x if x.shape[1] < len(x) else x @ x.T))


def _unbiased_hsic(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Return n (n - 3) times Song's estimate for linear kernels, by way of products of d1 x d2: no n x n matrix."""
    n = len(x)
    own = np.square(x).sum(axis=1), np.square(y).sum(axis=1)  # the kernels' diagonals, which are to be 0
    # rows sum to 0 for x and y have mean 0, so rows of the kernels without diagonal sum to minus the diagonal
    shared = float(np.square(x.T @ y).sum() - own[0] @ own[1])
    return shared + float(own[0].sum() * own[1].sum()) / ((n - 1) * (n - 2)) - 2 / (n - 2) * float(own[0] @ own[1])


def _cka_chance(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Return the mean CKA over all n! pairings of rows: tr(K) tr(L) / ((n - 1) |K| |L|), both traces being 1."""
    return 1.0 / ((len(x) - 1) * _gram_norm(x) * _gram_norm(y))


def _neighbours(x: NDArray[np.float64], k: int) -> NDArray[np.bool_]:
    """Mark every row's k nearest others, shape (n, n); of equally near ones, the first."""
    squares = np.square(x).sum(axis=1)
    distance = squares[:, None] + squares - 2 * (x @ x.T)
    np.fill_diagonal(distance, np.inf)
    order = np.argsort(distance, axis=1, kind="stable")[:, :k]
    marked = np.zeros(distance.shape, dtype=bool)
    np.put_along_axis(marked, order, True, axis=1)
    return marked


def _padded(x: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    return np.pad(x, ((0, 0), (0, width - x.shape[1])))


def _align(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Return y (of unit scale) rotated and scaled onto x, and the share of the variance that is left."""
    from scipy.linalg import orthogonal_procrustes

    width = max(x.shape[1], y.shape[1])
    x, y = _padded(x, width), _padded(y, width)
    rotation, scale = orthogonal_procrustes(y, x)
    return np.asarray(y @ rotation * scale), float(max(0.0, 1.0 - scale**2))

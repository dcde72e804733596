"""Projection to fewer dimensions, as many as there can be."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from boldstream.analysis.covariates import Covariates
from boldstream.analysis.fitted import FittedStep, blocks, moments

NULL_SHARE = 1e-10
"""A component with less of the largest one's variance holds rounding: float32's is 1.4e-14 of a value's square, and
sums of many rows add to it."""


class Projection(FittedStep):
    """Principal components of the training rows, or random orthonormal directions.

    Dimensions are never padded: there are `dim_effective_` of them. Components: at most p, n_train - 1, and as many as
    the training rows vary in (residuals vary in fewer). Random directions: at most p. Components are not whitened;
    the entry of largest magnitude of each is positive.

    Parameters
    ----------
    dim : int
        Dimensions that are wanted.
    method : {"pca", "random"}
    seed : int
        Of random directions.

    Attributes
    ----------
    mean_ : array, shape (p,)
        Of the training rows; 0 for random directions, which learn nothing.
    components_ : array, shape (dim_effective_, p)
        Orthonormal rows.
    variance_ratio_ : array, shape (dim_effective_,)
        Share of the training rows' variance along each.
    dim_effective_, n_train_ : int
    """

    arrays = ("mean_", "components_", "variance_ratio_")
    values = ("dim_effective_", "n_train_")

    def __init__(self, dim: int = 512, method: Literal["pca", "random"] = "pca", seed: int = 0) -> None:
        self.dim = dim
        self.method = method
        self.seed = seed

    def _learn(self, x: NDArray, covariates: Covariates | None) -> None:
        n, p = x.shape
        if n < 2:
            raise ValueError(f"a projection is learnt from at least 2 samples, got n_samples = {n}")
        self.n_train_ = n
        mean, variance = moments(x)
        total = variance.sum()
        if self.method == "random":
            self.mean_, self.components_ = np.zeros(p), _random_directions(min(self.dim, p), p, self.seed)
            along = _variance_along(x, mean, self.components_)
        else:
            self.mean_ = mean
            along, self.components_ = _principal(x, mean, min(self.dim, p, n - 1))
        self.dim_effective_ = len(self.components_)
        self.variance_ratio_ = along / total if total > 0 else np.zeros_like(along)

    def _apply(self, x: NDArray[np.float64], *beside: NDArray) -> NDArray[np.float64]:
        return (x - self.mean_) @ self.components_.T


def _principal(x: NDArray, mean: NDArray[np.float64], dim: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return variances (dividing by the count) and directions, largest first, without those that hold rounding."""
    n, p = x.shape
    if p <= n:
        scatter = np.zeros((p, p))
        for rows in blocks(n):
            away = x[rows] - mean
            scatter += away.T @ away
        values, vectors = np.linalg.eigh(scatter / n)
        values, directions = values[::-1][:dim], vectors.T[::-1][:dim]
    else:
        _, singular, directions = np.linalg.svd(x - mean, full_matrices=False)
        values, directions = np.square(singular[:dim]) / n, directions[:dim]
    # one stays where nothing varies: a vector of one 0 is easier to read than a vector of none
    kept = max(1, int((values > NULL_SHARE * values[0]).sum()))
    directions = directions[:kept]
    largest = directions[np.arange(kept), np.abs(directions).argmax(axis=1)]
    return np.clip(values[:kept], 0.0, None), directions * np.where(largest < 0, -1.0, 1.0)[:, None]


def _random_directions(dim: int, p: int, seed: int) -> NDArray[np.float64]:
    """Return orthonormal rows (dim, p), uniformly distributed: QR with the signs of its diagonal (Mezzadri 2007)."""
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(p, dim)))
    return np.ascontiguousarray((q * np.sign(np.diagonal(r))).T)


def _variance_along(x: NDArray, mean: NDArray[np.float64], directions: NDArray[np.float64]) -> NDArray[np.float64]:
    square = np.zeros(len(directions))
    for rows in blocks(len(x)):
        square += np.square((x[rows] - mean) @ directions.T).sum(axis=0)
    return square / len(x)

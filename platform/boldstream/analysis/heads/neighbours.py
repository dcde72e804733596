"""Nearest neighbours; how many is chosen in the inner folds."""

from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.neighbors import NearestNeighbors

from boldstream.analysis.heads.inner import inner_folds, target_columns
from boldstream.analysis.quality import finite_matrix


class NeighboursHead(RegressorMixin, BaseEstimator):
    """The mean target of the nearest training rows (Euclidean); of 0 and 1, in a column or in one a class, the share.

    Parameters
    ----------
    counts : sequence of int
        Numbers of neighbours to choose from; those that an inner training fold does not have are left out.
    n_inner : int
        Inner folds where `fit` is given none.

    Attributes
    ----------
    count_ : int
        The number with the least mean over inner folds of the mean squared error.
    """

    def __init__(self, counts: tuple[int, ...] = (1, 3, 7, 15, 31, 63, 127), *, n_inner: int = 5) -> None:
        self.counts = counts
        self.n_inner = n_inner

    def fit(self, X: ArrayLike, y: ArrayLike, folds: ArrayLike | None = None) -> Self:
        """Choose the number and keep the rows.

        Parameters
        ----------
        X : array, shape (n, d)
        y : array, shape (n,) or (n, n_columns)
            The number of neighbours is chosen for all columns together.
        folds : array of int, shape (n,), optional
            Inner fold of every row; none: rows are dealt in turn, as if they were unrelated.

        Raises
        ------
        ValueError
            If shapes do not fit, values are not finite, or no inner training fold has as many rows as the least count.
        """
        x = finite_matrix(X, "X")
        target = target_columns(y, len(x))
        labels = inner_folds(folds, len(x), self.n_inner)
        least = min(int((labels != label).sum()) for label in np.unique(labels))
        counts = [count for count in self.counts if count <= least]
        if not counts:
            raise ValueError(f"an inner training fold has {least} rows, fewer than {min(self.counts)} neighbours")
        errors = []
        for label in np.unique(labels):
            test = labels == label
            found = _means(x[~test], target[~test], x[test], counts)
            errors.append(np.square(found - target[test]).reshape(len(counts), -1).mean(axis=1))
        self.count_ = counts[int(np.argmin(np.mean(errors, axis=0)))]
        self.rows_, self.target_ = x, target
        return self

    def predict(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return predictions, shape (n,) or (n, n_columns)."""
        return _means(self.rows_, self.target_, finite_matrix(X, "X"), [self.count_])[0]


def _means(x: NDArray, y: NDArray, asked: NDArray, counts: list[int]) -> NDArray[np.float64]:
    """Return the mean target of the nearest rows, shape (n_counts, n_asked) or (n_counts, n_asked, n_columns)."""
    near = NearestNeighbors(n_neighbors=max(counts)).fit(x).kneighbors(asked, return_distance=False)
    sums = y[near].cumsum(axis=1)
    return np.stack([sums[:, count - 1] / count for count in counts])

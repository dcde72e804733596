"""Rows in their own span: what makes wide vectors cheap for every model with a square penalty."""

from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin


class RowSpan(TransformerMixin, BaseEstimator):
    """Rotate vectors into the span of the training rows where dimensions outnumber these; else leave them.

    Coefficients with a square penalty are combinations of the training rows, and the rotation keeps all their inner
    products, so predictions stay as they are.

    Attributes
    ----------
    axes_ : array, shape (d, r), or None
    """

    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:
        """Find the span of X, shape (n, d)."""
        x = np.asarray(X, dtype=np.float64)
        self.axes_: NDArray[np.float64] | None = None
        if x.shape[1] > len(x):
            values, vectors = np.linalg.eigh(x @ x.T)
            kept = values > values[-1] * len(x) * np.finfo(np.float64).eps
            # of all-zero rows one axis, on which all are 0
            self.axes_ = x.T @ (vectors[:, kept] / np.sqrt(values[kept])) if kept.any() else np.zeros((x.shape[1], 1))
        return self

    def transform(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return coordinates, shape (n, r) or (n, d)."""
        x = np.asarray(X, dtype=np.float64)
        return x if self.axes_ is None else np.asarray(x @ self.axes_)

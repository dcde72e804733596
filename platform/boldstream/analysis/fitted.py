"""What all steps of an adjustment share: rows in blocks, and a state that can be stored without pickle."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from boldstream.analysis.covariates import Covariates

BLOCK = 4096
"""Rows that are held in float64 at a time."""
FLOATS = [np.float64, np.float32]


def blocks(n_rows: int) -> Iterator[slice]:
    """Yield slices that cover so many rows."""
    for first in range(0, n_rows, BLOCK):
        yield slice(first, min(first + BLOCK, n_rows))


def product(left: NDArray[np.float64], x: NDArray) -> NDArray[np.float64]:
    """Return left (k, n) times x (n, p) in float64, with no float64 copy of all of x."""
    total = np.zeros((len(left), x.shape[1]))
    for rows in blocks(len(x)):
        total += left[:, rows] @ x[rows].astype(np.float64)
    return total


class Storable(BaseEstimator):
    """An estimator whose state is arrays and numbers; subclasses name what they learn in `arrays` and `values`."""

    arrays: ClassVar[tuple[str, ...]] = ()
    """Learnt attributes that are arrays of float64."""
    values: ClassVar[tuple[str, ...]] = ()
    """Learnt attributes in JSON's types."""

    def state(self) -> tuple[dict[str, NDArray[np.float64]], dict[str, Any]]:
        """Return what was learnt: arrays, and values that JSON holds exactly."""
        check_is_fitted(self)
        values = {name: getattr(self, name) for name in self.values}
        return {name: getattr(self, name) for name in self.arrays}, {**values, "n_features_in_": self.n_features_in_}

    def restore(self, arrays: Mapping[str, NDArray], values: Mapping[str, Any]) -> Self:
        """Take up a `state`.

        Raises
        ------
        ValueError
            Naming what is missing, or what does not belong here.
        """
        for found, names in ((arrays, set(self.arrays)), (values, {*self.values, "n_features_in_"})):
            if found.keys() != names:
                lacking, extra = sorted(names - found.keys()), sorted(found.keys() - names)
                raise ValueError(
                    f"{type(self).__name__} lacks {lacking or 'nothing'}, has too much: {extra or 'nothing'}"
                )
            for name, value in found.items():
                setattr(self, name, value)
        return self


class FittedStep(TransformerMixin, Storable):
    """One step: learns from training rows, then changes any rows; computes in float64, gives back the dtype it gets.

    Subclasses say how what they have learnt is applied in `_apply`.
    """

    def fit(self, X: ArrayLike, y: object = None, covariates: Covariates | None = None) -> Self:
        """Learn from training rows.

        Parameters
        ----------
        X : array, shape (n, p)
        y : ignored
            No step looks at a target.
        covariates : Covariates, optional
            Columns of n values, where the step reads any.

        Raises
        ------
        ValueError
            If values are not finite, or covariates are missing.
        """
        x = validate_data(self, X, dtype=FLOATS)
        self._learn(x, covariates)
        return self

    def transform(self, X: ArrayLike, covariates: Covariates | None = None) -> NDArray:
        """Return the rows changed, shape (n, d); neither X nor what was learnt is touched.

        Parameters
        ----------
        X : array, shape (n, p)
        covariates : Covariates, optional

        Raises
        ------
        ValueError
            If values are not finite, or covariates are missing or not those of training.
        """
        check_is_fitted(self)
        x = validate_data(self, X, dtype=FLOATS, reset=False)
        beside = self._beside(covariates, len(x))
        found: NDArray | None = None
        for rows in blocks(len(x)):
            part = self._apply(x[rows].astype(np.float64), *(one[rows] for one in beside))
            if found is None:
                found = np.empty((len(x), part.shape[1]), dtype=x.dtype)
            found[rows] = part
        assert found is not None  # validated: there is a row
        return found

    def fit_transform(self, X: ArrayLike, y: object = None, covariates: Covariates | None = None) -> NDArray:
        """Learn from rows and return them changed."""
        return self.fit(X, y, covariates).transform(X, covariates)

    def _learn(self, x: NDArray, covariates: Covariates | None) -> None:
        raise NotImplementedError

    def _beside(self, covariates: Covariates | None, n_rows: int) -> tuple[NDArray, ...]:
        """Return what `_apply` needs beside a block's rows, arrays of n_rows each."""
        return ()

    def _apply(self, x: NDArray[np.float64], *beside: NDArray) -> NDArray[np.float64]:
        raise NotImplementedError


class Zscore(FittedStep):
    """Every dimension to mean 0 and standard deviation 1; a dimension that never varies stays at 0."""

    arrays = ("mean_", "scale_")

    def _learn(self, x: NDArray, covariates: Covariates | None) -> None:
        self.mean_, variance = moments(x)
        self.scale_ = np.sqrt(np.where(variance > 0, variance, 1.0))

    def _apply(self, x: NDArray[np.float64], *beside: NDArray) -> NDArray[np.float64]:
        return (x - self.mean_) / self.scale_


def moments(x: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and variance (dividing by the count) of every column; a constant column's variance is 0 exactly."""
    mean = product(np.full((1, len(x)), 1 / len(x)), x)[0]
    square = np.zeros(x.shape[1])
    for rows in blocks(len(x)):
        square += np.square(x[rows] - mean).sum(axis=0)
    variance = square / len(x)
    # a sum's rounding is no spread
    return mean, np.where(x.max(axis=0) > x.min(axis=0), variance, 0.0)

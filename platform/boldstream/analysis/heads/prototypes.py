"""Nearest class mean: two classes told by which one's prototype is nearer."""

from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin

from boldstream.analysis.calibration import fit_curve
from boldstream.analysis.heads.inner import inner_folds
from boldstream.analysis.metrics import as_target
from boldstream.analysis.quality import finite_matrix


class PrototypeHead(ClassifierMixin, BaseEstimator):
    """Each class is the mean of its training rows; a row belongs to the nearer one (Euclidean).

    Nothing is chosen, so nothing can be chosen wrongly for other cohorts; directions are as important as their variance
    behind the front. Probabilities are a logistic curve of the decision values of the inner folds' test rows.

    Parameters
    ----------
    n_inner : int
        Inner folds where `fit` is given none.

    Attributes
    ----------
    prototypes_ : array, shape (2, d)
    curve_ : sklearn.linear_model.LogisticRegression

    References
    ----------
    Tibshirani et al. (2002), PNAS 99:6567 (without the shrinkage); Snell et al. (2017), Prototypical networks, NeurIPS.
    """

    def __init__(self, *, n_inner: int = 5) -> None:
        self.n_inner = n_inner

    def fit(self, X: ArrayLike, y: ArrayLike, folds: ArrayLike | None = None) -> Self:
        """Take the means.

        Parameters
        ----------
        X : array, shape (n, d)
        y : array, shape (n,)
            Two classes; the second in sorted order is the positive one.
        folds : array of int, shape (n,), optional
            Inner fold of every row; none: rows are dealt in turn, as if they were unrelated.

        Raises
        ------
        ValueError
            If shapes do not fit, there are not two classes, or the rows outside an inner fold have one class only.
        """
        x = finite_matrix(X, "X")
        target = as_target(y, "logistic", len(x))
        labels = inner_folds(folds, len(x), self.n_inner)
        self.classes_ = np.unique(np.asarray(y))
        decisions = np.empty(len(x))
        for label in np.unique(labels):
            test = labels == label
            if np.ptp(target[~test]) == 0:
                raise ValueError("the rows outside an inner fold have one class only; use fewer or other inner folds")
            decisions[test] = _nearer(x[test], _means(x[~test], target[~test]))
        self.prototypes_ = _means(x, target)
        self.curve_ = fit_curve(decisions, target)
        return self

    def predict(self, X: ArrayLike) -> NDArray:
        """Return the class whose prototype is nearer, shape (n,)."""
        return np.asarray(self.classes_[(self.decision_function(X) > 0).astype(int)])

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return how much nearer the second class is, shape (n,), in distances of the two prototypes."""
        return _nearer(finite_matrix(X, "X"), self.prototypes_)

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the classes' probabilities at their shares in training, shape (n, 2)."""
        return np.asarray(self.curve_.predict_proba(self.decision_function(X)[:, None]))


def _means(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack([x[y == label].mean(axis=0) for label in (0, 1)])


def _nearer(x: NDArray[np.float64], prototypes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return where rows lie between the prototypes: -1/2 at the first, 1/2 at the second."""
    between = prototypes[1] - prototypes[0]
    length = float(between @ between)
    return (x - prototypes.mean(axis=0)) @ between / (length if length > 0 else 1.0)

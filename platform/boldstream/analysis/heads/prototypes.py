"""Nearest class mean: classes told by whose prototype is nearest."""

from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin

from boldstream.analysis.calibration import curves_of_classes, fit_curve, fit_curves
from boldstream.analysis.heads.inner import check_classes, decided, inner_folds
from boldstream.analysis.metrics import as_codes
from boldstream.analysis.quality import finite_matrix


class PrototypeHead(ClassifierMixin, BaseEstimator):
    """Each class is the mean of its training rows; a row belongs to the nearest one (Euclidean).

    Nothing is chosen, so nothing can be chosen wrongly for other cohorts; directions are as important as their variance
    behind the front. Probabilities are a logistic curve of the decision values of the inner folds' test rows; of
    several classes a curve each, made to sum to 1.

    Parameters
    ----------
    n_inner : int
        Inner folds where `fit` is given none.

    Attributes
    ----------
    prototypes_ : array, shape (n_classes, d)
    curves_ : list of sklearn.linear_model.LogisticRegression
        Of two classes one, of several one each.

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
            Classes; of two, the second in sorted order is the positive one.
        folds : array of int, shape (n,), optional
            Inner fold of every row; none: rows are dealt in turn, as if they were unrelated.

        Raises
        ------
        ValueError
            If shapes do not fit, there is one class only, or the rows outside an inner fold lack one.
        """
        x = finite_matrix(X, "X")
        target = as_codes(y, len(x))
        labels = inner_folds(folds, len(x), self.n_inner)
        self.classes_ = np.unique(np.asarray(y))
        n_classes = len(self.classes_)
        decisions = np.empty((len(x), *([n_classes] if n_classes > 2 else [])))
        for label in np.unique(labels):
            test = labels == label
            check_classes(target[~test], self.classes_)
            decisions[test] = _decisions(x[test], _means(x[~test], target[~test], n_classes))
        self.prototypes_ = _means(x, target, n_classes)
        self.curves_ = [fit_curve(decisions, target)] if n_classes == 2 else fit_curves(decisions, target)
        return self

    def predict(self, X: ArrayLike) -> NDArray:
        """Return the class whose prototype is nearest, shape (n,)."""
        return decided(self.decision_function(X), self.classes_)

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return how much nearer the second class is, shape (n,), in distances of the two prototypes.

        Of several classes, shape (n, n_classes): how much nearer each is than the nearest other, above 0 for one.
        """
        return _decisions(finite_matrix(X, "X"), self.prototypes_)

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the classes' probabilities at their shares in training, shape (n, n_classes)."""
        decision = self.decision_function(X)
        if len(self.classes_) == 2:
            return np.asarray(self.curves_[0].predict_proba(decision[:, None]))
        return curves_of_classes(self.curves_, decision)


def _means(x: NDArray[np.float64], y: NDArray[np.float64], n_classes: int) -> NDArray[np.float64]:
    return np.stack([x[y == label].mean(axis=0) for label in range(n_classes)])


def _decisions(x: NDArray[np.float64], prototypes: NDArray[np.float64]) -> NDArray[np.float64]:
    return _nearer(x, prototypes) if len(prototypes) == 2 else _nearest(x, prototypes)


def _nearest(x: NDArray[np.float64], prototypes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return by how much every prototype is nearer than the nearest other one, in half their mean square distance."""
    centred = prototypes - prototypes.mean(axis=0)
    n = len(prototypes)
    # the mean over pairs of prototypes of their square distance
    length = 2 * float(np.square(centred).sum()) / (n - 1)
    # distances but for what all have in common
    near = (x - prototypes.mean(axis=0)) @ centred.T - np.square(centred).sum(axis=1) / 2
    others = np.stack([np.delete(near, label, axis=1).max(axis=1) for label in range(n)], axis=1)
    return np.asarray((near - others) / (length if length > 0 else 1.0))


def _nearer(x: NDArray[np.float64], prototypes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return where rows lie between the prototypes: -1/2 at the first, 1/2 at the second."""
    between = prototypes[1] - prototypes[0]
    length = float(between @ between)
    return (x - prototypes.mean(axis=0)) @ between / (length if length > 0 else 1.0)

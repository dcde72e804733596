"""Logistic regression and linear support vectors for two classes, their penalty chosen in the inner folds."""

from abc import abstractmethod
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from boldstream.analysis.heads.inner import centre_of, inner_folds
from boldstream.analysis.heads.span import RowSpan
from boldstream.analysis.metrics import as_target, auc
from boldstream.analysis.quality import finite_matrix

STRENGTHS = tuple(np.logspace(-2, 3, 6).tolist())
"""Inverse penalties, for centred training rows with a mean square length of 1."""

TOLERANCE = 1e-6
"""Of the gradient: at scikit-learn's 1e-4 decision values of weak penalties are off by a few percent."""

N_INNER = 3
"""Inner folds where none are given."""


class _ChosenByAuc(ClassifierMixin, BaseEstimator):
    """A linear classifier that takes, of its strengths, the one with the largest area under the ROC curve.

    The area compares rows of the same inner fold only: a log loss would choose by how sites are offset. Of equals the
    smallest strength is taken.
    """

    def __init__(self, strengths: tuple[float, ...] = STRENGTHS, *, n_inner: int = N_INNER) -> None:
        self.strengths = strengths
        self.n_inner = n_inner

    def fit(self, X: ArrayLike, y: ArrayLike, folds: ArrayLike | None = None) -> Self:
        """Choose the strength and fit.

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
            If shapes do not fit, values are not finite, there are not two classes, or the rows outside an inner fold
            have one class only.
        """
        x = finite_matrix(X, "X")
        target = as_target(y, "logistic", len(x))
        labels = inner_folds(folds, len(x), self.n_inner)
        self.classes_ = np.unique(np.asarray(y))
        self.centre_ = centre_of(x)
        x = x - self.centre_
        length = np.square(x).sum() / len(x)
        self.scale_ = 1.0 / np.sqrt(length if length > 0 else 1.0)
        self.span_ = RowSpan().fit(x * self.scale_)
        x = self.span_.transform(x * self.scale_)
        decisions = np.empty((len(self.strengths), len(x)))
        for label in np.unique(labels):
            test = labels == label
            if np.ptp(target[~test]) == 0:
                raise ValueError("the rows outside an inner fold have one class only; use fewer or other inner folds")
            decisions[:, test] = self._path(x[~test], target[~test], x[test])
        areas = np.array([auc(target, decision, labels) for decision in decisions])
        if np.isnan(areas).any():
            raise ValueError("no inner fold has both classes, so no strength can be chosen; use fewer inner folds")
        best = int(np.argmax(areas))
        self.strength_, self.auc_ = float(self.strengths[best]), float(areas[best])
        self._fit_one(x, target, self.strength_, decisions[best])
        return self

    def predict(self, X: ArrayLike) -> NDArray:
        """Return the class on whose side of the balanced boundary each row is, shape (n,)."""
        return np.asarray(self.classes_[(self.decision_function(X) > 0).astype(int)])

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return decision values, shape (n,), above 0 for the second class were both equally frequent."""
        return self._decide(self._rotated(X))

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the classes' probabilities at their shares in training, shape (n, 2)."""
        chance = 1.0 / (1.0 + np.exp(-self._log_odds(self._rotated(X))))
        return np.stack([1.0 - chance, chance], axis=1)

    def _rotated(self, X: ArrayLike) -> NDArray[np.float64]:
        return self.span_.transform((finite_matrix(X, "X") - self.centre_) * self.scale_)

    @abstractmethod
    def _path(self, x: NDArray, y: NDArray, asked: NDArray) -> NDArray[np.float64]:
        """Return decision values of the asked rows, (n_strengths, n_asked), of models fitted to x."""

    @abstractmethod
    def _fit_one(self, x: NDArray, y: NDArray, strength: float, out_of_fold: NDArray) -> None:
        """Fit with the strength chosen; `out_of_fold` are its decision values in the inner folds."""

    @abstractmethod
    def _decide(self, x: NDArray) -> NDArray[np.float64]: ...

    @abstractmethod
    def _log_odds(self, x: NDArray) -> NDArray[np.float64]: ...


class LogisticHead(_ChosenByAuc):
    """Logistic regression with a square penalty, its path of strengths followed by warm starts.

    Fitted to the classes as frequent as they are, so that probabilities are calibrated; the decision is the log odds
    less those of the classes' shares, so that its boundary is balanced. Or fitted to classes weighted equal.

    Parameters
    ----------
    strengths : sequence of float
        Inverse penalties in ascending order, for rows with a mean square length of 1.
    balanced : bool
        Weight the classes equal; then probabilities are those at equal shares.
    n_inner : int
        Inner folds where `fit` is given none.

    Attributes
    ----------
    strength_, auc_ : float
        The strength chosen, and its area under the ROC curve in the inner folds.
    model_ : sklearn.linear_model.LogisticRegression
    """

    def __init__(
        self, strengths: tuple[float, ...] = STRENGTHS, *, balanced: bool = False, n_inner: int = N_INNER
    ) -> None:
        super().__init__(strengths, n_inner=n_inner)
        self.balanced = balanced

    def _path(self, x: NDArray, y: NDArray, asked: NDArray) -> NDArray[np.float64]:
        model, shares = self._model(warm_start=True), self._shares(y)
        return np.stack(
            [model.set_params(C=strength).fit(x, y).decision_function(asked) - shares for strength in self.strengths]
        )

    def _fit_one(self, x: NDArray, y: NDArray, strength: float, out_of_fold: NDArray) -> None:
        self.model_ = self._model(C=strength).fit(x, y)
        self.shares_ = self._shares(y)

    def _model(self, **options: Any) -> LogisticRegression:
        weight = "balanced" if self.balanced else None
        return LogisticRegression(class_weight=weight, tol=TOLERANCE, max_iter=10_000, **options)

    def _shares(self, y: NDArray) -> float:
        """Return the log odds of the second class's share, as the model was fitted."""
        share = 0.5 if self.balanced else float(y.mean())
        return float(np.log(share / (1 - share)))

    def _decide(self, x: NDArray) -> NDArray[np.float64]:
        return np.asarray(self.model_.decision_function(x) - self.shares_)

    def _log_odds(self, x: NDArray) -> NDArray[np.float64]:
        return np.asarray(self.model_.decision_function(x))


class SvmHead(_ChosenByAuc):
    """Linear support vector machine (squared hinge, classes weighted equal).

    Probabilities are Platt's: a logistic curve fitted to the decision values of the inner folds' test rows.

    Parameters
    ----------
    strengths : sequence of float
    n_inner : int

    Attributes
    ----------
    strength_, auc_ : float
    model_ : sklearn.svm.LinearSVC
    platt_ : sklearn.linear_model.LogisticRegression

    References
    ----------
    Platt (1999), Probabilistic outputs for support vector machines.
    """

    def _path(self, x: NDArray, y: NDArray, asked: NDArray) -> NDArray[np.float64]:
        return np.stack([self._model(strength).fit(x, y).decision_function(asked) for strength in self.strengths])

    def _fit_one(self, x: NDArray, y: NDArray, strength: float, out_of_fold: NDArray) -> None:
        self.model_ = self._model(strength).fit(x, y)
        self.platt_ = LogisticRegression(C=np.inf).fit(out_of_fold[:, None], y)

    @staticmethod
    def _model(strength: float) -> LinearSVC:
        # liblinear penalises the intercept; its scale makes that weak. The primal converges whatever the strength.
        return LinearSVC(C=strength, dual=False, class_weight="balanced", intercept_scaling=10.0, max_iter=10_000)

    def _decide(self, x: NDArray) -> NDArray[np.float64]:
        return np.asarray(self.model_.decision_function(x))

    def _log_odds(self, x: NDArray) -> NDArray[np.float64]:
        return np.asarray(self.platt_.decision_function(self._decide(x)[:, None]))

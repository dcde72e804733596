"""Logistic regression and linear support vectors for classes, their penalty chosen in the inner folds."""

from abc import abstractmethod
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from boldstream.analysis.calibration import curves_of_classes, fit_curves
from boldstream.analysis.heads.inner import centre_of, check_classes, decided, inner_folds
from boldstream.analysis.heads.span import RowSpan
from boldstream.analysis.metrics import as_codes, auc, indicators, macro_auc
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
    smallest strength is taken. Of three classes and more, the area is the mean over classes of each against the rest,
    and decision values have a column a class.
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
            Classes; of two, the second in sorted order is the positive one.
        folds : array of int, shape (n,), optional
            Inner fold of every row; none: rows are dealt in turn, as if they were unrelated.

        Raises
        ------
        ValueError
            If shapes do not fit, values are not finite, there is one class only, or the rows outside an inner fold
            lack one.
        """
        x = finite_matrix(X, "X")
        target = as_codes(y, len(x))
        labels = inner_folds(folds, len(x), self.n_inner)
        self.classes_ = np.unique(np.asarray(y))
        self.centre_ = centre_of(x)
        x = x - self.centre_
        length = np.square(x).sum() / len(x)
        self.scale_ = 1.0 / np.sqrt(length if length > 0 else 1.0)
        self.span_ = RowSpan().fit(x * self.scale_)
        x = self.span_.transform(x * self.scale_)
        n_classes = len(self.classes_)
        decisions = np.empty((len(self.strengths), len(x), *([n_classes] if n_classes > 2 else [])))
        for label in np.unique(labels):
            test = labels == label
            check_classes(target[~test], self.classes_)
            decisions[:, test] = self._path(x[~test], target[~test], x[test])
        area = auc if n_classes == 2 else macro_auc
        areas = np.array([area(target, decision, labels) for decision in decisions])
        if np.isnan(areas).any():
            which = "both classes" if n_classes == 2 else "rows of some class and of others"
            raise ValueError(f"no inner fold has {which}, so no strength can be chosen; use fewer inner folds")
        best = int(np.argmax(areas))
        self.strength_, self.auc_ = float(self.strengths[best]), float(areas[best])
        self._fit_one(x, target, self.strength_, decisions[best])
        return self

    def predict(self, X: ArrayLike) -> NDArray:
        """Return the class on whose side of the balanced boundary each row is, shape (n,)."""
        return decided(self.decision_function(X), self.classes_)

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return decision values, shape (n,), above 0 for the second class were both equally frequent.

        Of several classes, shape (n, n_classes): largest for the class that it is, were all equally frequent.
        """
        return self._decide(self._rotated(X))

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the classes' probabilities at their shares in training, shape (n, n_classes)."""
        rows = self._rotated(X)
        if len(self.classes_) > 2:
            return self._probabilities(rows)
        chance = 1.0 / (1.0 + np.exp(-self._log_odds(rows)))
        return np.stack([1.0 - chance, chance], axis=1)

    def _rotated(self, X: ArrayLike) -> NDArray[np.float64]:
        return self.span_.transform((finite_matrix(X, "X") - self.centre_) * self.scale_)

    @abstractmethod
    def _path(self, x: NDArray, y: NDArray, asked: NDArray) -> NDArray[np.float64]:
        """Return decision values of the asked rows, (n_strengths, n_asked, …), of models fitted to x."""

    @abstractmethod
    def _fit_one(self, x: NDArray, y: NDArray, strength: float, out_of_fold: NDArray) -> None:
        """Fit with the strength chosen; `out_of_fold` are its decision values in the inner folds."""

    @abstractmethod
    def _decide(self, x: NDArray) -> NDArray[np.float64]: ...

    @abstractmethod
    def _log_odds(self, x: NDArray) -> NDArray[np.float64]:
        """Return the second of two classes' log odds, shape (n,)."""

    @abstractmethod
    def _probabilities(self, x: NDArray) -> NDArray[np.float64]:
        """Return probabilities of several classes, shape (n, n_classes)."""


class LogisticHead(_ChosenByAuc):
    """Logistic regression with a square penalty, its path of strengths followed by warm starts.

    Fitted to the classes as frequent as they are, so that probabilities are calibrated; the decision is the log odds
    less those of the classes' shares, so that its boundary is balanced. Of several classes it is one multinomial
    model, and decisions are log probabilities less the logarithms of shares.

    Parameters
    ----------
    strengths : sequence of float
        Inverse penalties in ascending order, for rows with a mean square length of 1.
    n_inner : int
        Inner folds where `fit` is given none.

    Attributes
    ----------
    strength_, auc_ : float
        The strength chosen, and its area under the ROC curve in the inner folds.
    model_ : sklearn.linear_model.LogisticRegression
    """

    def _path(self, x: NDArray, y: NDArray, asked: NDArray) -> NDArray[np.float64]:
        model, shares = self._model(warm_start=True), self._shares(y)
        return np.stack([_less(model.set_params(C=strength).fit(x, y), asked, shares) for strength in self.strengths])

    def _fit_one(self, x: NDArray, y: NDArray, strength: float, out_of_fold: NDArray) -> None:
        self.model_ = self._model(C=strength).fit(x, y)
        self.shares_ = self._shares(y)

    def _model(self, **options: Any) -> LogisticRegression:
        return LogisticRegression(tol=TOLERANCE, max_iter=10_000, **options)

    def _shares(self, y: NDArray) -> float | NDArray[np.float64]:
        """Return the log odds of the second class's share; of several, logs of all shares."""
        if len(self.classes_) > 2:
            return np.log(indicators(y, len(self.classes_)).mean(axis=0))
        share = float(y.mean())
        return float(np.log(share / (1 - share)))

    def _decide(self, x: NDArray) -> NDArray[np.float64]:
        return _less(self.model_, x, self.shares_)

    def _log_odds(self, x: NDArray) -> NDArray[np.float64]:
        return np.asarray(self.model_.decision_function(x))

    def _probabilities(self, x: NDArray) -> NDArray[np.float64]:
        return np.asarray(softmax(self.model_.decision_function(x), axis=1))


def _less(model: LogisticRegression, x: NDArray, shares: float | NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a model's log odds of two classes, or log probabilities of several, less those of their shares."""
    found = model.decision_function(x)
    return np.asarray((found if found.ndim == 1 else log_softmax(found, axis=1)) - shares)


class SvmHead(_ChosenByAuc):
    """Linear support vector machine (squared hinge, classes weighted equal).

    Probabilities are Platt's: a logistic curve fitted to the decision values of the inner folds' test rows. Of several
    classes, a machine each tells it from the rest, with a curve of its own; their probabilities are made to sum to 1.

    Parameters
    ----------
    strengths : sequence of float
    n_inner : int

    Attributes
    ----------
    strength_, auc_ : float
    models_ : list of sklearn.svm.LinearSVC
        Of two classes one, of several one each.
    platt_ : list of sklearn.linear_model.LogisticRegression
        Likewise.

    References
    ----------
    Platt (1999), Probabilistic outputs for support vector machines.
    """

    def _path(self, x: NDArray, y: NDArray, asked: NDArray) -> NDArray[np.float64]:
        return np.stack([_decisions(self._models(x, y, strength), asked) for strength in self.strengths])

    def _fit_one(self, x: NDArray, y: NDArray, strength: float, out_of_fold: NDArray) -> None:
        self.models_ = self._models(x, y, strength)
        if len(self.models_) > 1:
            self.platt_ = fit_curves(out_of_fold, y)
        else:
            self.platt_ = [LogisticRegression(C=np.inf).fit(out_of_fold[:, None], y)]

    def _models(self, x: NDArray, y: NDArray, strength: float) -> list[LinearSVC]:
        """Fit a machine; of several classes one each, as liblinear's own would not weight the rest like the class."""
        told = [y] if len(self.classes_) == 2 else indicators(y, len(self.classes_)).T
        return [self._model(strength).fit(x, one) for one in told]

    @staticmethod
    def _model(strength: float) -> LinearSVC:
        # liblinear penalises the intercept; its scale makes that weak. The primal converges whatever the strength.
        return LinearSVC(C=strength, dual=False, class_weight="balanced", intercept_scaling=10.0, max_iter=10_000)

    def _decide(self, x: NDArray) -> NDArray[np.float64]:
        return _decisions(self.models_, x)

    def _log_odds(self, x: NDArray) -> NDArray[np.float64]:
        return np.asarray(self.platt_[0].decision_function(self._decide(x)[:, None]))

    def _probabilities(self, x: NDArray) -> NDArray[np.float64]:
        return curves_of_classes(self.platt_, self._decide(x))


def _decisions(models: list[LinearSVC], x: NDArray) -> NDArray[np.float64]:
    """Return decision values: of one model (n,), of several a column each."""
    found = [model.decision_function(x) for model in models]
    return np.asarray(found[0] if len(found) == 1 else np.stack(found, axis=1))

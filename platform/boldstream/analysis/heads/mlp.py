"""A small multilayer perceptron; how long it is trained is chosen in the inner folds."""

from collections.abc import Iterator
from typing import Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.neural_network import MLPClassifier, MLPRegressor

from boldstream.analysis.heads.inner import class_indicators, inner_folds, numeric_target
from boldstream.analysis.quality import finite_matrix


class MlpHead(BaseEstimator):
    """One hidden layer, trained by Adam; the number of epochs is what regularises it, and it is chosen.

    scikit-learn's early stopping would hold single rows out, relatives of those it trains on among them; here the
    inner folds decide, and one training an inner fold tells the error after every number of epochs.

    Parameters
    ----------
    kind : {"continuous", "binary", "multiclass"}
        Binary: the target is 0 and 1, multiclass: a column of 0 and 1 a class; the loss is the log loss.
    hidden : int
        Units.
    epochs : sequence of int
        Numbers to choose from.
    penalty, learning_rate : float
    n_inner, seed : int

    Attributes
    ----------
    epochs_ : int
        The number with the least mean over inner folds of the mean squared error (of classes, of probabilities).
    model_ : sklearn.neural_network.MLPRegressor or MLPClassifier
    """

    def __init__(
        self,
        kind: Literal["continuous", "binary", "multiclass"] = "continuous",
        *,
        hidden: int = 64,
        epochs: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64),
        penalty: float = 1e-3,
        learning_rate: float = 1e-3,
        n_inner: int = 5,
        seed: int = 0,
    ) -> None:
        self.kind = kind
        self.hidden = hidden
        self.epochs = epochs
        self.penalty = penalty
        self.learning_rate = learning_rate
        self.n_inner = n_inner
        self.seed = seed

    def fit(self, X: ArrayLike, y: ArrayLike, folds: ArrayLike | None = None) -> Self:
        """Choose the number of epochs and train.

        Parameters
        ----------
        X : array, shape (n, d)
        y : array, shape (n,), or multiclass (n, n_classes)
        folds : array of int, shape (n,), optional
            Inner fold of every row; none: rows are dealt in turn, as if they were unrelated.

        Raises
        ------
        ValueError
            If shapes do not fit, values are not finite, or classes are not 0 and 1.
        """
        x = finite_matrix(X, "X")
        is_number = self.kind == "continuous"
        target = numeric_target(y, len(x)) if is_number else class_indicators(y, len(x), self.kind)
        labels = inner_folds(folds, len(x), self.n_inner)
        self.mean_, self.spread_ = 0.0, 1.0
        if is_number:
            self.mean_, self.spread_ = float(target.mean()), float(target.std()) or 1.0
        scaled = (target - self.mean_) / self.spread_
        asked = sorted(set(self.epochs))
        errors = []
        for label in np.unique(labels):
            test = labels == label
            after = enumerate(self._epochs(x[~test], scaled[~test], asked[-1]), start=1)
            guesses = [self._predict(model, x[test]) for epoch, model in after if epoch in asked]
            errors.append(np.square(np.stack(guesses) - scaled[test]).reshape(len(guesses), -1).mean(axis=1))
        self.epochs_ = int(asked[int(np.argmin(np.mean(errors, axis=0)))])
        *_, self.model_ = self._epochs(x, scaled, self.epochs_)
        return self

    def predict(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return predictions, shape (n,): in the target's unit, or the probability of 1; multiclass (n, n_classes)."""
        return self._predict(self.model_, finite_matrix(X, "X")) * self.spread_ + self.mean_

    def _epochs(self, x: NDArray, y: NDArray, count: int) -> Iterator[MLPRegressor | MLPClassifier]:
        """Yield the one model after each epoch."""
        kind, classes = MLPRegressor, {}
        if self.kind != "continuous":
            # columns of classes become codes
            y, n_classes = (y, 2) if y.ndim == 1 else (np.argmax(y, axis=1), y.shape[1])
            kind, classes = MLPClassifier, {"classes": np.arange(n_classes)}
        model = kind(
            hidden_layer_sizes=(self.hidden,),
            alpha=self.penalty,
            learning_rate_init=self.learning_rate,
            random_state=self.seed,
        )
        for _ in range(count):
            yield model.partial_fit(x, y, **classes)

    def _predict(self, model: MLPRegressor | MLPClassifier, x: NDArray) -> NDArray[np.float64]:
        if self.kind == "continuous":
            return np.asarray(model.predict(x), dtype=np.float64)
        found = np.asarray(model.predict_proba(x), dtype=np.float64)
        return found[:, 1] if self.kind == "binary" else found

"""Attention pooling: regions weighed by a trained query instead of averaged, trained together with the probe."""

from collections.abc import Iterator
from typing import Literal, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator

from boldstream.analysis.heads.inner import class_indicators, inner_folds, numeric_target


class _Model(NamedTuple):
    query: torch.Tensor
    weight: torch.Tensor
    offset: torch.Tensor


class AttentionHead(BaseEstimator):
    """A linear model of regions' latents, pooled by the softmax of their products with one query.

    The query starts at 0, where pooling is the mean, and the readout at 0; nothing is drawn, so a fit is the same every
    time. What is pooled is centred by region, or regions that are always alike would outweigh what differs between
    people; what the query sees is not, for it tells regions apart. Trained by Adam on all rows at once; the number of
    epochs is what regularises it, and it is chosen in the inner folds, as `mlp.MlpHead` chooses it.

    Parameters
    ----------
    kind : {"continuous", "binary", "multiclass"}
        Binary: the target is 0 and 1, the loss is the log loss. Multiclass: a column of 0 and 1 a class, with a readout
        each; one query pools for all.
    epochs : sequence of int
        Numbers to choose from; 0 is the mean of the target.
    learning_rate, penalty : float
        Of Adam; its weight decay.
    n_inner : int
        Inner folds where `fit` is given none.

    Attributes
    ----------
    epochs_ : int
    attention_ : array, shape (n_rois,)
        Mean weight of every region over the training rows; they sum to 1.
    """

    def __init__(
        self,
        kind: Literal["continuous", "binary", "multiclass"] = "continuous",
        *,
        epochs: tuple[int, ...] = (0, 10, 20, 40, 80, 160),
        learning_rate: float = 0.02,
        penalty: float = 0.01,
        n_inner: int = 5,
    ) -> None:
        self.kind = kind
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.penalty = penalty
        self.n_inner = n_inner

    def fit(self, X: ArrayLike, y: ArrayLike, folds: ArrayLike | None = None) -> Self:
        """Choose the number of epochs and train.

        Parameters
        ----------
        X : array, shape (n, n_rois, d)
        y : array, shape (n,), or multiclass (n, n_classes)
        folds : array of int, shape (n,), optional
            Inner fold of every row; none: rows are dealt in turn, as if they were unrelated.

        Raises
        ------
        ValueError
            If shapes do not fit, values are not finite, or classes are not 0 and 1.
        """
        x = checked_latents(X)
        is_number = self.kind == "continuous"
        target = numeric_target(y, len(x)) if is_number else class_indicators(y, len(x), self.kind)
        labels = inner_folds(folds, len(x), self.n_inner)
        asked = sorted(set(self.epochs))
        errors = [np.zeros(len(asked))]
        for label in np.unique(labels) if len(asked) > 1 else ():
            test = labels == label
            guesses = self._guesses(x[~test], target[~test], x[test], asked)
            errors.append(np.square(guesses - target[test]).reshape(len(asked), -1).mean(axis=1))
        self.epochs_ = int(asked[int(np.argmin(np.sum(errors, axis=0)))])
        *_, self.model_ = self._train(x, target, self.epochs_)
        self.attention_ = _weights(self._keys(x), self.model_.query).mean(dim=0).numpy().astype(np.float64)
        return self

    def predict(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return predictions, shape (n,): in the target's unit, or the probability of 1; multiclass (n, n_classes)."""
        return self._predict(self.model_, checked_latents(X))

    def _guesses(self, x: NDArray, y: NDArray, other: NDArray, asked: list[int]) -> NDArray[np.float64]:
        after = enumerate(self._train(x, y, asked[-1]))
        return np.stack([self._predict(model, other) for epoch, model in after if epoch in asked])

    def _train(self, x: NDArray[np.float32], y: NDArray[np.float64], count: int) -> Iterator[_Model]:
        """Learn how latents are scaled, and yield the model before the first epoch and after each."""
        self.centre_ = x.mean(axis=0)
        self.middle_ = self.centre_.mean(axis=0)
        self.spread_ = _positive((x - self.middle_).std(axis=(0, 1)))
        self.scale_ = _positive((x - self.centre_).mean(axis=1).std(axis=0))
        self.mean_, self.unit_ = 0.0, 1.0
        if self.kind == "continuous":
            self.mean_, self.unit_ = float(y.mean()), float(y.std()) or 1.0
        d, start = x.shape[2], self._start(y)
        parts = [torch.zeros(d), torch.zeros(d, *start.shape), torch.from_numpy(start)]
        model = _Model(*(part.requires_grad_() for part in parts))
        optimizer = torch.optim.AdamW(
            [{"params": model[:2], "weight_decay": self.penalty}, {"params": [model.offset], "weight_decay": 0.0}],
            lr=self.learning_rate,
        )
        keys, values = self._keys(x), self._values(x)
        target = torch.from_numpy(((y - self.mean_) / self.unit_).astype(np.float32))
        yield _detached(model)
        for _ in range(count):
            optimizer.zero_grad()
            out = _decide(model, keys, values)
            if self.kind == "multiclass":
                loss = torch.nn.functional.cross_entropy(out, target)
            elif self.kind == "binary":
                loss = torch.nn.functional.binary_cross_entropy_with_logits(out, target)
            else:
                loss = torch.nn.functional.mse_loss(out, target)
            loss.backward()
            optimizer.step()
            yield _detached(model)

    def _start(self, y: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return where the offset begins: at the target's mean, of classes at their shares."""
        mean = y.mean(axis=0)
        if self.kind == "binary":
            return np.asarray(np.log(mean / (1 - mean)), dtype=np.float32)
        if self.kind == "multiclass":
            # a class that has nobody here starts, and stays, as unlikely as can be told
            return np.log(np.maximum(mean, np.finfo(np.float32).tiny)).astype(np.float32)
        return np.zeros((), dtype=np.float32)

    def _keys(self, x: NDArray[np.float32]) -> torch.Tensor:
        return torch.from_numpy((x - self.middle_) / self.spread_)

    def _values(self, x: NDArray[np.float32]) -> torch.Tensor:
        return torch.from_numpy((x - self.centre_) / self.scale_)

    def _predict(self, model: _Model, x: NDArray[np.float32]) -> NDArray[np.float64]:
        out = _decide(model, self._keys(x), self._values(x))
        if self.kind == "multiclass":
            return np.asarray(torch.softmax(out, dim=1).numpy(), dtype=np.float64)
        if self.kind == "binary":
            return np.asarray(torch.sigmoid(out).numpy(), dtype=np.float64)
        return np.asarray(out.numpy(), dtype=np.float64) * self.unit_ + self.mean_


def _decide(model: _Model, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    pooled = (_weights(keys, model.query)[:, :, None] * values).sum(dim=1)
    return pooled @ model.weight + model.offset


def _weights(keys: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
    return torch.softmax(keys @ query / np.sqrt(len(query)), dim=1)


def _detached(model: _Model) -> _Model:
    return _Model(*(part.detach().clone() for part in model))


def _positive(spread: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.where(spread > 0, spread, 1.0).astype(np.float32)


def checked_latents(x: ArrayLike) -> NDArray[np.float32]:
    """Return regions' latents as the head takes them; ValueError for another shape and for values not finite."""
    found = np.asarray(x, dtype=np.float32)
    if found.ndim != 3 or 0 in found.shape:
        raise ValueError(f"regions' latents are (n, n_rois, d), got shape {found.shape}")
    if not np.isfinite(found).all():
        raise ValueError(f"regions' latents hold {int((~np.isfinite(found)).sum())} values that are NaN or infinite")
    return found

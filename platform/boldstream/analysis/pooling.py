"""Attention pooling as a step: a query trained on training rows, applied to any as it is."""

from collections.abc import Iterator
from typing import ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import TransformerMixin
from sklearn.utils.validation import check_is_fitted

from boldstream.analysis.fitted import Storable
from boldstream.analysis.heads.inner import inner_folds
from boldstream.analysis.metrics import indicators

BLOCK_BYTES = 64 << 20
"""Latents that are held in float64 at a time."""


class AttentionPooling(TransformerMixin, Storable):
    """Pool regions' latents to one vector by the softmax of their products with a query.

    The query is that of an `AttentionHead`, trained together with a readout that is thrown away. As in the head, what
    is pooled is centred by region; the mean over regions is added again, so that a query of 0 gives the mean itself,
    and vectors keep the latents' unit. Applied in float64 and row by row, so that a vector does not depend on what
    else is in a batch.

    **It looks at the target**, unlike all other steps: it has learnt by what the rows that it was fitted on are told
    apart. Inside folds it is fitted to training rows; elsewhere its rows must not be asked for its target.

    Parameters
    ----------
    kind : {"continuous", "binary", "multiclass"}
        Of the target; one query serves all of several classes.
    epochs : sequence of int, optional
        Numbers that the inner folds choose from; None: the head's own.
    n_inner : int
        Inner folds where `fit` is given none.

    Attributes
    ----------
    query_ : array, shape (d,)
        In the latents' unit, divided by the square root of d.
    centre_ : array, shape (n_rois, d)
        Mean of every region over the training rows.
    epochs_, n_train_ : int
    """

    arrays = ("query_", "centre_")
    values = ("epochs_", "n_train_")
    reads_target: ClassVar[bool] = True
    """`nested.predict_nested` gives the training rows' target, and their inner folds, to fronts that say so."""

    def __init__(
        self,
        kind: Literal["continuous", "binary", "multiclass"] = "continuous",
        *,
        epochs: tuple[int, ...] | None = None,
        n_inner: int = 5,
    ) -> None:
        self.kind = kind
        self.epochs = epochs
        self.n_inner = n_inner

    def fit(self, X: ArrayLike, y: ArrayLike, folds: ArrayLike | None = None) -> Self:
        """Train the query.

        Parameters
        ----------
        X : array, shape (n, n_rois, d)
        y : array, shape (n,)
            Numbers, or 0 and 1, or of several classes 0, 1, …; rows with NaN are left out.
        folds : array of int, shape (n,), optional
            Inner fold of every row; none: rows are dealt in turn, as if they were unrelated.

        Raises
        ------
        ValueError
            If shapes do not fit, values are not finite, or too few rows of a class have a value.
        """
        from boldstream.analysis.heads.attention import AttentionHead, checked_latents  # torch takes seconds to import

        x, target = checked_latents(X), np.asarray(y, dtype=np.float64)
        if target.shape != (len(x),):
            raise ValueError(f"y has shape {target.shape}, X has {len(x)} rows")
        labels, known = inner_folds(folds, len(x), self.n_inner), ~np.isnan(target)
        if not known.all():
            x, target, labels = x[known], target[known], labels[known]
        self._check_classes(target, labels)
        head = AttentionHead(self.kind, n_inner=self.n_inner)
        if self.epochs is not None:
            head.set_params(epochs=self.epochs)
        head.fit(x, indicators(target, int(target.max()) + 1) if self.kind == "multiclass" else target, labels)
        query = head.model_.query.numpy().astype(np.float64)
        # the head also centres what the query sees; that adds the same to all regions, which a softmax does not notice
        self.query_ = query / head.spread_ / np.sqrt(len(query))
        self.centre_ = head.centre_.astype(np.float64)
        self.epochs_, self.n_train_, self.n_features_in_ = head.epochs_, len(x), int(self.centre_.size)
        return self

    def fit_transform(self, X: ArrayLike, y: ArrayLike, folds: ArrayLike | None = None) -> NDArray[np.float32]:
        """Train the query and return the pooled rows."""
        return self.fit(X, y, folds).transform(X)

    def transform(self, X: ArrayLike) -> NDArray[np.float32]:
        """Return the rows pooled, shape (n, d).

        Raises
        ------
        ValueError
            If there are other regions or dimensions than in training, or values are not finite.
        """
        check_is_fitted(self)
        x = np.asarray(X)
        if x.ndim != 3 or x.shape[1:] != self.centre_.shape:
            wanted, found = (" x ".join(map(str, shape)) for shape in (self.centre_.shape, x.shape[1:]))
            raise ValueError(f"regions' latents are {found} (regions x dimensions), the query was trained on {wanted}")
        pooled = np.empty((len(x), x.shape[2]), dtype=np.float32)
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is found below
            for rows in _blocks(*x.shape):
                pooled[rows] = self._pool(x[rows].astype(np.float64))
        if not (finite := np.isfinite(pooled).all(axis=1)).all():
            raise ValueError(f"regions' latents of {int((~finite).sum())} of {len(x)} rows hold NaN or infinite values")
        return pooled

    def _pool(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        scores = x @ self.query_
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        weights /= weights.sum(axis=1, keepdims=True)
        return (weights[:, None, :] @ (x - self.centre_))[:, 0] + self.centre_.mean(axis=0)

    def _check_classes(self, target: NDArray[np.float64], labels: NDArray[np.int64]) -> None:
        """Refuse what the head cannot choose in: an inner fold that leaves a class nobody to learn from."""
        if self.kind == "continuous":
            if len(target) < 2 or len(np.unique(labels)) < 2:
                raise ValueError(f"{len(target)} rows with a value are too few for a query to be trained on")
            return
        n_classes = max(2, int(target.max(initial=0)) + 1)
        for label in np.unique(labels):
            if len(np.unique(target[labels != label])) < n_classes:
                n = " and ".join(str(int((target == code).sum())) for code in range(n_classes))
                which = "two" if n_classes == 2 else n_classes
                raise ValueError(f"{n} rows of {which} classes are too few for a query to be trained on")


def _blocks(n_rows: int, n_rois: int, n_dims: int) -> Iterator[slice]:
    step = max(1, BLOCK_BYTES // (8 * n_rois * n_dims))
    for first in range(0, n_rows, step):
        yield slice(first, first + step)

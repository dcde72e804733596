"""Nested cross-validation: what a head predicts of scans that it, and all in front of it, was not fitted on."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from boldstream.analysis.folds import FoldSet, Split
from boldstream.analysis.metrics import (
    as_codes,
    as_target,
    auc,
    auprc,
    balanced_accuracy,
    brier,
    brier_of_classes,
    indicators,
    macro_auc,
    macro_auprc,
    macro_recall,
    pearson,
    r2,
)

TargetKind = Literal["continuous", "binary", "multiclass"]
"""Numbers, two classes, or three and more."""


class Predictions(NamedTuple):
    """Predictions out of fold, every row once a repeat; rows come first, so that a bootstrap can draw them.

    Attributes
    ----------
    folds_id : str
        Of the fold set: compare predictions of the same one only.
    y : array, shape (n,), float64
        The target; of two classes, 1 for the second in sorted order; of several, 0, 1, … in sorted order.
    predicted : array, shape (n, n_repeats), float64
        In the target's unit; of two classes a decision value, above 0 for the second at equal shares. Of several,
        (n, n_repeats, n_classes): decision values, the largest being the class decided for at equal shares; each ranks
        the rows of a fold by how much they are of its class.
    null : array, shape (n, n_repeats), float64
        Mean of the training fold's target: of two classes, the second one's share; of several, (…, n_classes): all
        shares.
    probability : array, shape (n, n_repeats), float64
        Of the second class; of several, (…, n_classes): of each; NaN for numbers.
    fold : array, shape (n, n_repeats), int64
    """

    folds_id: str
    y: NDArray[np.float64]
    predicted: NDArray[np.float64]
    null: NDArray[np.float64]
    probability: NDArray[np.float64]
    fold: NDArray[np.int64]

    @property
    def arrays(self) -> tuple[NDArray, ...]:
        """What the functions of `METRICS` take, in their order."""
        return self[1:]


Metric = Callable[..., float]


def _over_repeats(one: Callable[..., float]) -> Metric:
    """Return the mean over repeats of a metric of one repeat's columns."""

    def metric(y: NDArray, *columns: NDArray) -> float:
        return float(np.mean([one(y, *(column[:, at] for column in columns)) for at in range(columns[0].shape[1])]))

    return metric


ERRORS = ("mae", "brier")
"""Metrics of which less is better."""

METRICS: Mapping[TargetKind, Mapping[str, Metric]] = {
    "continuous": {
        "r2": _over_repeats(lambda y, predicted, null, chance, fold: r2(y, predicted, null)),
        "r": _over_repeats(lambda y, predicted, null, chance, fold: pearson(y, predicted, null)),
        "mae": _over_repeats(lambda y, predicted, null, chance, fold: float(np.abs(y - predicted).mean())),
    },
    "binary": {
        "auroc": _over_repeats(lambda y, predicted, null, chance, fold: auc(y, predicted, fold)),
        "balanced_accuracy": _over_repeats(lambda y, predicted, null, chance, fold: balanced_accuracy(y, predicted)),
        "auprc": _over_repeats(lambda y, predicted, null, chance, fold: auprc(y, predicted)),
        "brier": _over_repeats(lambda y, predicted, null, chance, fold: brier(y, chance)),
    },
    "multiclass": {
        "auroc": _over_repeats(lambda y, predicted, null, chance, fold: macro_auc(y, predicted, fold)),
        "balanced_accuracy": _over_repeats(lambda y, predicted, null, chance, fold: macro_recall(y, predicted)),
        "auprc": _over_repeats(lambda y, predicted, null, chance, fold: macro_auprc(y, predicted)),
        "brier": _over_repeats(lambda y, predicted, null, chance, fold: brier_of_classes(y, chance)),
    },
}
"""Metrics of `Predictions.arrays`, the first of each kind being the one that p values are of.

R2 and r are against the training folds' means, AUROC compares rows of one fold, AUPRC all of a repeat. Of several
classes, AUROC and AUPRC are means over classes, each against the rest.
"""


def predict_nested(
    x: Any,
    y: ArrayLike,
    folds: FoldSet,
    head: Any,
    *,
    kind: TargetKind,
    front: Any = None,
    covariates: pd.DataFrame | None = None,
) -> Predictions:
    """Predict every scan by a head fitted without it; front and head are cloned and fitted in every training fold.

    The front sees no target, unless it says so (`reads_target`, of attention pooling): then that of the training rows,
    and their inner folds. It is fitted once an outer training fold, not again in each inner one: that can shift which
    penalty is chosen, and nothing of a test row is in it either way.

    Parameters
    ----------
    x : array, shape (n, d), or DataFrame, or sequence of n
        What the front takes (vectors, or one time series a scan).
    y : array, shape (n,)
        Numbers, or classes.
    folds : FoldSet
        Of the same n scans in the same order.
    head : estimator
        With ``fit(X, y, folds)``. For classes a classifier, or a regressor, which then predicts 0 and 1, of several
        classes in a column each.
    kind : {"continuous", "binary", "multiclass"}
    front : transformer, optional
        Any scikit-learn transformer: scaling, features, adjustment.
    covariates : DataFrame, n rows, optional
        Passed to the front's ``fit`` and ``transform`` as ``covariates``, if given.

    Raises
    ------
    ValueError
        If rows do not fit the fold set, the target does not fit its kind, or a training fold lacks a class.
    """
    target = target_of(y, kind, len(folds.keys))
    check_rows(x, covariates, folds)
    n_classes = int(target.max()) + 1
    shape = (len(target), folds.n_repeats, *([n_classes] if kind == "multiclass" else []))
    predicted, null = np.empty(shape), np.empty(shape)
    probability = np.full(shape, np.nan)
    for split in folds.splits():
        inside = target[split.train]
        train, test = fronted(x, inside, split, front, covariates)
        at = (split.test, split.repeat)
        fitted, null[at] = fit_rows(head, train, inside, split.inner, kind, n_classes)
        predicted[at], probability[at] = predict_rows(fitted, test, kind, null[at][:1])
    return Predictions(folds.id, target, predicted, null, probability, folds.outer.T)


def target_of(y: ArrayLike, kind: TargetKind, n_rows: int) -> NDArray[np.float64]:
    """Return a target as `Predictions` has it; ValueError where it does not fit its kind."""
    if kind == "multiclass":
        return as_codes(y, n_rows)
    return as_target(y, "logistic" if kind == "binary" else "ridge", n_rows)


def fit_rows(
    head: Any, rows: Any, target: NDArray[np.float64], labels: NDArray[np.int64], kind: TargetKind, n_classes: int
) -> tuple[Any, float | NDArray[np.float64]]:
    """Return a head that is fitted to rows, and the mean of their target: of several classes, all shares.

    Parameters
    ----------
    head : estimator
        It is cloned.
    rows : array, shape (n, d)
    target : array, shape (n,)
        Of classes their codes.
    labels : array of int, shape (n,)
        Inner folds.
    kind : {"continuous", "binary", "multiclass"}
    n_classes : int
        Of all rows, those that are predicted included.

    Raises
    ------
    ValueError
        If of several classes one has no row here, and the head is a classifier.
    """
    if kind != "multiclass":
        return clone(head).fit(rows, target, labels), float(target.mean())
    shown = indicators(target, n_classes)
    share = shown.mean(axis=0)
    if not _is_classifier(head):
        return clone(head).fit(rows, shown, labels), share
    if (share == 0).any():
        raise ValueError(f"no row of a training fold is of class {int(np.argmin(share))} (in sorted order, from 0)")
    return clone(head).fit(rows, target, labels), share


def predict_rows(
    fitted: Any, rows: Any, kind: TargetKind, share: float | NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return what a fitted head predicts of rows, and probabilities, as `Predictions` has them.

    Parameters
    ----------
    fitted : estimator
    rows : array, shape (n, d)
    kind : {"continuous", "binary", "multiclass"}
    share : float, or array, shape (n_classes,)
        Mean of the training target: of two classes, the second one's share; of several, all shares.
    """
    if kind != "continuous" and _is_classifier(fitted):
        probability = np.asarray(fitted.predict_proba(rows))
        return np.asarray(fitted.decision_function(rows)), probability[:, 1] if kind == "binary" else probability
    predicted = np.asarray(fitted.predict(rows), dtype=np.float64)
    if kind == "multiclass":
        return over_share(predicted, share), as_probabilities(predicted, share)
    if kind == "binary":
        return predicted - share, np.clip(predicted, 0.0, 1.0)
    return predicted, np.full(len(predicted), np.nan)


def score(predictions: Predictions, kind: TargetKind) -> dict[str, float]:
    """Return all metrics of the kind, each the mean over repeats."""
    return {name: metric(*predictions.arrays) for name, metric in METRICS[kind].items()}


def _is_classifier(head: Any) -> bool:
    return hasattr(head, "predict_proba")


def over_share(predicted: NDArray[np.float64], share: ArrayLike) -> NDArray[np.float64]:
    """Return by how much, relative to it, predictions of classes, (..., n_classes), exceed their training share.

    The largest is the class whose rows are likeliest to look so, were all equally frequent. Of a class that had no row,
    nothing is known: 0.
    """
    shares = np.asarray(share, dtype=np.float64)
    return np.where(shares > 0, predicted / np.where(shares > 0, shares, 1.0) - 1.0, 0.0)


def as_probabilities(predicted: NDArray[np.float64], share: ArrayLike) -> NDArray[np.float64]:
    """Return what regressors predict of classes, (..., n_classes), as probabilities: none below 0, their sum 1."""
    kept = np.maximum(predicted, 0.0)
    total = kept.sum(axis=-1, keepdims=True)
    return np.where(total > 0, kept / np.where(total > 0, total, 1.0), share)


def check_rows(x: Any, covariates: pd.DataFrame | None, folds: FoldSet) -> None:
    """Refuse rows that are not the fold set's; ValueError."""
    for name, rows in (("x", x), ("covariates", covariates)):
        if rows is not None and len(rows) != len(folds.keys):
            raise ValueError(f"{name} has {len(rows)} rows, {folds.id} is of {len(folds.keys)} scans")


def reads_target(front: Any) -> bool:
    """Say whether a front is fitted with the target; a pipeline's parts are not asked."""
    return bool(getattr(front, "reads_target", False))


def fronted(
    x: Any, inside: NDArray[np.float64], split: Split, front: Any, covariates: pd.DataFrame | None
) -> tuple[Any, Any]:
    """Return training and test rows of an outer fold behind a front fitted to the training rows, of target `inside`."""
    train, test = _take(x, split.train), _take(x, split.test)
    if front is None:
        return train, test
    told = {"y": inside, "folds": split.inner} if reads_target(front) else {}
    if covariates is None:
        fitted = clone(front).fit(train, **told)
        return fitted.transform(train), fitted.transform(test)
    beside = covariates.iloc[split.train]
    fitted = clone(front).fit(train, **told, covariates=beside)
    return fitted.transform(train, covariates=beside), fitted.transform(test, covariates=covariates.iloc[split.test])


def _take(x: Any, rows: NDArray[np.int64]) -> Any:
    if isinstance(x, np.ndarray):
        return x[rows]
    if isinstance(x, pd.DataFrame):
        return x.iloc[rows]
    taken: Sequence[Any] = [x[row] for row in rows]
    return taken

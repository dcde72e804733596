"""Nested cross-validation: what a head predicts of scans that it, and all in front of it, was not fitted on."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from boldstream.analysis.folds import FoldSet, Split
from boldstream.analysis.metrics import as_target, auc, auprc, balanced_accuracy, brier, pearson, r2
from boldstream.analysis.permutations import permutation_p

TargetKind = Literal["continuous", "binary"]


class Predictions(NamedTuple):
    """Predictions out of fold, every row once a repeat; rows come first, so that a bootstrap can draw them.

    Attributes
    ----------
    folds_id : str
        Of the fold set: compare predictions of the same one only.
    y : array, shape (n,), float64
        The target; of two classes, 1 for the second in sorted order.
    predicted : array, shape (n, n_repeats), float64
        In the target's unit; of two classes a decision value, above 0 for the second at equal shares.
    null : array, shape (n, n_repeats), float64
        Mean of the training fold's target: of two classes, the second one's share.
    probability : array, shape (n, n_repeats), float64
        Of the second class; NaN for numbers.
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
}
"""Metrics of `Predictions.arrays`, the first of each kind being the one that p values are of.

R2 and r are against the training folds' means, AUROC compares rows of one fold, AUPRC all of a repeat.
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
        Numbers, or two classes.
    folds : FoldSet
        Of the same n scans in the same order.
    head : estimator
        With ``fit(X, y, folds)``. For two classes a classifier, or a regressor, which then predicts 0 and 1.
    kind : {"continuous", "binary"}
    front : transformer, optional
        Any scikit-learn transformer: scaling, features, adjustment.
    covariates : DataFrame, n rows, optional
        Passed to the front's ``fit`` and ``transform`` as ``covariates``, if given.

    Raises
    ------
    ValueError
        If rows do not fit the fold set, or the target does not fit its kind.
    """
    target = as_target(y, "logistic" if kind == "binary" else "ridge", len(folds.keys))
    _check_rows(x, covariates, folds)
    shape = (len(target), folds.n_repeats)
    predicted, null = np.empty(shape), np.empty(shape)
    probability = np.full(shape, np.nan)
    for split in folds.splits():
        inside = target[split.train]
        train, test = _fronted(x, inside, split, front, covariates)
        at = (split.test, split.repeat)
        fitted = clone(head).fit(train, inside, split.inner)
        null[at] = inside.mean()
        predicted[at], probability[at] = predict_rows(fitted, test, kind, float(inside.mean()))
    return Predictions(folds.id, target, predicted, null, probability, folds.outer.T)


def predict_rows(
    fitted: Any, rows: Any, kind: TargetKind, share: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return what a fitted head predicts of rows, and probabilities, as `Predictions` has them.

    Parameters
    ----------
    fitted : estimator
    rows : array, shape (n, d)
    kind : {"continuous", "binary"}
    share : float
        Mean of the training target: of two classes, the second one's share.
    """
    if kind == "binary" and hasattr(fitted, "predict_proba"):
        return np.asarray(fitted.decision_function(rows)), np.asarray(fitted.predict_proba(rows)[:, 1])
    predicted = np.asarray(fitted.predict(rows), dtype=np.float64)
    if kind == "binary":
        return predicted - share, np.clip(predicted, 0.0, 1.0)
    return predicted, np.full(len(predicted), np.nan)


def score(predictions: Predictions, kind: TargetKind) -> dict[str, float]:
    """Return all metrics of the kind, each the mean over repeats."""
    return {name: metric(*predictions.arrays) for name, metric in METRICS[kind].items()}


def permutation_null(
    x: Any,
    targets: NDArray[np.float64],
    folds: FoldSet,
    head: Any,
    *,
    kind: TargetKind,
    metric: str | None = None,
    front: Any = None,
    covariates: pd.DataFrame | None = None,
) -> NDArray[np.float64]:
    """Return the scores of the whole pipeline on permuted targets.

    A ridge, or kernel ridge, takes permuted targets as further columns: fronts and decompositions depend on the vectors
    and the folds only, so each is done once. Other heads, and all behind a front that reads the target, are fitted anew
    for every permutation. Folds stay as they are.

    Parameters
    ----------
    targets : array, shape (n, n_permutations)
        From `permutations.permuted_targets`; of two classes 0 and 1.
    metric : str, optional
        A name of `METRICS`; by default the first of the kind.
    x, folds, head, kind, front, covariates
        As `predict_nested` takes them.

    Raises
    ------
    ValueError
        As `predict_nested`.
    """
    measure = METRICS[kind][metric or next(iter(METRICS[kind]))]
    if not getattr(head, "targets_are_independent", False) or reads_target(front):
        options: dict[str, Any] = {"kind": kind, "front": front, "covariates": covariates}
        return np.array([measure(*predict_nested(x, y, folds, head, **options).arrays) for y in targets.T])
    _check_rows(x, covariates, folds)
    n, n_targets = targets.shape
    predicted = np.empty((n, folds.n_repeats, n_targets))
    null = np.empty_like(predicted)
    for split in folds.splits():
        inside = targets[split.train]
        train, test = _fronted(x, inside, split, front, covariates)
        predicted[split.test, split.repeat] = clone(head).fit(train, inside, split.inner).predict(test)
        null[split.test, split.repeat] = inside.mean(axis=0)
    scores = []
    for at in range(n_targets):
        guess, share, chance = predicted[..., at], null[..., at], np.full((n, folds.n_repeats), np.nan)
        if kind == "binary":
            guess, chance = guess - share, np.clip(guess, 0.0, 1.0)
        scores.append(measure(targets[:, at], guess, share, chance, folds.outer.T))
    return np.array(scores)


def permutation_test(predictions: Predictions, null: ArrayLike, kind: TargetKind, metric: str | None = None) -> float:
    """Return the p value of a score among those of `permutation_null`; for errors (MAE, Brier), low is good."""
    name = metric or next(iter(METRICS[kind]))
    sign = -1.0 if name in ERRORS else 1.0
    return permutation_p(sign * METRICS[kind][name](*predictions.arrays), sign * np.asarray(null, dtype=np.float64))


def _check_rows(x: Any, covariates: pd.DataFrame | None, folds: FoldSet) -> None:
    for name, rows in (("x", x), ("covariates", covariates)):
        if rows is not None and len(rows) != len(folds.keys):
            raise ValueError(f"{name} has {len(rows)} rows, {folds.id} is of {len(folds.keys)} scans")


def reads_target(front: Any) -> bool:
    """Say whether a front is fitted with the target; a pipeline's parts are not asked."""
    return bool(getattr(front, "reads_target", False))


def _fronted(
    x: Any, inside: NDArray[np.float64], split: Split, front: Any, covariates: pd.DataFrame | None
) -> tuple[Any, Any]:
    """Return training and test rows behind a front fitted to the training rows, whose target is `inside`."""
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

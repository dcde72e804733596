"""What the whole pipeline scores on permuted targets, and how likely its score is among these."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from boldstream.analysis.folds import FoldSet
from boldstream.analysis.metrics import indicators
from boldstream.analysis.nested import (
    ERRORS,
    METRICS,
    Metric,
    Predictions,
    TargetKind,
    as_probabilities,
    check_rows,
    fronted,
    over_share,
    predict_nested,
    reads_target,
)
from boldstream.analysis.permutations import permutation_p

MOST_AT_ONCE = 2**26
"""Numbers that permutations of several classes may hold at a time, 0.5 GB; more are permuted in turns."""


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
        From `permutations.permuted_targets`; of classes 0, 1, …
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
    check_rows(x, covariates, folds)
    if kind == "multiclass":
        return _null_of_classes(x, targets, folds, head, measure, front, covariates)
    n, n_targets = targets.shape
    predicted = np.empty((n, folds.n_repeats, n_targets))
    null = np.empty_like(predicted)
    for split in folds.splits():
        inside = targets[split.train]
        train, test = fronted(x, inside, split, front, covariates)
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


def _null_of_classes(
    x: Any, targets: NDArray[np.float64], folds: FoldSet, head: Any, measure: Metric, front: Any, covariates: Any
) -> NDArray[np.float64]:
    """Return the scores of permuted classes, every class of every permutation being a column of one fit."""
    n, n_targets = targets.shape
    n_classes = int(targets.max()) + 1
    most = max(1, MOST_AT_ONCE // (n * folds.n_repeats * n_classes))
    scores: list[float] = []
    for first in range(0, n_targets, most):
        codes = targets[:, first : first + most]
        shown = indicators(codes, n_classes)
        predicted, null = (np.empty((n, folds.n_repeats, *shown.shape[1:])) for _ in range(2))
        for split in folds.splits():
            inside = shown[split.train]
            train, test = fronted(x, inside, split, front, covariates)
            fitted = clone(head).fit(train, inside.reshape(len(inside), -1), split.inner)
            predicted[split.test, split.repeat] = fitted.predict(test).reshape(-1, *shown.shape[1:])
            null[split.test, split.repeat] = inside.mean(axis=0)
        for at in range(codes.shape[1]):
            guess, share = predicted[:, :, at], null[:, :, at]
            chance = as_probabilities(guess, share)
            scores.append(measure(codes[:, at], over_share(guess, share), share, chance, folds.outer.T))
    return np.array(scores)

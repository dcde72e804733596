"""Linear probes on frozen vectors: what can be read from them, fitted in training folds only."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold, StratifiedKFold
from sklearn.preprocessing import StandardScaler

from boldstream.analysis.heads.linear_classifiers import LogisticHead
from boldstream.analysis.heads.ridge import ALPHAS, RidgeHead
from boldstream.analysis.heads.span import RowSpan
from boldstream.analysis.metrics import Kind, as_target, scores
from boldstream.analysis.quality import finite_matrix

N_INNER = 3
"""Inner folds in which a logistic probe chooses."""

N_INNER_RIDGE = 5
"""Inner folds in which a ridge probe chooses."""


class OutOfFold(NamedTuple):
    """Predictions of rows that were not trained on.

    Attributes
    ----------
    predicted : array, shape (n,), float64
        Ridge: in the target's unit. Logistic: decision values, positive for the second class in sorted order.
    null_predicted : array, shape (n,), float64
        What knowing nothing of a row predicts. Ridge: its training fold's mean. Logistic: 0, as classes are balanced.
    folds : array, shape (n,), int64
        In which fold every row was left out.
    """

    predicted: NDArray[np.float64]
    null_predicted: NDArray[np.float64]
    folds: NDArray[np.int64]


def out_of_fold(
    x: ArrayLike, y: ArrayLike, groups: ArrayLike, *, kind: Kind, n_folds: int = 5, seed: int = 0
) -> OutOfFold:
    """Predict every row by a probe that was fitted without its group.

    Groups (sites, say) are dealt to folds at random; with fewer groups than `n_folds`, every group is a fold. Scaling,
    penalty and coefficients come from the training fold. Penalties are chosen in inner folds that keep groups together
    too (one group left: by rows), or a probe would choose for sites that it knows: a ridge by the squared
    error; a logistic probe, with balanced classes, by the area under the ROC curve, as a log loss would choose by how
    sites are offset.

    Parameters
    ----------
    x : array, shape (n, d)
        Vectors; d may be far larger than n.
    y : array, shape (n,)
        Target: numbers for a ridge, two classes for a logistic probe.
    groups : array, shape (n,)
        Name of every row's group.
    kind : {"ridge", "logistic"}
    n_folds, seed : int
        Number of folds, and the seed by which groups are dealt to them.

    Raises
    ------
    ValueError
        If shapes do not fit, values are missing or not finite, there are fewer than two groups, the target is
        constant or has not two classes, or a training fold has one class only.
    """
    features, names = finite_matrix(x, "x"), _names(groups, len(np.atleast_1d(y)))
    target = as_target(y, kind, len(features))
    n_groups = len(np.unique(names))
    if n_groups < 2 or n_folds < 2:
        raise ValueError(f"{n_groups} group(s) in {n_folds} fold(s); out-of-fold predictions need at least 2 of each")
    predicted, null, folds = np.empty(len(target)), np.zeros(len(target)), np.empty(len(target), dtype=np.int64)
    splits = GroupKFold(min(n_folds, n_groups), shuffle=True, random_state=seed).split(features, target, names)
    for fold, (train, test) in enumerate(splits):
        folds[test] = fold
        predicted[test] = _fit_predict(features[train], target[train], names[train], features[test], kind, seed)
        if kind == "ridge":
            null[test] = target[train].mean()
    return OutOfFold(predicted, null, folds)


def held_out(
    train_x: ArrayLike,
    train_y: ArrayLike,
    test_x: ArrayLike,
    test_y: ArrayLike,
    kind: Kind,
    *,
    train_groups: ArrayLike | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """Fit a probe on some rows and return its `scores` on others, R2 against the training rows' mean.

    Parameters
    ----------
    train_x, test_x : array, shape (n, d)
    train_y, test_y : array, shape (n,)
    kind : {"ridge", "logistic"}
    train_groups : array, shape (n,), optional
        Rows that inner folds keep together; none: every row alone.
    seed : int
        Deals rows or groups to inner folds.

    Raises
    ------
    ValueError
        As `out_of_fold` and `scores`, and if training and test rows differ in dimensions or classes.
    """
    train, test = finite_matrix(train_x, "train_x"), finite_matrix(test_x, "test_x")
    if train.shape[1] != test.shape[1]:
        raise ValueError(f"train_x has {train.shape[1]} dimensions, test_x {test.shape[1]}")
    target, truth = as_target(train_y, kind, len(train)), np.asarray(test_y)
    if kind == "logistic":
        as_target(truth, kind, len(test))
        known, asked = np.unique(np.asarray(train_y)).tolist(), np.unique(truth).tolist()
        if known != asked:
            raise ValueError(f"test_y has the classes {asked}, train_y {known}; both need the same two")
    names = np.arange(len(train)) if train_groups is None else _names(train_groups, len(train))
    predicted = _fit_predict(train, target, names, test, kind, seed)
    return scores(truth, predicted, kind, baseline=target.mean() if kind == "ridge" else None)


def _fit_predict(
    train_x: NDArray[np.float64],
    train_y: NDArray[np.float64],
    groups: NDArray,
    test_x: NDArray[np.float64],
    kind: Kind,
    seed: int,
) -> NDArray[np.float64]:
    scaler = StandardScaler().fit(train_x)
    train, test = scaler.transform(train_x), scaler.transform(test_x)
    if kind == "logistic":
        _check_classes(train_y)
        folds = _strength_folds(train_y, groups, seed)
        return LogisticHead(balanced=True).fit(train, train_y, folds).decision_function(test)
    labels = _ridge_folds(train_y, groups, seed)
    if labels is not None:
        return RidgeHead().fit(train, train_y, labels).predict(test)
    span = RowSpan().fit(train / np.sqrt(train.shape[1]))
    train, test = (span.transform(x / np.sqrt(train_x.shape[1])) for x in (train, test))
    return np.asarray(RidgeCV(ALPHAS, scoring="neg_mean_squared_error").fit(train, train_y).predict(test))


def _ridge_folds(y: NDArray[np.float64], groups: NDArray, seed: int) -> NDArray[np.int64] | None:
    """Return the inner fold of every row; None, for leave-one-out, where every row is a group or all are one."""
    n_groups = len(np.unique(groups))
    if n_groups in (1, len(y)):
        return None
    inner = GroupKFold(min(N_INNER_RIDGE, n_groups), shuffle=True, random_state=seed)
    return _labels(inner.split(y, y, groups), len(y))


def _strength_folds(y: NDArray[np.float64], groups: NDArray, seed: int) -> NDArray[np.int64]:
    """Return the inner fold of every row in which a logistic probe chooses."""
    n_groups = len(np.unique(groups))
    n_inner = min(N_INNER, n_groups if n_groups > 1 else N_INNER, *np.bincount(y.astype(int)))
    if n_inner < 2:
        raise ValueError("a training fold has one row of a class; a logistic probe needs 2 to choose its penalty")
    if n_groups > 1:
        folds = list(StratifiedGroupKFold(n_inner, shuffle=True, random_state=seed).split(y, y, groups))
    else:
        folds = list(StratifiedKFold(n_inner, shuffle=True, random_state=seed).split(y, y))
    # with at most three folds this also means that one of them tests both classes
    for train, _ in folds:
        _check_classes(y[train])
    return _labels(folds, len(y))


def _labels(folds: Iterable[tuple[NDArray, NDArray]], n_rows: int) -> NDArray[np.int64]:
    labels = np.empty(n_rows, dtype=np.int64)
    for fold, (_, test) in enumerate(folds):
        labels[test] = fold
    return labels


def _names(groups: ArrayLike, n_rows: int) -> NDArray:
    names = np.asarray(groups)
    if names.shape != (n_rows,):
        raise ValueError(f"groups have shape {names.shape}, there are {n_rows} rows")
    if pd.isna(names).any():
        raise ValueError(f"the group is missing in {int(pd.isna(names).sum())} rows; leave these rows out")
    return names


def _check_classes(y: NDArray[np.float64]) -> None:
    if len(np.unique(y)) < 2:
        raise ValueError("a training fold has one class only; use fewer folds, or groups that hold both classes")

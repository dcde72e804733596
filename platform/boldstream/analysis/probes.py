"""Linear probes on frozen vectors: what can be read from them, fitted in training folds only."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold, StratifiedKFold
from sklearn.preprocessing import StandardScaler

from boldstream.analysis.metrics import Kind, as_target, auc, scores
from boldstream.analysis.quality import finite_matrix

ALPHAS = np.logspace(-4, 4, 25)
"""Penalties a ridge probe chooses from; rows have a mean square length of 1, so they suit any number of dimensions."""

STRENGTHS = np.logspace(-2, 3, 6)
"""Inverse penalties that a logistic probe chooses from, for the same rows."""

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
    train, test = _scaled(train_x, test_x)
    if kind == "ridge":
        inner = _ridge_folds(train_y, groups, seed)
        ridge = RidgeCV(ALPHAS, cv=inner, scoring="neg_mean_squared_error").fit(train, train_y)
        return np.asarray(ridge.predict(test), dtype=np.float64)
    _check_classes(train_y)
    return _decide(train, train_y, test, _choose_strength(train, train_y, groups, seed))


def _scaled(train: NDArray[np.float64], test: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Standardise by the training rows to a mean square length of 1; where dimensions outnumber them, keep their span.

    Coefficients with a square penalty are combinations of the training rows, so rotating these into as many
    dimensions as there are rows leaves all predictions as they were.
    """
    n_rows, n_dims = train.shape
    scaler = StandardScaler().fit(train)
    a, b = (scaler.transform(x) / np.sqrt(n_dims) for x in (train, test))
    if n_dims <= n_rows:
        return a, b
    values, vectors = np.linalg.eigh(a @ a.T)
    kept = values > values[-1] * n_rows * np.finfo(np.float64).eps
    if not kept.any():  # constant features
        return np.zeros((n_rows, 1)), np.zeros((len(b), 1))
    axes, lengths = vectors[:, kept], np.sqrt(values[kept])
    return axes * lengths, (b @ a.T) @ (axes / lengths)


def _ridge_folds(
    y: NDArray[np.float64], groups: NDArray, seed: int
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]] | None:
    """Return the inner folds of a ridge probe; None, for leave-one-out, where every row is a group or all are one."""
    n_groups = len(np.unique(groups))
    if n_groups in (1, len(y)):
        return None
    inner = GroupKFold(min(N_INNER_RIDGE, n_groups), shuffle=True, random_state=seed)
    return list(inner.split(y, y, groups))


def _choose_strength(x: NDArray[np.float64], y: NDArray[np.float64], groups: NDArray, seed: int) -> float:
    """Return the inverse penalty with the largest area under the ROC curve in inner folds; the smallest of equals."""
    n_groups = len(np.unique(groups))
    n_inner = min(N_INNER, n_groups if n_groups > 1 else N_INNER, *np.bincount(y.astype(int)))
    if n_inner < 2:
        raise ValueError("a training fold has one row of a class; a logistic probe needs 2 to choose its penalty")
    if n_groups > 1:
        folds = list(StratifiedGroupKFold(n_inner, shuffle=True, random_state=seed).split(x, y, groups))
    else:
        folds = list(StratifiedKFold(n_inner, shuffle=True, random_state=seed).split(x, y))
    # with at most three folds this also means that one of them tests both classes
    for train, _ in folds:
        _check_classes(y[train])
    found = []
    for strength in STRENGTHS:
        decision, of = np.empty(len(y)), np.empty(len(y), dtype=np.int64)
        for fold, (train, test) in enumerate(folds):
            decision[test], of[test] = _decide(x[train], y[train], x[test], strength), fold
        found.append(auc(y, decision, of))
    return float(STRENGTHS[int(np.argmax(found))])


def _decide(
    x: NDArray[np.float64], y: NDArray[np.float64], asked: NDArray[np.float64], strength: float
) -> NDArray[np.float64]:
    model = LogisticRegression(C=strength, class_weight="balanced", max_iter=10_000).fit(x, y)
    return np.asarray(model.decision_function(asked), dtype=np.float64)


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

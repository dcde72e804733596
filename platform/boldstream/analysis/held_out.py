"""A probe that is fitted to some scans and asked of others, as trainings ask it of their monitored scans."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.preprocessing import StandardScaler

from boldstream.analysis.folds import nested_folds
from boldstream.analysis.heads.catalog import make_head
from boldstream.analysis.metrics import Kind, as_target
from boldstream.analysis.nested import Predictions, TargetKind, predict_rows, score
from boldstream.analysis.quality import finite_matrix

N_INNER = 5
"""Inner folds in which the probe chooses its penalty."""


def held_out(
    train_x: ArrayLike, train_y: ArrayLike, test_x: ArrayLike, test_y: ArrayLike, kind: TargetKind, *, seed: int = 0
) -> dict[str, float]:
    """Fit a probe to some scans and return its `nested.score` on others, R2 against the training scans' mean.

    A ridge for numbers, a logistic probe for two classes, each as the probe room has it: standardised, its penalty
    chosen in inner folds that are even in the target. Every row is taken for a subject.

    Parameters
    ----------
    train_x, test_x : array, shape (n, d)
    train_y, test_y : array, shape (n,)
    kind : {"continuous", "binary"}
    seed : int
        Deals rows to inner folds.

    Raises
    ------
    ValueError
        If shapes do not fit, values are missing or not finite, a target is constant, training and test rows differ in
        dimensions or classes, or there are fewer than five training rows, or two of a class.
    """
    train, test = finite_matrix(train_x, "train_x"), finite_matrix(test_x, "test_x")
    if train.shape[1] != test.shape[1]:
        raise ValueError(f"train_x has {train.shape[1]} dimensions, test_x {test.shape[1]}")
    named: Kind = "logistic" if kind == "binary" else "ridge"
    known, asked = as_target(train_y, named, len(train)), as_target(test_y, named, len(test))
    if kind == "binary":
        classes = [np.unique(np.asarray(y)).tolist() for y in (train_y, test_y)]
        if classes[0] != classes[1]:
            raise ValueError(f"test_y has the classes {classes[1]}, train_y {classes[0]}; both need the same two")
        if (fewest := int(np.bincount(known.astype(int)).min())) < 2:
            raise ValueError(f"train_y has {fewest} row of a class; a logistic probe needs 2 to choose its penalty")
    rows = np.arange(len(train)).astype(str)
    scans = pd.DataFrame({"scan": rows, "subject": rows})
    labels = nested_folds(scans, known, n_folds=N_INNER, n_inner=2, seed=seed).outer[0]
    scaler = StandardScaler().fit(train)
    head = make_head(named, kind).fit(scaler.transform(train), known, labels)
    share = float(known.mean())
    predicted, probability = predict_rows(head, scaler.transform(test), kind, share)
    null, fold = np.full((len(asked), 1), share), np.zeros((len(asked), 1), dtype=np.int64)
    return score(Predictions("held-out", asked, predicted[:, None], null, probability[:, None], fold), kind)

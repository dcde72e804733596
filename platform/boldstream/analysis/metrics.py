"""How good predictions are: scores of probes."""

from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

Kind = Literal["ridge", "logistic"]


def as_target(y: ArrayLike, kind: Kind, n_rows: int) -> NDArray[np.float64]:
    """Return a target as numbers, shape (n_rows,), classes as 0 and 1 in sorted order.

    Raises
    ------
    ValueError
        If values are missing or not finite, or it is constant, or a logistic probe's has not two classes.
    """
    values = np.asarray(y)
    if values.shape != (n_rows,):
        raise ValueError(f"the target has shape {values.shape}, there are {n_rows} rows")
    if pd.isna(values).any():
        raise ValueError(f"the target is missing in {int(pd.isna(values).sum())} rows; leave these rows out")
    if kind == "logistic":
        classes, index = np.unique(values, return_inverse=True)
        if len(classes) != 2:
            raise ValueError(f"a logistic probe needs two classes, got {classes.tolist()}")
        return np.asarray(index, dtype=np.float64)
    if kind != "ridge":
        raise ValueError(f"kind is 'ridge' or 'logistic', got {kind!r}")
    numbers = values.astype(np.float64)
    if not np.isfinite(numbers).all() or np.ptp(numbers) == 0:
        raise ValueError("the target of a ridge probe has to be finite and to vary")
    return numbers


def r2(y: NDArray, predicted: NDArray, baseline: NDArray) -> float:
    """Return 1 - the squared error's share of that of the baseline; NaN where the baseline has none."""
    error, null = np.square(y - predicted).sum(), np.square(y - baseline).sum()
    return float(1 - error / null) if null > 0 else float("nan")


def pearson(y: NDArray, predicted: NDArray, baseline: NDArray | float = 0.0) -> float:
    """Return Pearson's correlation of what target and prediction differ from the baseline by.

    Over grouped folds a probe that knows nothing predicts its training means, and these are low for the folds whose
    targets are high: without the baseline its correlation is far below 0. 0 where predictions do not leave the
    baseline (by 1e-9 of the target's range), NaN where the target is constant.
    """
    if np.ptp(y) == 0:
        return float("nan")
    truth, guess = y - baseline, predicted - baseline
    return float(np.corrcoef(truth, guess)[0, 1]) if np.ptp(guess) > 1e-9 * np.ptp(y) else 0.0


def auc(y: NDArray, decision: NDArray, folds: NDArray | None = None) -> float:
    """Return the area under the ROC curve of the second class in sorted order; NaN where no two rows can be compared.

    The share of pairs of rows of different classes that are in the right order, ties half. With `folds`, only pairs of
    the same fold count: one model decided on both, and a fold's offset (its sites') does not pass for a class.

    Parameters
    ----------
    y, decision : array, shape (n,)
    folds : array of int, shape (n,), optional
    """
    classes = np.unique(y)
    if len(classes) < 2:
        return float("nan")
    positive = y == classes[1]
    right, pairs = 0.0, 0
    for fold in [None] if folds is None else np.unique(folds):
        rows = np.ones(len(y), dtype=bool) if fold is None else folds == fold
        asked, others = decision[rows & positive], np.sort(decision[rows & ~positive])
        # others below, and half of those that are equal
        right += sum(float(np.searchsorted(others, asked, side).sum()) for side in ("left", "right")) / 2
        pairs += len(asked) * len(others)
    return right / pairs if pairs else float("nan")


def balanced_accuracy(y: NDArray, decision: NDArray) -> float:
    """Return the mean of the classes' shares on their side of 0; NaN where a class is missing."""
    classes = np.unique(y)
    if len(classes) < 2:
        return float("nan")
    positive = y == classes[1]
    return float(((decision[positive] > 0).mean() + (decision[~positive] <= 0).mean()) / 2)


def auprc(y: NDArray, decision: NDArray) -> float:
    """Return the area under the precision-recall curve (average precision) of the second class; chance is its share.

    NaN where a class is missing.

    Parameters
    ----------
    y, decision : array, shape (n,)
    """
    from sklearn.metrics import average_precision_score

    classes = np.unique(y)
    return float(average_precision_score(y == classes[1], decision)) if len(classes) == 2 else float("nan")


def brier(y: NDArray, probability: NDArray) -> float:
    """Return the mean squared error of probabilities of y being 1 (Brier 1950, Mon. Weather Rev. 78:1)."""
    return float(np.square(probability - y).mean())

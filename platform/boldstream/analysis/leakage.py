"""A canary for pipelines: predictions out of fold that depend on what they must not know."""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boldstream.analysis.folds import FoldSet

Predict = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]


def check_out_of_fold(predict: Predict, x: ArrayLike, y: ArrayLike, folds: FoldSet, *, rtol: float = 1e-6) -> None:
    """Refuse a pipeline whose predictions of a fold change with that fold's targets, or with its other rows' vectors.

    The first is a target that leaks, through covariates that hold it, say; the second is a scaling, harmonisation or
    selection fitted to test rows. One fold is looked at, by three runs of the pipeline.

    Parameters
    ----------
    predict : callable
        Takes vectors (n, d) and target (n,), gives predictions (n,) or (n, n_repeats), of which the first is looked at.
        It makes everything that hangs on the target, covariates among it, from the target that it is given.
    x : array, shape (n, d)
    y : array, shape (n,)
        Numbers; of two classes 0 and 1.
    folds : FoldSet
        That `predict` uses.
    rtol : float
        Change, in standard deviations of the fold's predictions, that counts as rounding.

    Raises
    ------
    ValueError
        Saying which of the two it is.
    """
    vectors, target = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    test = next(folds.splits()).test
    plain = _column(predict(vectors, target))[test]
    allowed = rtol * max(float(plain.std()), np.finfo(np.float64).tiny)
    # turned around its middle: of two classes, the other one
    turned = target.copy()
    turned[test] = target.max() + target.min() - target[test]
    _compare(_column(predict(vectors, turned))[test], plain, allowed, "its targets", "the target leaks")
    half, rest = test[::2], test[1::2]
    moved = vectors.copy()
    moved[half] = 3.0 * vectors[half] + vectors.std()
    kept = np.isin(test, rest)
    what = "the vectors of its other rows"
    _compare(_column(predict(moved, target))[rest], plain[kept], allowed, what, "something is fitted to test rows")


def _column(found: NDArray[np.float64]) -> NDArray[np.float64]:
    values = np.asarray(found)
    return values if values.ndim == 1 else values[:, 0]


def _compare(found: NDArray, plain: NDArray, allowed: float, what: str, meaning: str) -> None:
    away = float(np.abs(found - plain).max())
    if not away <= allowed:
        raise ValueError(f"predictions of a fold change by up to {away:.3g} with {what}: {meaning}")

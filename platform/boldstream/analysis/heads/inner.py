"""Inner folds and targets, as heads take them."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def inner_folds(folds: ArrayLike | None, n_rows: int, n_inner: int) -> NDArray[np.int64]:
    """Return the inner fold of every row; without folds, rows in turn.

    Raises
    ------
    ValueError
        If shapes do not fit or there are fewer than two inner folds.
    """
    labels = np.arange(n_rows) % min(n_inner, n_rows) if folds is None else np.asarray(folds)
    if labels.shape != (n_rows,) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"inner folds are whole numbers, one a row; got {labels.dtype} {labels.shape}, {n_rows} rows")
    if len(np.unique(labels)) < 2:
        raise ValueError("a head chooses in at least 2 inner folds")
    return labels.astype(np.int64)


def numeric_target(y: ArrayLike, n_rows: int) -> NDArray[np.float64]:
    """Return a target of one column, shape (n_rows,); ValueError for another shape and for values not finite."""
    target = np.asarray(y, dtype=np.float64)
    if target.shape != (n_rows,):
        raise ValueError(f"y has shape {target.shape}, X has {n_rows} rows")
    if not np.isfinite(target).all():
        raise ValueError(f"y holds {int((~np.isfinite(target)).sum())} values that are NaN or infinite")
    return target


def target_columns(y: ArrayLike, n_rows: int) -> NDArray[np.float64]:
    """Return a target of one column or of several, as it is; ValueError for another shape and for values not finite."""
    target = np.asarray(y, dtype=np.float64)
    if target.ndim != 2:
        return numeric_target(target, n_rows)
    numeric_target(target.sum(axis=1), n_rows)
    return target


def class_indicators(y: ArrayLike, n_rows: int, kind: str) -> NDArray[np.float64]:
    """Return classes as heads that are trained by steps take them: 0 and 1, of several classes a column each.

    Raises
    ------
    ValueError
        If they are something else.
    """
    target = target_columns(y, n_rows)
    if set(np.unique(target)) != {0.0, 1.0} or (target.ndim == 1) != (kind == "binary"):
        what = "is 0 and 1" if kind == "binary" else "has a column of 0 and 1 a class"
        raise ValueError(f"a {kind} target {what}, got {np.unique(target)[:5].tolist()} of shape {target.shape}")
    if kind == "multiclass" and (target.sum(axis=1) != 1).any():
        raise ValueError("a multiclass target has one 1 in every row")
    return target


def check_classes(codes: NDArray[np.float64], classes: NDArray) -> None:
    """Refuse the rows outside an inner fold where they lack a class; ValueError."""
    lost = np.setdiff1d(np.arange(len(classes)), codes)
    if not len(lost):
        return
    what = "have one class only" if len(classes) == 2 else f"have nobody of class {classes[lost[0]]}"
    raise ValueError(f"the rows outside an inner fold {what}; use fewer or other inner folds")


def decided(decision: NDArray[np.float64], classes: NDArray) -> NDArray:
    """Return the classes decided for: of two by the sign, of several by the largest column; shape (n,)."""
    return np.asarray(classes[(decision > 0).astype(int) if decision.ndim == 1 else np.argmax(decision, axis=1)])


def centre_of(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean row, of a constant column exactly its value: what is left of it is 0, not rounding."""
    return np.asarray(x[0] + (x - x[0]).mean(axis=0))

"""Inner folds and numeric targets, as heads take them."""

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


def centre_of(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean row, of a constant column exactly its value: what is left of it is 0, not rounding."""
    return np.asarray(x[0] + (x - x[0]).mean(axis=0))

"""Which of two representations tells more of a target, on the same folds."""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from boldstream.analysis.delong import delong_test
from boldstream.analysis.intervals import Estimate, paired_difference_ci
from boldstream.analysis.nested import ERRORS, METRICS, Predictions, TargetKind

Verdict = Literal["better", "worse", "not told apart"]


class Contest(NamedTuple):
    """Two representations' scores on one fold set.

    Attributes
    ----------
    metric : str
    first, second : float
    difference : Estimate
        First minus second, with its BCa interval over subjects.
    delong_p : float
        P value of DeLong's test, of the first repeat; NaN for other metrics than AUROC of two classes, and where
        subjects have several rows.
    """

    metric: str
    first: float
    second: float
    difference: Estimate
    delong_p: float

    @property
    def verdict(self) -> Verdict:
        """What the first is; told apart if the interval excludes 0."""
        if not self.difference.excludes_zero:
            return "not told apart"
        return "better" if (self.difference.low > 0) != (self.metric in ERRORS) else "worse"


def contest(
    first: Predictions,
    second: Predictions,
    kind: TargetKind,
    *,
    units: ArrayLike,
    metric: str | None = None,
    n: int = 2000,
    seed: int = 0,
) -> Contest:
    """Compare predictions of one target by two representations.

    Parameters
    ----------
    first, second : Predictions
        Of the same fold set and target.
    kind : {"continuous", "binary", "multiclass"}
    units : array, shape (n_rows,)
        The subject, or family, of every row (`FoldSet.groups`): they are drawn whole.
    metric : str, optional
        A name of `METRICS`; by default the first of the kind.
    n, seed : int
        Of the resamples.

    Raises
    ------
    ValueError
        If fold sets or targets differ.
    """
    if first.folds_id != second.folds_id:
        raise ValueError(f"predictions are of {first.folds_id} and of {second.folds_id}; compare on the same fold set")
    if not np.array_equal(first.y, second.y):
        raise ValueError("predictions are of different targets")
    name = metric or next(iter(METRICS[kind]))
    measure = METRICS[kind][name]
    options = {"n": n, "seed": seed}
    difference = paired_difference_ci(measure, first.arrays, second.arrays, method="bca", units=units, **options)
    p = float("nan")
    if kind == "binary" and name == "auroc" and len(np.unique(np.asarray(units))) == len(first.y):
        p = delong_test(first.y, first.predicted[:, 0], second.predicted[:, 0], first.fold[:, 0]).p_value
    return Contest(name, measure(*first.arrays), measure(*second.arrays), difference, p)

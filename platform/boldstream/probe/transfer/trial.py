"""One transfer: one representation and one head, learnt in the source and applied to the unseen cohort."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boldstream.analysis.calibration import Calibration
from boldstream.analysis.contest import Contest
from boldstream.analysis.heads.catalog import make_head
from boldstream.analysis.intervals import Estimate, bootstrap_ci
from boldstream.analysis.nested import METRICS, Predictions, predict_nested
from boldstream.analysis.steps import needed
from boldstream.analysis.transfer import Side, calibration, degradation, on_folds_of, transfer
from boldstream.analysis.transfer_shift import extrapolated
from boldstream.probe.spec import TrialSpec
from boldstream.probe.transfer.sides import Half
from boldstream.probe.trial import count_dims, front_of, input_rows

UNCHANGED, RECENTRED, RECALIBRATED, IN_COHORT = "unchanged", "recentred", "recalibrated", "in_cohort"
RANKS = ("auroc", "auprc", "r")
"""Metrics of who is ranked above whom: what is recalibrated ranks as what is unchanged, but for noise between folds
(and of three classes and more, for curves that are made to sum to 1)."""


@dataclass(frozen=True)
class TransferOutcome:
    """What came of it.

    Attributes
    ----------
    predictions : dict of str to Predictions
        ``unchanged``, ``recentred``, ``recalibrated`` where there are such; all on the unseen cohort's own folds, so
        that R2 is against its own means. ``in_cohort``: learnt there, by nested cross-validation.
    estimates : dict of str to dict of str to Estimate
        By the same names, and by metric; ``unchanged`` also has ``r2_source``, against the source's mean,
        ``recalibrated`` has none of `RANKS`.
    calibration : dict of str to Calibration
    lost : Contest
        ``unchanged`` against ``in_cohort``.
    extrapolated : float
        Share of predicted numbers outside all that were learnt from; NaN of classes.
    n_dims, n_train, n_train_subjects, n_inner : int
    """

    predictions: dict[str, Predictions]
    estimates: dict[str, dict[str, Estimate]]
    calibration: dict[str, Calibration]
    lost: Contest
    extrapolated: float
    n_dims: int
    n_train: int
    n_train_subjects: int
    n_inner: int


def run_transfer(
    spec: TrialSpec, source: Half, target: Half, x: Any, z: Any, n_components: int | None
) -> TransferOutcome:
    """Learn from all of the source, predict the unseen cohort, and put its own cross-validation beside it.

    Parameters
    ----------
    x, z : array, shape (n_scans, n_dims), or sequence of time series
        Of all scans of the source, and of the unseen cohort.
    n_components : int, optional
        Of reduced connectivity within the unseen cohort, which may be smaller.

    Raises
    ------
    ValueError
        If something cannot be fitted, or scored.
    """
    rows, asked = input_rows(spec, source.material, x), input_rows(spec, target.material, z)
    head = make_head(spec.head, spec.kind, seed=spec.seed).set_params(**spec.options)
    names = list(needed(spec.steps))
    beside = [half.material.covariates[names] if names else None for half in (source, target)]
    found = transfer(
        Side(rows, source.target.y, source.people, beside[0]),
        Side(asked, target.target.y, target.people, beside[1]),
        head,
        kind=spec.kind,
        front=front_of(spec, rows, source.material),
        n_inner=int(source.target.folds.inner.max()) + 1,
        seed=spec.seed,
    )
    inside = spec.model_copy(update={"components": n_components})
    own = predict_nested(
        asked,
        target.target.y,
        target.target.folds,
        head,
        kind=spec.kind,
        front=front_of(inside, asked, target.material),
        covariates=beside[1],
    )
    told = {name: on_folds_of(one, own) for name, one in found.versions.items()} | {IN_COHORT: own}
    units, is_number = target.target.folds.groups, spec.kind == "continuous"
    estimates = {name: _estimates(spec, one, units, RANKS * (name == RECALIBRATED)) for name, one in told.items()}
    if is_number:
        estimates[UNCHANGED]["r2_source"] = _estimates(spec, found.unchanged, units, ["r", "mae"])["r2"]
        for name in found.versions.keys() - {RECALIBRATED}:  # one model for all: no fold's mean to take away
            estimates[name]["r"] = _estimates(spec, found.versions[name], units, ["r2", "mae"])["r"]
    return TransferOutcome(
        predictions=told,
        estimates=estimates,
        calibration={name: calibration(one, spec.kind) for name, one in found.versions.items()},
        lost=degradation(found.unchanged, own, spec.kind, units=units, n=spec.bootstrap, seed=spec.seed),
        extrapolated=extrapolated(found.unchanged.predicted, source.target.y) if is_number else float("nan"),
        n_dims=count_dims(spec, rows),
        n_train=found.n_train,
        n_train_subjects=found.n_train_subjects,
        n_inner=found.n_inner,
    )


def _estimates(
    spec: TrialSpec, predictions: Predictions, units: NDArray[np.int64], leave_out: Sequence[str] = ()
) -> dict[str, Estimate]:
    """Return all metrics, but some, with their intervals over subjects."""
    return {
        name: bootstrap_ci(metric, *predictions.arrays, n=spec.bootstrap, seed=spec.seed, method="bca", units=units)
        for name, metric in METRICS[spec.kind].items()
        if name not in leave_out
    }

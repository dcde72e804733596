"""Zero-shot transfer: what is learnt in one cohort, applied unchanged to people of another."""

import hashlib
import json
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from boldstream.analysis.calibration import (
    LEAST,
    Calibration,
    calibration_of_classes,
    calibration_of_numbers,
    calibration_of_several,
    curves_of_classes,
    fit_curve,
    fit_curves,
    fit_line,
    log_odds,
)
from boldstream.analysis.contest import Contest, contest
from boldstream.analysis.folds import nested_folds, site_folds
from boldstream.analysis.metrics import indicators
from boldstream.analysis.nested import Predictions, TargetKind, fit_rows, predict_rows

N_RECALIBRATION = 5
"""Folds over the target cohort's subjects in which its own targets mend calibration."""


class Side(NamedTuple):
    """One cohort: a row a scan.

    Attributes
    ----------
    x : array, shape (n, d), or sequence of n
        What the front takes.
    y : array, shape (n,)
        Target: numbers, or classes, the same in both cohorts.
    scans : DataFrame
        As `folds.nested_folds` takes it: ``scan``, ``subject``, ``site`` where it is known.
    covariates : DataFrame or None
        For a front that takes some.
    """

    x: Any
    y: NDArray
    scans: pd.DataFrame
    covariates: pd.DataFrame | None = None


class Transferred(NamedTuple):
    """Predictions of the target cohort's scans.

    Attributes
    ----------
    unchanged : Predictions
        By what was fitted to the source cohort; nothing of the target cohort is used. Their ``null`` is the source's
        mean, all rows are of one fold.
    recentred : Predictions or None
        The same, the target's vectors behind the front moved so that their mean is the source's: uses the target
        cohort's vectors, none of its targets. It takes away what a scanner adds to all, and what the cohorts' people
        differ by. None where a front gives no vectors.
    recalibrated : Predictions or None
        The same as `unchanged`, put through a line (classes: a logistic curve) that is fitted to the targets of other
        subjects of the target cohort, out of fold. Who is ranked above whom stays as it is within a fold (but for
        several classes, whose curves are made to sum to 1). None where a fold has too few of a class.
    n_train, n_train_subjects, n_inner : int
        Source rows and subjects that were fitted to; and inner folds, of whole sites, that penalties were chosen in.
    """

    unchanged: Predictions
    recentred: Predictions | None
    recalibrated: Predictions | None
    n_train: int
    n_train_subjects: int
    n_inner: int

    @property
    def versions(self) -> dict[str, Predictions]:
        """Those that there are, by name."""
        found = {"unchanged": self.unchanged, "recentred": self.recentred, "recalibrated": self.recalibrated}
        return {name: one for name, one in found.items() if one is not None}


def transfer(
    source: Side,
    target: Side,
    head: Any,
    *,
    kind: TargetKind,
    front: Any = None,
    n_inner: int = 5,
    seed: int = 0,
) -> Transferred:
    """Fit front and head to all of a source cohort, and predict a cohort that they have not seen.

    Penalties are chosen in inner folds of whole source sites: those chosen for known sites are too small for others.

    Parameters
    ----------
    source, target : Side
    head, front, kind
        As `nested.predict_nested` takes them.
    n_inner, seed : int
        Inner folds at most, and the seed of all folds.

    Raises
    ------
    ValueError
        If a subject is in both cohorts, the target has other classes, or rows or values do not fit.
    """
    known, asked = _targets(source, target, kind)
    check_apart(source.scans, target.scans)
    labels = site_folds(source.scans, n_folds=n_inner, seed=seed)
    train, rows = _fronted(source, target, front)
    fitted, share = fit_rows(head, train, known, labels, kind, int(known.max()) + 1)
    unchanged = _as_predictions(source, target, asked, predict_rows(fitted, rows, kind, share), share)
    recentred = None
    if isinstance(train, np.ndarray) and train.ndim == 2:
        moved = rows - rows.mean(axis=0) + train.mean(axis=0)
        recentred = _as_predictions(source, target, asked, predict_rows(fitted, moved, kind, share), share)
    return Transferred(
        unchanged,
        recentred,
        recalibrate(unchanged, target.scans, kind, seed=seed),
        n_train=len(known),
        n_train_subjects=source.scans["subject"].nunique(),
        n_inner=len(np.unique(labels)),
    )


def recalibrate(
    predictions: Predictions, scans: pd.DataFrame, kind: TargetKind, *, seed: int = 0
) -> Predictions | None:
    """Put predictions of a cohort through a line or curve fitted to the targets of its other subjects.

    None where there are fewer than five subjects, or those outside a fold have one class only.
    """
    y, guess = predictions.y, predictions.predicted[:, 0]
    if scans["subject"].nunique() < N_RECALIBRATION:
        return None
    if kind == "multiclass":
        return _recalibrate_classes(predictions, scans, seed)
    fold = nested_folds(scans, y, n_folds=N_RECALIBRATION, n_inner=2, seed=seed).outer[0]
    new, probability, null = np.empty(len(y)), np.full(len(y), np.nan), np.empty(len(y))
    for label in np.unique(fold):
        test, train = fold == label, fold != label
        null[test] = y[train].mean()
        if kind == "continuous":
            slope, intercept = fit_line(guess[train], y[train])
            new[test] = intercept + slope * guess[test]
            continue
        if np.ptp(y[train]) == 0:
            return None
        # decision values, not probabilities: an offset may have driven those to 0 or 1, where they are all alike
        curve = fit_curve(guess[train], y[train])
        new[test] = curve.decision_function(guess[test][:, None]) - log_odds(null[test][:1])
        probability[test] = curve.predict_proba(guess[test][:, None])[:, 1]
    name = f"{predictions.folds_id}-recalibrated"
    return Predictions(name, y, new[:, None], null[:, None], probability[:, None], fold[:, None])


def _recalibrate_classes(predictions: Predictions, scans: pd.DataFrame, seed: int) -> Predictions | None:
    y, guess = predictions.y, predictions.predicted[:, 0]
    n_classes = guess.shape[1]
    fold = nested_folds(scans, y.astype(str), n_folds=N_RECALIBRATION, n_inner=2, seed=seed).outer[0]
    probability, null = np.empty(guess.shape), np.empty(guess.shape)
    for label in np.unique(fold):
        test, train = fold == label, fold != label
        null[test] = share = indicators(y[train], n_classes).mean(axis=0)
        if (share == 0).any():
            return None
        probability[test] = curves_of_classes(fit_curves(guess[train], y[train]), guess[test])
    decision = np.log(np.maximum(probability, LEAST)) - np.log(null)
    decision, null, probability = (one[:, None] for one in (decision, null, probability))
    return Predictions(f"{predictions.folds_id}-recalibrated", y, decision, null, probability, fold[:, None])


def calibration(predictions: Predictions, kind: TargetKind) -> Calibration:
    """Return how predictions of one repeat agree with the target."""
    if kind == "continuous":
        return calibration_of_numbers(predictions.y, predictions.predicted[:, 0])
    if kind == "multiclass":
        return calibration_of_several(predictions.y, predictions.probability[:, 0])
    return calibration_of_classes(predictions.y, predictions.probability[:, 0])


def on_folds_of(transferred: Predictions, in_cohort: Predictions) -> Predictions:
    """Return transferred predictions as if of the target cohort's own folds, to be compared with its own.

    R2 is then against the same means, of the target cohort's training folds, and AUROC compares the same pairs. (r is
    not to be taken from these: folds' means, taken away from predictions of one model for all, correlate themselves.)

    Raises
    ------
    ValueError
        If the targets differ.
    """
    if not np.array_equal(transferred.y, in_cohort.y):
        raise ValueError("predictions are of different targets, or of scans in another order")
    n_repeats = in_cohort.fold.shape[1]
    predicted, probability = (
        np.repeat(values[:, :1], n_repeats, axis=1) for values in (transferred.predicted, transferred.probability)
    )
    return in_cohort._replace(predicted=predicted, probability=probability)


def degradation(
    transferred: Predictions,
    in_cohort: Predictions,
    kind: TargetKind,
    *,
    units: ArrayLike,
    metric: str | None = None,
    n: int = 2000,
    seed: int = 0,
) -> Contest:
    """Compare what was transferred (first) with nested cross-validation within the target cohort (second).

    By R2 or AUROC, if no other metric is named. The two were fitted to different numbers of people, which is part of
    the difference. Takes and refuses what `contest` does, but for the folds.

    Raises
    ------
    ValueError
    """
    first = on_folds_of(transferred, in_cohort)
    return contest(first, in_cohort, kind, units=units, metric=metric, n=n, seed=seed)


def _targets(source: Side, target: Side, kind: TargetKind) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return both targets as numbers, classes as 0, 1, … in the source's order."""
    sides = [np.asarray(side.y) for side in (source, target)]
    for name, values, side in zip(("source", "target"), sides, (source, target), strict=True):
        if values.shape != (len(side.scans),):
            raise ValueError(f"the {name} cohort's target has shape {values.shape}, there are {len(side.scans)} scans")
        if n := int(pd.isna(values).sum()):
            raise ValueError(f"the {name} cohort's target is missing in {n} rows; leave these rows out")
    if kind == "continuous":
        known, asked = (values.astype(np.float64) for values in sides)
        if np.ptp(known) == 0:
            raise ValueError("the source cohort's target does not vary, so nothing can be learnt")
        return known, asked
    classes, code = np.unique(sides[0], return_inverse=True)
    fits = len(classes) == 2 if kind == "binary" else len(classes) > 2
    if not fits or not np.isin(sides[1], classes).all():
        theirs, which = np.unique(sides[1]).tolist(), "two classes" if kind == "binary" else "three classes or more"
        raise ValueError(f"both cohorts need the same {which}, got {classes.tolist()} and {theirs}")
    return code.astype(np.float64), np.searchsorted(classes, sides[1]).astype(np.float64)


def check_apart(source: pd.DataFrame, target: pd.DataFrame) -> None:
    """Refuse cohorts that have a subject, or a family, in common.

    Raises
    ------
    ValueError
    """
    for column in ("subject", "family"):
        if column in source and column in target:
            both = sorted(set(source[column].dropna().astype(str)) & set(target[column].dropna().astype(str)))
            if both:
                raise ValueError(
                    f"{len(both)} {column} name(s) are in both cohorts ({', '.join(both[:3])}): the target cohort is "
                    "not unseen; leave them out of one, or name them apart if they are other people"
                )


def _fronted(source: Side, target: Side, front: Any) -> tuple[Any, Any]:
    """Return the source's and the target's rows behind a front fitted to the source's."""
    if front is None:
        return source.x, target.x
    if source.covariates is None:
        fitted = clone(front).fit(source.x)
        return fitted.transform(source.x), fitted.transform(target.x)
    fitted = clone(front).fit(source.x, covariates=source.covariates)
    return tuple(fitted.transform(side.x, covariates=side.covariates) for side in (source, target))


def _as_predictions(
    source: Side,
    target: Side,
    y: NDArray[np.float64],
    found: tuple[NDArray[np.float64], NDArray[np.float64]],
    share: float | NDArray[np.float64],
) -> Predictions:
    names = [side.scans["scan"].astype(str).tolist() for side in (source, target)]
    digest = hashlib.sha256(json.dumps(names).encode()).hexdigest()
    predicted, probability = (values[:, None] for values in found)
    null = np.broadcast_to(share, predicted.shape).copy()
    return Predictions(
        f"transfer-{digest[:12]}", y, predicted, null, probability, np.zeros((len(y), 1), dtype=np.int64)
    )

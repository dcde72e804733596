"""What a transfer means, in plain sentences: what was lost first, then why it may be."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from boldstream.analysis.calibration import Calibration
from boldstream.analysis.nested import TargetKind
from boldstream.analysis.transfer_shift import Overlap, VectorShift
from boldstream.probe.transfer.config import TransferSpec
from boldstream.probe.transfer.frames import Transfer
from boldstream.probe.transfer.trial import IN_COHORT, RECALIBRATED, RECENTRED, UNCHANGED, TransferOutcome
from boldstream.probe.wording import METRIC_NAMES, interval, listed, metric_name, title_of, write_sentences

MEANT_OUTSIDE = 0.05
"""Share of unseen scans beyond the source's range that is expected, and not worth a sentence."""
FEWEST_TO_SPLIT = 10
"""Scans within and beyond the range, at least, for their errors to be put beside each other."""
LEAST_SPREAD = 0.05
"""Of predicted numbers, in standard deviations of the target, below which they count as constant."""


def write_transfer_sentences(
    made: Sequence[Transfer],
    scores: pd.DataFrame,
    contests: pd.DataFrame,
    overlaps: Sequence[Overlap],
    shifts: Mapping[str, VectorShift | None],
    notes: Sequence[str],
    spec: TransferSpec,
) -> tuple[str, list[str]]:
    """Return the headline, and all sentences: what was lost, what baselines do, calibration, and what differs."""
    first = made[0].spec.representation
    own = [one for at, one in enumerate(made) if one.spec.representation == first and _is_first(made, at)]
    among = contests[contests["second"].isin(scores["representation"])]
    base, sentences = write_sentences(scores, among, [])
    lost = sorted((_lost(one) for one in own), key=lambda told: not told[0])
    why = [text for one in overlaps if (text := _beyond(one))]
    why += [text for name, shift in shifts.items() if shift is not None and (text := _shifted(name, shift))]
    calibrated = [text for one in own for text in _calibrated(one)]
    errors = [text for one in own for overlap in overlaps if (text := _errors(one, overlap))]
    told = [text for _, text in lost] + sentences + calibrated + why + errors
    return _headline(own, base, spec), [*told, *notes]


def _is_first(made: Sequence[Transfer], at: int) -> bool:
    """Say whether it is the first head of its representation and target."""
    spec = made[at].spec
    return all((one.spec.target, one.spec.representation) != (spec.target, spec.representation) for one in made[:at])


def _headline(own: Sequence[Transfer], base: str, spec: TransferSpec) -> str:
    n_train = max(one.outcome.n_train_subjects for one in own)
    n_asked = max(one.target.target.n_subjects for one in own)
    who = f" ({'; '.join(one.describe() for one in spec.target)})" if spec.target else " of another cohort"
    lost = [one.spec.target for one in own if one.outcome.lost.verdict == "worse"]
    end = f" It tells less than what is learnt there of {listed(lost)}." if lost else ""
    whose = f" of {1 + len(spec.sources)} cohorts" if spec.sources else ""
    return f"Learnt from {n_train} subjects{whose} and applied unchanged to {n_asked} others{who}: {base}{end}"


def _lost(one: Transfer) -> tuple[bool, str]:
    """Return whether anything was lost, and what."""
    spec, lost = one.spec, one.outcome.lost
    name = metric_name(lost.metric, spec.kind)
    gap = interval(lost.difference.value, lost.difference.low, lost.difference.high)
    numbers = f"{name} {lost.first:.3f} against {lost.second:.3f}; difference {gap}"
    sizes = f"{one.outcome.n_train_subjects} subjects to learn from, {one.target.target.n_subjects} there"
    words = {
        "worse": "tells less than what is learnt in the unseen cohort itself",
        "better": "tells more than what is learnt in the unseen cohort itself",
        "not told apart": "is not told apart from what is learnt in the unseen cohort itself",
    }
    text = f"{spec.target}: {spec.representation}, applied unchanged, {words[lost.verdict]} ({numbers}; {sizes})."
    return lost.verdict == "worse", text


def _calibrated(one: Transfer) -> list[str]:
    """Say how predictions agree with what was seen, before and after what mends them."""
    spec, found = one.spec, one.outcome
    told, metric = found.calibration[UNCHANGED], next(iter(found.estimates[IN_COHORT]))
    slope = "they hardly vary" if not _varies(found, spec.kind) else f"have a slope of {told.slope:.2f} (1 is right)"
    what = "predictions" if spec.kind == "continuous" else "probabilities"
    sentences = [f"{spec.target}: {what} of {spec.representation} are {_off(told, spec.kind)}, and {slope}."]
    for version, how in (
        (RECENTRED, "vectors moved to the source's mean, which uses the unseen cohort's vectors and no target"),
        (RECALIBRATED, "recalibrated out of fold, which uses the unseen cohort's own targets"),
    ):
        if version in found.calibration:
            after, name = found.calibration[version], metric if metric in found.estimates[version] else "brier"
            scores = [found.estimates[one][name].value for one in (version, UNCHANGED)]
            sentences.append(
                f"{spec.target}: {how}: {_off(after, spec.kind)}, "
                f"{_slope(after.slope, found, spec.kind)}{METRIC_NAMES.get(name, 'Brier score')} {scores[0]:.3f} "
                f"(unchanged: {scores[1]:.3f})."
            )
    if found.extrapolated > MEANT_OUTSIDE:
        sentences.append(f"{spec.target}: {found.extrapolated:.0%} of predictions lie beyond all that was learnt from.")
    return sentences


def _off(told: Calibration, kind: TargetKind) -> str:
    if kind == "multiclass":
        return f"given to the wrong classes by {told.in_the_large:.2g} in all"
    side = "too low" if told.in_the_large > 0 else "too high"
    return f"{abs(told.in_the_large):.2g} {side} on average"


def _varies(found: TransferOutcome, kind: TargetKind) -> bool:
    """Say whether predictions vary enough for a slope to mean anything; of classes a slope is of log odds."""
    one = found.predictions[UNCHANGED]
    told = found.calibration[UNCHANGED].slope
    return not np.isnan(told) and (kind != "continuous" or bool(one.predicted.std() > LEAST_SPREAD * one.y.std()))


def _slope(slope: float, found: TransferOutcome, kind: TargetKind) -> str:
    return f"slope {slope:.2f}, " if _varies(found, kind) and not np.isnan(slope) else ""


def _beyond(one: Overlap) -> str:
    if one.outside <= MEANT_OUTSIDE:
        return ""
    return (
        f"Why it may fail: {one.outside:.0%} of unseen scans are beyond the source in {one.name} ({one.target}; "
        f"source: {one.source})."
    )


def _shifted(name: str, shift: VectorShift) -> str:
    return (
        f"Why it may fail: a linear probe tells {name}'s unseen vectors from the source's with an AUROC of "
        f"{shift.told_apart:.2f}; {shift.where} differs by {shift.largest:.2f} SD (p = {shift.p_value:.3f} over all), "
        f"and {shift.far:.0%} of unseen scans are farther from everybody in the source than 1 in 20 there."
    )


def _errors(one: Transfer, overlap: Overlap) -> str:
    """Put the errors of scans within and beyond the source's range of a covariate beside each other."""
    if one.spec.kind != "continuous":
        return ""
    found, rows = one.outcome.predictions[UNCHANGED], overlap.rows[one.target.target.rows]
    if min(int(rows.sum()), int((~rows).sum())) < FEWEST_TO_SPLIT:
        return ""
    error = np.abs(found.y - found.predicted[:, 0])
    return (
        f"{one.spec.target}: the mean error of {title_of(one.spec.representation)} is {error[rows].mean():.3g} where "
        f"{overlap.name} is beyond the source's range, {error[~rows].mean():.3g} within it."
    )

"""Outcomes of transfers as the tidy tables that all results have."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from boldstream.analysis.contest import Contest
from boldstream.analysis.nested import METRICS
from boldstream.artifacts.results import (
    CONTESTS,
    CONTESTS_SCHEMA,
    PREDICTIONS,
    SCORES,
    SCORES_SCHEMA,
)
from boldstream.probe.frames import contest_row, join_predictions, prediction_rows
from boldstream.probe.spec import TrialSpec
from boldstream.probe.transfer.sides import Half
from boldstream.probe.transfer.trial import IN_COHORT, UNCHANGED, TransferOutcome

IN_COHORT_TITLE = "{name}, learnt there"
"""How the second of a contest is called that was learnt in the unseen cohort itself."""


class Transfer(NamedTuple):
    """A transfer that was made: what, from whom, to whom, and what came of it."""

    spec: TrialSpec
    source: Half
    target: Half
    outcome: TransferOutcome


Compared = tuple[TrialSpec, TrialSpec, Contest]


def make_transfer_frames(made: Sequence[Transfer], compared: Sequence[Compared]) -> dict[str, pd.DataFrame]:
    """Return the three tables of results.

    Metrics without an ending are of what was applied unchanged; ``_recentred``, ``_recalibrated`` and ``_in_cohort``
    end the others' names (`transfer.trial.TransferOutcome`).
    """
    scores = pd.DataFrame([row for one in made for row in _score_rows(one)], columns=SCORES_SCHEMA.names)
    contests = [contest_row(*one) for one in compared]
    contests += [
        contest_row(one.spec, one.spec, one.outcome.lost)
        | {"second": IN_COHORT_TITLE.format(name=one.spec.representation)}
        for one in made
    ]
    return {
        SCORES: scores,
        CONTESTS: pd.DataFrame(contests, columns=CONTESTS_SCHEMA.names),
        PREDICTIONS: join_predictions([_predictions(one) for one in made]),
    }


def _score_rows(made: Transfer) -> list[dict[str, Any]]:
    spec, target, found = made.spec, made.target.target, made.outcome
    primary, nan = next(iter(METRICS[spec.kind])), float("nan")
    common = {name: getattr(spec, name) for name in ("target", "kind", "representation", "role", "head", "front")}
    common |= {"p": nan, "p_adjusted": nan, "n_scans": len(target.y), "n_subjects": target.n_subjects}
    common |= {"n_sites": target.n_sites, "n_missing": target.n_missing, "n_dims": found.n_dims}
    common |= {"folds_id": target.folds.id, "scheme": scheme_of(made)}
    values: dict[str, tuple[float, float, float]] = {}
    for version, estimates in found.estimates.items():
        values |= {f"{name}{ending(version)}": (one.value, one.low, one.high) for name, one in estimates.items()}
    for version, told in found.calibration.items():
        for name, value in (
            ("calibration_in_the_large", told.in_the_large),
            ("calibration_slope", told.slope),
            ("calibration_intercept", told.intercept),
            ("calibration_error", told.error),
        ):
            values[f"{name}{ending(version)}"] = (value, nan, nan)
    values["extrapolated"] = (found.extrapolated, nan, nan)
    return [
        common | {"metric": name, "primary": name == primary, "value": value, "low": low, "high": high}
        for name, (value, low, high) in values.items()
        if name == primary or not np.isnan(value)
    ]


def ending(version: str) -> str:
    """Return how the metrics of a version end."""
    return "" if version == UNCHANGED else f"_{version}"


def scheme_of(one: Transfer) -> str:
    """Return how predictions came about, in words."""
    found = one.outcome
    return (
        f"transfer: learnt from {found.n_train} scans of {found.n_train_subjects} subjects at "
        f"{one.source.target.n_sites or 'unknown'} sites, penalties chosen in {found.n_inner} inner folds of whole "
        f"sites, applied to {len(one.target.target.y)} scans that were not seen; {IN_COHORT}: "
        f"{one.target.target.folds.scheme}"
    )


def _predictions(one: Transfer) -> pd.DataFrame:
    """Return what was predicted unchanged: once, as of one fold, and beside the source's mean."""
    found, source = one.outcome.predictions[UNCHANGED], one.source.target
    known = source.shares if one.spec.kind == "multiclass" else source.y.mean()
    first = found._replace(
        predicted=found.predicted[:, :1],
        probability=found.probability[:, :1],
        null=np.broadcast_to(known, found.predicted[:, :1].shape),
        fold=np.zeros((len(found.y), 1), dtype=np.int64),
    )
    return prediction_rows(one.spec, first, one.target.target)

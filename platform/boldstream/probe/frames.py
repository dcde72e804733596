"""Outcomes as tidy tables: scores, contests and predictions."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from boldstream.analysis.contest import Contest
from boldstream.analysis.nested import METRICS
from boldstream.analysis.permutations import benjamini_hochberg
from boldstream.artifacts.results import (
    CONTESTS,
    CONTESTS_SCHEMA,
    PREDICTIONS,
    PREDICTIONS_SCHEMA,
    SCORES,
    SCORES_SCHEMA,
)
from boldstream.probe.outcome import Outcome
from boldstream.probe.spec import TrialSpec
from boldstream.probe.targets import Target

Compared = tuple[TrialSpec, TrialSpec, Contest]


def make_frames(
    specs: Sequence[TrialSpec],
    outcomes: Mapping[str, Outcome],
    targets: Mapping[str, Target],
    compared: Sequence[Compared],
) -> dict[str, pd.DataFrame]:
    """Return the three tables of results.

    Parameters
    ----------
    outcomes : mapping of str to Outcome
        By `TrialSpec.key`.
    targets : mapping of str to Target
        By name.
    """
    scores = pd.DataFrame(
        [row for spec in specs for row in _score_rows(spec, outcomes[spec.key], targets[spec.target])],
        columns=SCORES_SCHEMA.names,
    )
    return {
        SCORES: _adjusted(scores),
        CONTESTS: pd.DataFrame([contest_row(*one) for one in compared], columns=CONTESTS_SCHEMA.names),
        PREDICTIONS: pd.concat(
            [_predictions(spec, outcomes[spec.key], targets[spec.target]) for spec in specs], ignore_index=True
        )[PREDICTIONS_SCHEMA.names],
    }


def _score_rows(spec: TrialSpec, found: Outcome, target: Target) -> list[dict[str, Any]]:
    primary = next(iter(METRICS[spec.kind]))
    common = {
        "target": spec.target,
        "kind": spec.kind,
        "representation": spec.representation,
        "role": spec.role,
        "head": spec.head,
        "front": spec.front,
        "p_adjusted": float("nan"),
        "n_scans": len(target.y),
        "n_subjects": target.n_subjects,
        "n_sites": target.n_sites,
        "n_missing": target.n_missing,
        "n_dims": found.n_dims,
        "folds_id": target.folds.id,
        "scheme": target.folds.scheme,
    }
    rows = []
    for name, one in found.estimates.items():
        is_primary = name == primary
        told = {"metric": name, "primary": is_primary, "p": found.p if is_primary else float("nan")}
        rows.append(common | told | {"value": one.value, "low": one.low, "high": one.high})
    return rows


def _adjusted(scores: pd.DataFrame) -> pd.DataFrame:
    """Adjust the p values of each representation and head over the targets."""
    primary = scores[scores["primary"]]
    for _, rows in primary.groupby(["representation", "head"], sort=False):
        scores.loc[rows.index, "p_adjusted"] = benjamini_hochberg(rows["p"])
    return scores


def contest_row(first: TrialSpec, second: TrialSpec, found: Contest) -> dict[str, Any]:
    """Return a comparison as a row of the contests."""
    return {
        "target": first.target,
        "metric": found.metric,
        "first": first.representation,
        "second": second.representation,
        "first_head": first.head,
        "second_head": second.head,
        "first_value": found.first,
        "second_value": found.second,
        "difference": found.difference.value,
        "low": found.difference.low,
        "high": found.difference.high,
        "delong_p": found.delong_p,
        "verdict": found.verdict,
    }


def _predictions(spec: TrialSpec, found: Outcome, target: Target) -> pd.DataFrame:
    n, n_repeats = found.predictions.predicted.shape
    columns = {
        "scan_key": np.tile(target.people["scan"].to_numpy(), n_repeats),
        "subject": np.tile(target.people["subject"].to_numpy(), n_repeats),
        "repeat": np.repeat(np.arange(n_repeats), n),
        "fold": found.predictions.fold.T.ravel(),
        "y": np.tile(target.y, n_repeats),
        "predicted": found.predictions.predicted.T.ravel(),
        "null": found.predictions.null.T.ravel(),
        "probability": found.predictions.probability.T.ravel(),
    }
    frame = pd.DataFrame(columns)
    return frame.assign(target=spec.target, representation=spec.representation, head=spec.head)

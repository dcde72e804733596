"""Outcomes as tidy tables: scores, contests and predictions."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from boldstream.analysis.contest import Contest
from boldstream.analysis.nested import METRICS, Predictions
from boldstream.analysis.permutations import benjamini_hochberg
from boldstream.artifacts.results import (
    CLASS_COLUMNS,
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
        PREDICTIONS: join_predictions(
            [prediction_rows(spec, outcomes[spec.key].predictions, targets[spec.target]) for spec in specs]
        ),
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


def prediction_rows(spec: TrialSpec, found: Predictions, target: Target) -> pd.DataFrame:
    """Return predictions of a target's scans, a row a scan and repeat, with the columns that their kind has.

    Of several classes, what is predicted is the code of the class decided for, with its probability, and ``null`` the
    code of the one that is most frequent in training.
    """
    n_repeats = found.fold.shape[1]
    by_repeat = [one.swapaxes(0, 1) for one in (found.predicted, found.null, found.probability)]
    predicted, null, probability = (one.reshape(-1, *one.shape[2:]) for one in by_repeat)
    columns: dict[str, Any] = {}
    if spec.kind == "multiclass":
        decided = predicted.argmax(axis=1)
        columns = {"decisions": list(predicted), "probabilities": list(probability)}
        predicted, null = decided.astype(float), null.argmax(axis=1).astype(float)
        probability = np.take_along_axis(probability, decided[:, None], axis=1)[:, 0]
    frame = pd.DataFrame(
        {
            "scan_key": np.tile(target.people["scan"].to_numpy(), n_repeats),
            "subject": np.tile(target.people["subject"].to_numpy(), n_repeats),
            "repeat": np.repeat(np.arange(n_repeats), len(target.y)),
            "fold": found.fold.T.ravel(),
            "y": np.tile(target.y, n_repeats),
            "predicted": predicted,
            "null": null,
            "probability": probability,
        }
        | columns
    )
    return frame.assign(target=spec.target, representation=spec.representation, head=spec.head)


def join_predictions(found: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return all predictions as results hold them: with lists by class where a target has several classes."""
    rows = pd.concat(found, ignore_index=True)
    for name in CLASS_COLUMNS.names:
        if name in rows:
            rows[name] = rows[name].astype("object").where(rows[name].notna(), None)
    return rows[[name for name in (*PREDICTIONS_SCHEMA.names, *CLASS_COLUMNS.names) if name in rows]]

"""What a trial leaves behind, as one file: a trial that has one is not run again."""

import io
import json
from dataclasses import dataclass

import numpy as np

from boldstream.analysis.intervals import Estimate
from boldstream.analysis.nested import METRICS, Predictions
from boldstream.probe.spec import TrialSpec
from boldstream.storage import exists, publish_bytes, read_bytes

ARRAYS = ("y", "predicted", "null", "probability", "fold")


@dataclass(frozen=True)
class Outcome:
    """Predictions, scores and p value of one trial.

    Attributes
    ----------
    predictions : Predictions
    estimates : dict of str to Estimate
        By metric.
    p : float
        Of the kind's first metric; NaN if not tested.
    n_dims : int
        Features that the head, or an adjustment before it, was given.
    seconds : float
        What it took.
    """

    predictions: Predictions
    estimates: dict[str, Estimate]
    p: float
    n_dims: int
    seconds: float


def outcome_uri(folder: str, spec: TrialSpec) -> str:
    """Return where the outcome of a trial is, or will be."""
    return f"{folder}/{spec.key}.npz"


def is_done(folder: str, spec: TrialSpec) -> bool:
    """Say whether a trial has an outcome."""
    return exists(outcome_uri(folder, spec))


def write_outcome(folder: str, spec: TrialSpec, found: Outcome) -> None:
    """Write an outcome in one step."""
    told = {"estimates": {name: list(one) for name, one in found.estimates.items()}, "p": found.p}
    told |= {"n_dims": found.n_dims, "seconds": found.seconds, "folds_id": found.predictions.folds_id}
    arrays = dict(zip(ARRAYS, found.predictions.arrays, strict=True))
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, told=np.array(json.dumps(told)), **arrays)
    publish_bytes(outcome_uri(folder, spec), buffer.getvalue())


def read_outcome(folder: str, spec: TrialSpec) -> Outcome:
    """Read the outcome of a trial."""
    with np.load(io.BytesIO(read_bytes(outcome_uri(folder, spec))), allow_pickle=False) as held:
        told = json.loads(str(held["told"]))
        predictions = Predictions(told["folds_id"], *(held[name] for name in ARRAYS))
    estimates = {name: Estimate(*told["estimates"][name]) for name in METRICS[spec.kind]}
    return Outcome(predictions, estimates, told["p"], told["n_dims"], told["seconds"])

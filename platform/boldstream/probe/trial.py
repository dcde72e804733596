"""One trial: one representation and one head on one target and fold set, everything that is fitted inside the folds."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from boldstream.analysis.adjustment import Adjustment
from boldstream.analysis.baselines import RegionMoments, TangentConnectivity, confounds_only, first_components
from boldstream.analysis.folds import FoldSet
from boldstream.analysis.fronts import AdjustedFeatures
from boldstream.analysis.heads.catalog import make_head
from boldstream.analysis.intervals import bootstrap_ci
from boldstream.analysis.nested import METRICS, predict_nested
from boldstream.analysis.null_scores import permutation_null, permutation_test
from boldstream.analysis.permutations import exchange, permuted_targets
from boldstream.analysis.pooling import AttentionPooling
from boldstream.analysis.steps import ZscoreStep, needed, part_attention
from boldstream.probe.outcome import Outcome
from boldstream.probe.spec import TrialSpec

ZSCORE = ZscoreStep(step="zscore")


@dataclass(frozen=True)
class TargetMaterial:
    """What a trial knows of its target's scans.

    Attributes
    ----------
    rows : array of int, shape (n,)
        Places of the scans in the representations.
    y : array, shape (n,), float64
    folds : FoldSet
    covariates : DataFrame, n rows
    subjects, families, blocks : array or None
        Who is exchanged with whom in permutations.
    """

    rows: NDArray[np.int64]
    y: NDArray[np.float64]
    folds: FoldSet
    covariates: pd.DataFrame
    subjects: NDArray[Any]
    families: NDArray[Any] | None
    blocks: NDArray[Any] | None


def run_trial(spec: TrialSpec, target: TargetMaterial, x: Any) -> Outcome:
    """Predict out of fold, score with intervals, and permute where the trial is told to.

    Parameters
    ----------
    x : array, shape (n_scans, n_dims), or sequence of time series
        Of all scans; not looked at by baselines of covariates or of nothing.

    Raises
    ------
    ValueError
        If something cannot be fitted, or scored.
    """
    begun = time.monotonic()
    rows = input_rows(spec, target, x)
    head = make_head(spec.head, spec.kind, seed=spec.seed).set_params(**spec.options)
    options: dict[str, Any] = {"kind": spec.kind, "front": front_of(spec, rows, target)}
    if covariates := needed(spec.steps):
        options["covariates"] = target.covariates[list(covariates)]
    found = predict_nested(rows, target.y, target.folds, head, **options)
    estimates = {
        name: bootstrap_ci(
            metric, *found.arrays, n=spec.bootstrap, seed=spec.seed, method="bca", units=target.folds.groups
        )
        for name, metric in METRICS[spec.kind].items()
    }
    p = float("nan")
    if spec.permutations:
        drawn = permutations_of(spec, target)
        p = permutation_test(found, permutation_null(rows, drawn, target.folds, head, **options), spec.kind)
    return Outcome(found, estimates, p, count_dims(spec, rows), time.monotonic() - begun)


def input_rows(spec: TrialSpec, target: TargetMaterial, x: Any) -> Any:
    """Return what the front takes, of the target's scans only."""
    if spec.representation == "confounds":
        known = target.covariates[list(spec.confounds)]
        names = known.columns.difference(known.select_dtypes("number").columns)
        return known.assign(**{name: known[name].astype("object").where(known[name].notna(), "") for name in names})
    if spec.representation == "mean":
        return np.zeros((len(target.y), 1))
    return x[target.rows] if isinstance(x, np.ndarray) else [x[row] for row in target.rows]


def front_of(spec: TrialSpec, rows: Any, target: TargetMaterial) -> Any:
    """Return what stands before the head, not fitted; None for nothing."""
    if spec.representation == "mean":
        return None
    if spec.representation == "confounds":
        return confounds_only(rows, fill=True)
    features: dict[str, Any] = {"tangent": TangentConnectivity(), "moments": RegionMoments()}
    if spec.representation == "fc_reduced":
        assert spec.components is not None
        n_train = min(len(split.train) for split in target.folds.splits())
        features["fc_reduced"] = first_components(spec.components, n_train)
    first = features.get(spec.representation)
    if not spec.steps:
        parts = [one for one in (first, StandardScaler() if spec.standardise else None) if one is not None]
        return make_pipeline(*parts) if parts else None
    attention, rest = part_attention(spec.steps)
    adjustment = Adjustment((*rest, *([ZSCORE] if spec.standardise else [])), spec.impute, spec.unseen_site)
    if attention:
        first = AttentionPooling(spec.kind, epochs=attention.epochs)
    return adjustment if first is None else AdjustedFeatures(first, adjustment)


def permutations_of(spec: TrialSpec, target: TargetMaterial) -> NDArray[np.float64]:
    """Return permuted targets, subjects exchanged within blocks; what adjusted covariates tell of numbers stays."""
    drawn = exchange(target.subjects, spec.permutations, families=target.families, blocks=target.blocks, seed=spec.seed)
    names = needed(spec.steps)
    if spec.kind != "continuous" or not names:
        return permuted_targets(target.y, drawn)
    known = target.covariates[list(names)]
    numbers = known.select_dtypes("number")
    columns = pd.get_dummies(known.drop(columns=numbers.columns).astype("object"), dtype=float)
    stay = pd.concat([numbers.fillna(numbers.median()), columns], axis=1)
    return permuted_targets(target.y, drawn, stay)


def count_dims(spec: TrialSpec, rows: Any) -> int:
    """Return the number of features before an adjustment."""
    if spec.representation == "fc_reduced":
        return int(spec.components or 0)
    if isinstance(rows, np.ndarray | pd.DataFrame):
        return int(np.shape(rows)[-1])
    n_rois = int(np.shape(rows[0])[1])
    return n_rois * (n_rois + 1) // 2 if spec.representation == "tangent" else 2 * n_rois

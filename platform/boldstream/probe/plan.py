"""Which trials a probe consists of: every target with every table and baseline, on the target's own fold set."""

import hashlib
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from boldstream.analysis.steps import Step, VectorStep, check_target, part_attention
from boldstream.errors import ConfigError, ResultsError
from boldstream.probe.config import ATTENTION, BaselineName, ProbeConfig
from boldstream.probe.features import CONNECTIVITY, SERIES
from boldstream.probe.material import Material
from boldstream.probe.spec import TrialSpec
from boldstream.probe.targets import Target
from boldstream.probe.trial import TargetMaterial
from boldstream.strategy import Strategy

SOURCES: dict[BaselineName, str | None] = {
    "mean": None,
    "confounds": None,
    "fc": CONNECTIVITY,
    "fc_kernel": CONNECTIVITY,
    "fc_reduced": CONNECTIVITY,
    "tangent": SERIES,
    "moments": SERIES,
}
STANDARDISED = ("fc", "moments")
PERMUTED_BASELINES = ("fc",)
OWN_HEADS = {"mean": "mean", "fc_kernel": "kernel_ridge"}
NOT_OF_BASELINES = ("attention", "project")
COLUMN_HEADS = ("ridge", "kernel_ridge")
"""Heads that take permuted targets as columns of one fit (a kernel ridge, unless it chooses a width)."""

logger = logging.getLogger(__name__)


def steps_of(config: ProbeConfig) -> tuple[Step, ...]:
    """Return the steps of the recipe that is fitted in every training fold.

    Raises
    ------
    ConfigError
        If the recipe has none, or pools regions' latents where these are not at hand.
    """
    if config.adjust is None:
        return ()
    steps = Strategy.from_yaml(config.adjust).adjust
    if pools_regions(steps) and config.transfer.is_asked:
        raise ConfigError(f"{config.adjust}: step 'attention': latents are not transferred; use a recipe without it")
    if not steps:
        raise ConfigError(f"{config.adjust}: has no steps (adjust is empty); leave adjust out, or name another recipe")
    return steps


def pools_regions(steps: Sequence[Step]) -> bool:
    """Say whether the steps read regions' latents instead of vectors."""
    return part_attention(steps)[0] is not None


def for_target(config: ProbeConfig, steps: Sequence[Step], target: Target) -> tuple[Step, ...]:
    """Return the steps as they are fitted in the folds of a target.

    It is not among what they regress out or keep. A query is trained for it, on training rows, whatever the recipe's
    own is trained for: one that knows another target of everybody would tell of test rows what goes with it.

    Raises
    ------
    ConfigError
        If a step cannot do without it.
    """
    attention, rest = part_attention(steps)
    kept = without_target(rest, target.column)
    if attention is None:
        return kept
    asked = next(spec for spec in config.targets if spec.name == target.name)
    return (attention.model_copy(update={"target": asked}), *kept)


def without_target(steps: Sequence[VectorStep], column: str) -> tuple[VectorStep, ...]:
    """Return the steps without the target among what they regress out or keep.

    Raises
    ------
    ConfigError
        If a step cannot do without.
    """
    kept: list[VectorStep] = []
    for step in steps:
        if step.step == "residualize" and column in step.covariates:
            rest = tuple(name for name in step.covariates if name != column)
            if rest:
                knots = 0 if column == "age" else step.age_knots
                kept.append(step.model_copy(update={"covariates": rest, "age_knots": knots}))
        elif step.step == "harmonize" and column in step.keep:
            kept.append(step.model_copy(update={"keep": tuple(name for name in step.keep if name != column)}))
        else:
            kept.append(step)
    try:
        check_target(kept, column)
    except ValueError as error:
        raise ConfigError(f"targets: {error}") from None
    return tuple(kept)


def plan_trials(
    config: ProbeConfig, material: Material, target: Target, steps: Sequence[Step], confounds: Sequence[str]
) -> list[TrialSpec]:
    """Return the trials of a target: those of its tables by all heads, those of its baselines by the first one."""
    own = for_target(config, steps, target)
    pools = pools_regions(own)
    common: dict[str, Any] = {"target": target.name, "kind": target.kind, "bootstrap": config.bootstrap}
    common |= {"seed": config.seed, "folds_id": target.folds.id}
    common |= {"impute": config.impute, "unseen_site": config.unseen_site}
    read = (_digest_target(target), _digest_frame(material.scans))
    trials = []
    for name, table in material.tables.items():
        told = common | {
            "source": name + ATTENTION * pools,
            "steps": own,
            "standardise": True,
            "inputs": (*read, table.ref.digest),
        }
        trials += [_trial(config, told, name, "embedding", head) for head in config.heads.of(target.kind)]
        if config.attention:
            told |= {"source": name + ATTENTION, "standardise": False}
            trials.append(_trial(config, told, name + ATTENTION, "embedding", "attention"))
    n_dims = int(next(iter(material.vectors.values())).shape[1])
    least = min(len(split.train) for split in target.folds.splits())
    kept = tuple(step for step in own if step.step not in NOT_OF_BASELINES) if config.adjust_baselines else ()
    for baseline in config.baselines:
        told = common | {"source": SOURCES[baseline], "standardise": baseline in STANDARDISED}
        told |= {"inputs": (*read, material.cohort.ref.digest)}
        if baseline == "confounds":
            told["confounds"] = tuple(name for name in confounds if name != target.column)
            if not told["confounds"]:
                logger.warning("probe: target %s has no confound to be compared with", target.name)
                continue
        if SOURCES[baseline] is not None:
            told["steps"] = kept
        if baseline == "fc_reduced":
            told["components"] = min(n_dims, least - 1)
        head = OWN_HEADS.get(baseline, config.heads.of(target.kind)[0])
        trials.append(_trial(config, told, baseline, "baseline", head))
    return trials


def _trial(config: ProbeConfig, values: dict[str, Any], name: str, role: str, head: str) -> TrialSpec:
    options = config.grids.options(head)
    if name == "fc_kernel":
        options.pop("widths", None)
        options["kernel"] = "correlation"
    permuted = role == "embedding" or name in PERMUTED_BASELINES
    told = values | {"representation": name, "role": role, "head": head, "options": options}
    return TrialSpec.model_validate(told | {"permutations": _permutations(config, told) if permuted else 0})


def _permutations(config: ProbeConfig, told: dict[str, Any]) -> int:
    head = told["head"]
    free = head in COLUMN_HEADS and not (head == "kernel_ridge" and config.grids.kernel == "rbf")
    free &= not pools_regions(told.get("steps", ()))  # the query would have to be trained anew for every permutation
    return config.permutations if free or config.refit_permutations else 0


def present_confounds(config: ProbeConfig, scans: pd.DataFrame) -> list[str]:
    """Return the confounds that the tables have a value of."""
    return [name for name in config.confounds if name in scans and scans[name].notna().any()]


def target_material(config: ProbeConfig, material: Material, target: Target, steps: Sequence[Step]) -> TargetMaterial:
    """Return what the trials of a target share, after checking that the steps have their covariates.

    Raises
    ------
    ResultsError
        If a covariate that a step needs is missing and nothing fills it in, or nobody can be exchanged.
    """
    scans = material.scans.iloc[target.rows].reset_index(drop=True)
    for name in dict.fromkeys(name for step in for_target(config, steps, target) for name in step.needs()):
        lacking = len(scans) if name not in scans else int(scans[name].isna().sum())
        if lacking and (getattr(config.impute, name, None) is None or lacking == len(scans)):
            raise ResultsError(
                f"target {target.name!r}: adjust needs {name}, which {lacking} of {len(scans)} scans lack; say how to "
                f"fill it in (impute), or use a recipe without it"
            )
    subjects = target.people["subject"].to_numpy()
    families = target.people["family"].to_numpy() if "family" in target.people else None
    groups = pd.Series(target.folds.groups)
    blocks = None
    if "site" in target.people and target.people["site"].notna().all():
        sites = target.people["site"].astype(str)
        # somebody who was scanned at several sites belongs into no single block, and where a target does not vary
        # within sites, permuting within them would permute nothing
        one_site = (sites.groupby(groups).nunique() == 1).all()
        blocks = sites.to_numpy() if one_site and not target.is_of_sites else None
    return TargetMaterial(target.rows, target.y, target.folds, scans, subjects, families, blocks)


def _digest_target(target: Target) -> str:
    return hashlib.sha256(np.ascontiguousarray(target.y).tobytes()).hexdigest()


def _digest_frame(scans: pd.DataFrame) -> str:
    return hashlib.sha256(scans.to_csv().encode()).hexdigest()

"""Representations against each other on the same folds, a task a pair."""

import itertools
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from boldstream.analysis.contest import Contest, contest
from boldstream.analysis.folds import FoldSet
from boldstream.analysis.nested import Predictions, TargetKind
from boldstream.interrupts import raise_if_interrupted
from boldstream.probe.spec import TrialSpec

WAIT_S = 5.0

logger = logging.getLogger(__name__)


def pairs_of(specs: Sequence[TrialSpec]) -> list[tuple[TrialSpec, TrialSpec]]:
    """Return whom to compare: every table with every baseline, and tables with each other, by their first heads."""
    firsts: dict[tuple[str, str], TrialSpec] = {}
    for spec in specs:
        firsts.setdefault((spec.target, spec.representation), spec)
    found = []
    for first, second in itertools.combinations(firsts.values(), 2):
        if first.target == second.target and first.role == "embedding":
            found.append((first, second))
    return found


def compare_all(
    specs: Sequence[TrialSpec], predictions: Mapping[str, Predictions], folds: Mapping[str, FoldSet]
) -> list[tuple[TrialSpec, TrialSpec, Contest]]:
    """Compare all pairs by their kind's first metric.

    Parameters
    ----------
    predictions : mapping of str to Predictions
        By `TrialSpec.key`.
    folds : mapping of str to FoldSet
        By target.
    """
    import ray

    compare = ray.remote(_compare)
    pairs = pairs_of(specs)
    tasks = [
        compare.remote(
            predictions[first.key],
            predictions[second.key],
            first.kind,
            folds[first.target].groups,
            first.bootstrap,
            first.seed,
        )
        for first, second in pairs
    ]
    waiting = list(tasks)
    while waiting:
        raise_if_interrupted()
        _, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=WAIT_S)
        if waiting:
            logger.info("probe: %d of %d comparisons done", len(tasks) - len(waiting), len(tasks))
    return [(*pair, found) for pair, found in zip(pairs, ray.get(tasks), strict=True)]


def _compare(first: Predictions, second: Predictions, kind: TargetKind, units: Any, n: int, seed: int) -> Contest:
    # the object store hands out arrays that nobody may write to, which is fine: nothing is written
    return contest(first, second, kind, units=units, n=n, seed=seed)

"""Probe results summed up: how often who wins, and every number that the page shows."""

import math
from collections.abc import Sequence
from typing import Any

from boldstream.errors import few_of
from boldstream.report.probes import (
    BETTER,
    CONFOUNDS,
    CONNECTIVITY,
    N_NAMED,
    WORSE,
    ProbedTarget,
    Probes,
    title_of_representation,
)


def tally(probes: Probes) -> list[str]:
    """Say in a sentence each how often the table in question does better and worse than what it has to beat.

    Connectivity and confounds first, then other tables; whoever wins, the sentence is the same.
    """
    rivals = [name for name in (CONNECTIVITY, CONFOUNDS) if name in probes.opponents]
    tables = {line.representation for target in probes.targets for line in target.lines if line.is_embedding}
    rivals += [name for name in probes.opponents if name in tables]
    return [_tally(probes, rival) for rival in rivals]


def _tally(probes: Probes, rival: str) -> str:
    verdicts: dict[str, list[str]] = {}
    for target in probes.targets:
        if contest := target.against(rival):
            verdicts.setdefault(contest.verdict, []).append(target.name)
    n = sum(map(len, verdicts.values()))
    # bad news first
    order = sorted(verdicts, key=lambda verdict: (verdict != WORSE, verdict == BETTER))
    parts = [
        f"{verdict} at {len(names)} of {n} target{'s' if n > 1 else ''} ({few_of(names, N_NAMED)})"
        for verdict, names in ((one, verdicts[one]) for one in order)
    ]
    told = "; ".join(parts)
    carried = ", carried over to unseen scans," if probes.is_transfer else ""
    return f"Against {title_of_representation(rival)}, {probes.lead}{carried} is {told}."


def numbers_of_probes(probes: Probes, tables: Sequence[str]) -> dict[str, Any]:
    """Return what the page shows of results, as JSON types; `tables` are the pointers of the report's."""
    content = probes.results.manifest.content
    return {
        "pointer": probes.results.ref.pointer,
        "digest": probes.results.ref.digest,
        "kind": probes.results.manifest.kind,
        "tables": content["tables"],
        "headline": probes.headline,
        "sentences": probes.sentences,
        "tally": tally(probes),
        "other_versions": other_versions(probes, tables),
        "targets": {target.name: _target_numbers(target) for target in probes.targets},
    }


def _target_numbers(target: ProbedTarget) -> dict[str, Any]:
    return {
        "kind": target.kind,
        "metric": target.metric,
        "n_scans": target.n_scans,
        "n_subjects": target.n_subjects,
        "n_sites": target.n_sites,
        "n_missing": target.n_missing,
        "folds": target.scheme,
        "scores": [
            {
                "representation": line.representation,
                "head": line.head,
                "role": line.role,
                "n_dims": line.n_dims,
                "p": known(line.p),
                "p_adjusted": known(line.p_adjusted),
                "metrics": {name: [known(one) for one in values] for name, values in line.metrics.items()},
            }
            for line in target.lines
        ],
        "contests": [{name: known(value) for name, value in vars(contest).items()} for contest in target.contests],
    }


def known(value: Any) -> Any:
    """Return a value for JSON, which has no NaN: None instead."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def other_versions(probes: Probes, tables: Sequence[str]) -> list[str]:
    """Say which tables of the results are not the versions that the report measures."""
    shown = {pointer.rpartition("@")[0]: pointer for pointer in tables}
    told = []
    for name, one in probes.results.manifest.content["tables"].items():
        uri, _, version = str(one["pointer"]).rpartition("@")
        if uri in shown and shown[uri] != one["pointer"]:
            told.append(
                f"{name} was probed at version {version}; the rest of this page is of version "
                f"{shown[uri].rpartition('@')[2]}."
            )
    return told

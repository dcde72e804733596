"""What results mean, in plain sentences: bad news first, and no claim that the numbers do not carry."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from boldstream.probe.config import ATTENTION

SMALL = 100
"""Subjects below which a score is off by chance by 10 points and more (Varoquaux 2018, NeuroImage 180:68)."""
FC_BASELINES = ("fc", "fc_kernel", "fc_reduced", "tangent")
NAMES = {
    "mean": "knowing nothing",
    "confounds": "confounds alone",
    "fc": "functional connectivity",
    "fc_kernel": "a kernel ridge on functional connectivity",
    "fc_reduced": "functional connectivity cut to as many dimensions",
    "tangent": "tangent-space connectivity",
    "moments": "regions' means and variances",
}
METRIC_NAMES = {"r2": "R²", "auroc": "AUROC"}
MULTICLASS = "multiclass"
CHANCE = {"r2": 0.0, "auroc": 0.5}
LEVEL = 0.05
WORSE, NOT_APART, BETTER = "worse", "not told apart", "better"
LOSES, NOTHING, UNTOLD, CLAIM = 0, 1, 2, 3
"""Order of sentences: worst news first."""


@dataclass(frozen=True)
class Sentence:
    """One sentence.

    Attributes
    ----------
    order : int
        0 is the worst news.
    text : str
    """

    order: int
    text: str


def metric_name(metric: str, kind: str) -> str:
    """Return how sentences and pictures call a kind of target's first metric."""
    return METRIC_NAMES[metric] + " over classes" * (kind == MULTICLASS)


def title_of(name: str) -> str:
    """Return how sentences and pictures call a representation."""
    if name.endswith(ATTENTION):
        return f"{name.removesuffix(ATTENTION)} pooled by attention"
    return NAMES.get(name, name)


def write_sentences(scores: pd.DataFrame, contests: pd.DataFrame, notes: Sequence[str]) -> tuple[str, list[str]]:
    """Return the headline, and all sentences with the worst news first.

    Parameters
    ----------
    scores, contests : DataFrame
        As `artifacts.results` describes them.
    notes : sequence of str
        What else a reader has to know; they come last.
    """
    primary = scores[scores["primary"]]
    first = str(primary["representation"].iloc[0])
    found = [one for target in primary["target"].unique() for one in _of_target(primary, contests, target, first)]
    ordered = [one.text for one in sorted(found, key=lambda one: one.order)]
    return _headline(primary, contests, first), [*ordered, *_small(primary), *notes]


def _of_target(primary: pd.DataFrame, contests: pd.DataFrame, target: str, first: str) -> list[Sentence]:
    rows = primary[primary["target"] == target]
    own = rows[rows["representation"] == first].iloc[0]
    metric = metric_name(own["metric"], own["kind"])
    score = f"{metric} {interval(own['value'], own['low'], own['high'])}"
    found = []
    if not own["low"] > CHANCE[own["metric"]]:
        how = "does worse than" if own["high"] < CHANCE[own["metric"]] else "is not told apart from"
        found.append(Sentence(NOTHING, f"{target}: {first} {how} {_chance_words(own)} ({score})."))
    against = contests[(contests["target"] == target) & (contests["first"] == first)]
    for verdict, order in ((WORSE, LOSES), (NOT_APART, UNTOLD)):
        rivals = against[(against["verdict"] == verdict) & (against["second"] != "mean")].to_dict("records")
        if rivals:
            found.append(Sentence(order, _lost(target, first, rivals, metric)))
    if may_claim(own, against):
        beaten = [title_of(name) for name in against.loc[against["verdict"] == BETTER, "second"]]
        found.append(Sentence(CLAIM, f"{target}: {first} tells more than {listed(beaten)} ({score})."))
    else:
        beaten = [
            title_of(n) for n in against.loc[(against["verdict"] == BETTER) & (against["second"] != "mean"), "second"]
        ]
        if beaten:
            found.append(Sentence(CLAIM, f"{target}: {first} tells more than {listed(beaten)}, which is no claim yet."))
    if (p := own["p_adjusted"]) == p:
        how = "is" if p <= LEVEL else "is not"
        found.append(
            Sentence(
                CLAIM if p <= LEVEL else NOTHING,
                f"{target}: {first} {how} better than with permuted targets (p {own['p']:.3g}, over targets {p:.3g}).",
            )
        )
    if int(own["n_missing"]):
        found.append(Sentence(CLAIM + 1, f"{target}: {own['n_missing']} scans have no value and are left out."))
    return found


def may_claim(own: Mapping[Hashable, Any] | pd.Series, against: pd.DataFrame) -> bool:
    """Say whether a table may be said to beat baselines: better than confounds and each connectivity that was compared.

    Better means that the paired interval excludes 0. What was not compared allows no claim, nor do few subjects.
    """
    verdicts = dict(zip(against["second"], against["verdict"], strict=True))
    asked = [name for name in (*FC_BASELINES, "confounds") if name in verdicts]
    has_both = "confounds" in verdicts and any(name in verdicts for name in FC_BASELINES)
    return has_both and own["n_subjects"] >= SMALL and all(verdicts[name] == BETTER for name in asked)


def _headline(primary: pd.DataFrame, contests: pd.DataFrame, first: str) -> str:
    """Return one sentence over all targets: what the table loses to, or is not told from, before what it beats."""
    own = primary[primary["representation"] == first].drop_duplicates("target")
    against = contests[contests["first"] == first]
    worse: dict[str, list[str]] = {}
    untold, claimed = [], []
    for row in own.to_dict("records"):
        target, mine = row["target"], against[against["target"] == row["target"]]
        winners = set(mine.loc[mine["verdict"] == WORSE, "second"])
        kinds = [title_of("fc")] * bool(winners.intersection(FC_BASELINES))
        kinds += [title_of("confounds")] * ("confounds" in winners)
        if kinds:
            worse.setdefault(listed(kinds), []).append(target)
        elif may_claim(row, mine):
            claimed.append(target)
        else:
            untold.append(target)
    parts = []
    if worse:
        told = [f"than {rivals} at {listed(targets)}" for rivals, targets in worse.items()]
        parts.append(f"does worse {', and '.join(told)}")
    if untold:
        parts.append(f"is not shown to beat connectivity and confounds at {listed(untold)}")
    if claimed:
        parts.append(f"beats connectivity and confounds at {listed(claimed)}")
    few = int(own["n_subjects"].min())
    end = f"; {few} subjects are too few for a claim" if few < SMALL else ""
    return f"{first} {'; it '.join(parts)}{end}."


def _small(primary: pd.DataFrame) -> list[str]:
    few = primary[primary["n_subjects"] < SMALL].drop_duplicates("target")
    return [
        f"{row['target']}: {row['n_subjects']} subjects are too few for a claim; below {SMALL} a score is off by "
        "chance by 10 points and more."
        for row in few.to_dict("records")
    ]


def _lost(target: str, first: str, rivals: Sequence[Mapping[Hashable, Any]], metric: str) -> str:
    what = "does worse than" if rivals[0]["verdict"] == WORSE else "is not told apart from"
    score = f"{metric} {rivals[0]['first_value']:.3f}"
    told = [
        f"{title_of(one['second'])} ({one['second_value']:.3f}; "
        f"difference {interval(one['difference'], one['low'], one['high'])})"
        for one in rivals
    ]
    return f"{target}: {first} ({score}) {what} {listed(told)}."


def _chance_words(own: pd.Series) -> str:
    return "knowing nothing" if own["metric"] == "r2" else "guessing"


def interval(value: float, low: float, high: float) -> str:
    """Return a number with its interval."""
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def listed(names: Sequence[str]) -> str:
    """Return names joined as in a sentence."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)

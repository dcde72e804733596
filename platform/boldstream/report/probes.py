"""Probe results as the page tells them: who is better at which target, and against whom that is not so."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from boldstream.analysis.intervals import Estimate
from boldstream.artifacts.cohort import Cohort
from boldstream.artifacts.results import Results, open_results
from boldstream.errors import ConfigError, few_of
from boldstream.report.wording import capital, told_value

TITLES = {
    "mean": "mean or majority",
    "confounds": "confounds alone",
    "fc": "functional connectivity",
    "fc_kernel": "connectivity, kernel ridge",
    "fc_reduced": "connectivity, reduced",
    "tangent": "tangent connectivity",
    "moments": "region means and variances",
}
"""Baselines in words; others are called by their names."""
METRICS = {
    "r2": "R²",
    "r": "r",
    "mae": "MAE",
    "auroc": "AUROC",
    "balanced_accuracy": "balanced accuracy",
    "auprc": "AUPRC",
    "brier": "Brier score",
}
ENDINGS = {"in_cohort": "learnt there", "recentred": "recentred", "recalibrated": "recalibrated"}
"""How a transfer's further versions of a metric end, in words."""
CHANCE = {"r2": 0.0, "r": 0.0, "auroc": 0.5, "balanced_accuracy": 0.5}
"""What a prediction that knows nothing reaches, where that does not depend on the target."""
OVER_CLASSES = ("auroc", "auprc")
"""Metrics that are means over three classes and more, each against the rest."""
MOST_NEGATIVE = {"r2": -0.5}
"""Scores below are drawn at the panel's edge, so that a few failed heads do not hide the others."""
CONNECTIVITY, CONFOUNDS = "fc", "confounds"
EMBEDDING, MULTICLASS = "embedding", "multiclass"
BETTER, WORSE = "better", "worse"
N_NAMED = 5


@dataclass(frozen=True)
class Line:
    """One representation with one head at one target: every metric as (value, low, high)."""

    representation: str
    role: str
    head: str
    n_dims: int
    metrics: dict[str, tuple[float, float, float]]
    p: float
    p_adjusted: float

    @property
    def title(self) -> str:
        """Its name on the page."""
        return title_of_representation(self.representation)

    @property
    def is_embedding(self) -> bool:
        """Whether it is a table's, not a baseline's."""
        return self.role == EMBEDDING


@dataclass(frozen=True)
class Contest:
    """Two representations at one target: ``verdict`` is what the first is against the second."""

    first: str
    second: str
    difference: float
    low: float
    high: float
    verdict: str


@dataclass(frozen=True)
class ProbedTarget:
    """One target with all that was tried on it.

    Attributes
    ----------
    name, kind, metric : str
        ``metric`` is the primary one.
    lines : list of Line
        Embeddings first, each group in the order of the results.
    contests : list of Contest
        By the primary metric.
    n_scans, n_subjects, n_sites, n_missing : int
    scheme : str
        Of its folds.
    """

    name: str
    kind: str
    metric: str
    lines: list[Line]
    contests: list[Contest]
    n_scans: int
    n_subjects: int
    n_sites: int
    n_missing: int
    scheme: str

    @property
    def metrics(self) -> list[str]:
        """The metrics that the page shows, the primary one first and, of a transfer, in its further versions."""
        named = dict.fromkeys(name for line in self.lines for name in line.metrics)
        own = [self.metric, *(f"{self.metric}_{ending}" for ending in ENDINGS)]
        return [name for name in own if name in named] + [name for name in named if name in METRICS.keys() - set(own)]

    def title_of(self, metric: str) -> str:
        """Return a metric's name on the page; of several classes, what is a mean over them is called so."""
        over = " over classes" if self.kind == MULTICLASS and metric.partition("_")[0] in OVER_CLASSES else ""
        return title_of_metric(metric) + over

    @property
    def n_further(self) -> int:
        """Measures that are in numbers.json only."""
        return len({name for line in self.lines for name in line.metrics} - set(self.metrics))

    @property
    def floor(self) -> float:
        """The score below which others are drawn at the edge: none where most are so low."""
        lowest = MOST_NEGATIVE.get(self.metric, -math.inf)
        return lowest if self._n_below(lowest) <= len(self.lines) / 2 else -math.inf

    @property
    def is_cut(self) -> bool:
        """Whether a score is so low that it is drawn at the edge."""
        return self._n_below(self.floor) > 0

    def _n_below(self, score: float) -> int:
        return sum(line.metrics[self.metric][0] < score for line in self.lines)

    @property
    def has_p(self) -> bool:
        """Whether anything was permuted."""
        return any(math.isfinite(line.p) for line in self.lines)

    def against(self, other: str) -> Contest | None:
        """Return the contest of the leading table with another representation, None if there is none."""
        lead = self.lines[0].representation
        return next((one for one in self.contests if (one.first, one.second) == (lead, other)), None)


@dataclass(frozen=True)
class Probes:
    """One version of results, ready to be shown."""

    results: Results
    targets: list[ProbedTarget]

    @property
    def is_transfer(self) -> bool:
        """Whether what was learnt in some scans was applied unchanged to others."""
        return bool(self.results.manifest.kind == "transfer")

    @property
    def lead(self) -> str:
        """The table in question."""
        return self.targets[0].lines[0].representation

    @property
    def headline(self) -> str:
        """What the results say of themselves in one sentence."""
        return str(self.results.manifest.content["headline"])

    @property
    def sentences(self) -> list[str]:
        """What they say of themselves, worst news first."""
        return list(self.results.manifest.content["sentences"])

    @property
    def columns(self) -> list[str]:
        """The columns of the tables that the targets were taken from."""
        told = self.results.manifest.content["targets"]
        return [str(told[target.name].get("column", target.name)) for target in self.targets]

    def unread(self, uri: str) -> dict[str, str]:
        """Return, by column, why a target has no map: it cannot be told from chance, or has more than two classes."""
        found = {}
        for column, target, scores in self._scores_of(uri):
            chance = CHANCE.get(target.metric)
            if target.kind == MULTICLASS:
                found[column] = f"{capital(target.name)} has several classes, so no one map says where a probe looks."
            elif scores and chance is not None and all(low <= chance for _, low, _ in scores):
                found[column] = (
                    f"{capital(target.name)}: in {self.results.label} no probe of this table is told from knowing "
                    f"nothing ({_told(target, scores[0])}), so its regions mean nothing."
                )
        return found

    def told_of(self, uri: str) -> dict[str, str]:
        """Return, by column, how well the first probe of a table did, with its interval."""
        return {column: _told(target, scores[0]) for column, target, scores in self._scores_of(uri) if scores}

    def _scores_of(self, uri: str) -> Iterator[tuple[str, ProbedTarget, list[tuple[float, float, float]]]]:
        tables = self.results.manifest.content["tables"]
        names = {name for name, one in tables.items() if str(one["pointer"]).rpartition("@")[0] == uri}
        for column, target in zip(self.columns, self.targets, strict=True):
            yield column, target, [line.metrics[target.metric] for line in target.lines if line.representation in names]

    def classes_of(self, target: ProbedTarget) -> list[str]:
        """Return the names of three classes and more, none of other targets."""
        if target.kind != MULTICLASS:
            return []
        return list(self.results.manifest.content["targets"][target.name]["classes"])

    @property
    def opponents(self) -> list[str]:
        """What the table in question is compared with at any target."""
        rivals = (one.second for target in self.targets for one in target.contests if one.first == self.lead)
        return list(dict.fromkeys(rivals))


def unread_targets(probes: Sequence[Probes], uri: str) -> dict[str, str]:
    """Return, by column, why a target of a table has no map; of a transfer, only where nothing else has probed it."""
    here = {column for one in probes if not one.is_transfer for column in one.told_of(uri)}
    return {
        column: why
        for one in probes
        for column, why in one.unread(uri).items()
        if not (one.is_transfer and column in here)
    }


def told_here(probes: Sequence[Probes], uri: str, column: str) -> list[str]:
    """Say how well results tell a column from a table of the cohort itself, a sentence each."""
    own = {one.results.label: one.told_of(uri).get(column) for one in probes if not one.is_transfer}
    return [f"In {label} the probe of this table reached {told}." for label, told in own.items() if told]


def _told(target: ProbedTarget, score: tuple[float, float, float]) -> str:
    return f"{METRICS[target.metric]} {told_value(Estimate(*score))}, {target.n_subjects} subjects"


def title_of_metric(name: str) -> str:
    """Return a metric's name on the page."""
    base, _, ending = name.partition("_")
    if name not in METRICS and ending in ENDINGS:
        return f"{METRICS.get(base, base)}, {ENDINGS[ending]}"
    return METRICS.get(name, name)


def title_of_representation(name: str) -> str:
    """Return a representation's name on the page."""
    return TITLES.get(name, name)


def read_probes(pointers: Sequence[str], cohort: Cohort, warehouse: str) -> list[Probes]:
    """Open results and check that they are of the report's cohort.

    Raises
    ------
    ResultsError
        If results are not there or not whole.
    ConfigError
        If they are of another cohort.
    """
    found = []
    for pointer in pointers:
        results = open_results(pointer, warehouse)
        made_of = {parent.uri for parent in results.manifest.parents if parent.role == "cohort"}
        made_of.add(str(results.manifest.content["cohort"]["pointer"]).rpartition("@")[0])
        if cohort.ref.uri not in made_of:
            raise ConfigError(
                f"results: {results.label} are of cohort {few_of(sorted(made_of), N_NAMED)}, not of {cohort.ref.uri}; "
                "name results of this cohort, or make them with jobs/probe.py"
            )
        found.append(Probes(results, targets_of(results.scores(), results.contests())))
    return found


def targets_of(scores: pd.DataFrame, contests: pd.DataFrame) -> list[ProbedTarget]:
    """Gather scores and contests by target, in the order in which they stand."""
    found = []
    for name, own in scores.groupby("target", sort=False):
        first = own.iloc[0]
        metric = str(own.loc[own["primary"], "metric"].iloc[0])
        rows = contests[(contests["target"] == name) & (contests["metric"] == metric)]
        lines = [_line(group, metric) for _, group in own.groupby(["representation", "head"], sort=False)]
        counts = {count: int(first[count]) for count in ("n_scans", "n_subjects", "n_sites", "n_missing")}
        found.append(
            ProbedTarget(
                name=str(name),
                kind=str(first["kind"]),
                metric=metric,
                lines=sorted(lines, key=lambda line: not line.is_embedding),
                contests=[_contest(row) for row in rows.to_dict("records")],
                scheme=str(first["scheme"]),
                **counts,
            )
        )
    return found


def _line(rows: pd.DataFrame, primary: str) -> Line:
    first = rows.iloc[0]
    main = rows[rows["metric"] == primary].iloc[0]
    return Line(
        representation=str(first["representation"]),
        role=str(first["role"]),
        head=str(first["head"]),
        n_dims=int(first["n_dims"]),
        metrics={row["metric"]: (row["value"], row["low"], row["high"]) for row in rows.to_dict("records")},
        p=float(main["p"]),
        p_adjusted=float(main["p_adjusted"]),
    )


def _contest(row: dict[Any, Any]) -> Contest:
    return Contest(row["first"], row["second"], row["difference"], row["low"], row["high"], row["verdict"])

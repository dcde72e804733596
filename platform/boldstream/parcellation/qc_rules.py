"""From measures to a decision: keep a scan, flag it, or set it aside, always with the reasons and their values."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

import pydantic

from boldstream.config import Config
from boldstream.parcellation.qc import MEASURES, Measure, ScanQuality

Status = Literal["keep", "flag", "quarantine"]
SEVERITY: dict[Status, int] = {"keep": 0, "flag": 1, "quarantine": 2}

COHORT_MEASURES: dict[str, Measure] = {"outlier": Measure("distance from the cohort's connectivity", "", "high")}
"""Measures that a scan has only among others: `boldstream.analysis.outliers` gives them."""

ALL_MEASURES: dict[str, Measure] = MEASURES | COHORT_MEASURES

DECISION_COLUMNS: dict[str, str] = {"qc_status": "string", "qc_reasons": "list<string>"}
"""Names and types (as Arrow writes them) of `Decision.columns`."""


class Limit(Config):
    """Where a measure becomes bad; a value at the limit is still good. Empty: no rule."""

    flag: float | None = None
    """Beyond it a scan is kept and marked."""

    quarantine: float | None = None
    """Beyond it a scan goes to quarantine."""


class QualityRules(Config):
    """When scans are flagged or quarantined; every measure may have one limit of each kind.

    The defaults flag what a reader should look at, and quarantine only what no analysis can use. A limit given in YAML
    replaces the default of its measure whole; ``mean_fd: {}`` takes the rule away. A measure that a scan has not got
    breaks no rule.
    """

    mean_fd: Limit = Limit(flag=0.5)
    """Mean framewise displacement in mm, above. 0.55 is Parkes' lenient and 0.25 his stringent limit (Parkes et al.
    2018, with Jenkinson's FD; Power's FD is about twice as large; Power et al. 2012 censor timepoints above 0.5)."""

    high_fd_share: Limit = Limit()
    """Share of timepoints with FD over 0.2 mm, above. Parkes' stringent limit is 0.2; many usable scans exceed it."""

    censored_share: Limit = Limit(flag=0.5)
    """Share of timepoints that preprocessing took out, above. What matters more is how much time is left."""

    dvars: Limit = Limit(flag=1.2)
    """Mean standardised DVARS, above; 1 is clean."""

    spike_share: Limit = Limit(flag=0.1)
    """Share of timepoints that are spikes, above."""

    tsnr: Limit = Limit()
    """Median temporal SNR of regions, below. None: it depends on voxel and region size, field strength and t_r."""

    min_coverage: Limit = Limit()
    """Least share of a region's voxels with signal, below. None: one region out of the field of view is common."""

    n_low_coverage: Limit = Limit()
    """Number of regions covered less than 0.5, above. None: it depends on the atlas."""

    n_zero_rois: Limit = Limit()
    """Number of regions that are all zero, above."""

    n_flat_rois: Limit = Limit()
    """Number of regions that are constant, above."""

    n_nonfinite_rois: Limit = Limit()
    """Number of regions with NaN or infinite values, above."""

    bad_roi_share: Limit = Limit(flag=0.02, quarantine=0.5)
    """Share of regions that are constant or not finite, above."""

    fc_mean: Limit = Limit(flag=0.7)
    """Mean functional connectivity, above. Near 1 all regions have one signal: motion, or a constant added to all."""

    fc_homotopic: Limit = Limit(flag=0.05)
    """Lead of left-right pairs in connectivity, below. Near 0 the columns are hardly in the order of the names."""

    outlier: Limit = Limit(flag=4.0)
    """Robust distance of a scan's connectivity from the cohort's, in SDs of a normal cohort, above. A normal
    cohort has 1 in 30,000 beyond 4; a real one has longer tails (ABIDE 1 in 100)."""

    duplicates: Status = "flag"
    """What becomes of scans whose time series are another's, bit by bit."""

    @pydantic.model_validator(mode="after")
    def _check(self) -> Self:
        for name, measure in ALL_MEASURES.items():
            limit = self.limit(name)
            if limit.flag is None or limit.quarantine is None:
                continue
            if _beyond(limit.flag, limit.quarantine, measure):
                side = "below" if measure.bad == "high" else "above"
                raise ValueError(
                    f"{name}: quarantine {limit.quarantine:g} is {side} flag {limit.flag:g}, so nothing is ever "
                    f"flagged; {measure.bad} values are bad here: exchange the two, or leave flag out"
                )
        return self

    def limit(self, measure: str) -> Limit:
        """Return the limits of a measure."""
        found: Limit = getattr(self, measure)
        return found


@dataclass(frozen=True)
class Reason:
    """Why a scan is not simply kept.

    Attributes
    ----------
    measure : str
        Name in `ALL_MEASURES`, or ``duplicates``.
    value, threshold : float or None
        None for a duplicate.
    status : {"flag", "quarantine"}
    text : str
        ``measure: `` and what happened, with the values.
    """

    measure: str
    value: float | None
    threshold: float | None
    status: Status
    text: str


@dataclass(frozen=True)
class Decision:
    """What becomes of a scan.

    Attributes
    ----------
    status : {"keep", "flag", "quarantine"}
        The gravest of the reasons'.
    reasons : tuple of Reason
        Gravest first; empty where the scan is kept.
    """

    status: Status
    reasons: tuple[Reason, ...]

    @property
    def message(self) -> str:
        """All reasons in one line, for a quarantine table."""
        return "; ".join(reason.text for reason in self.reasons)

    def columns(self) -> dict[str, Any]:
        """Return the cohort's columns of this decision, named and typed as `DECISION_COLUMNS` says."""
        return {"qc_status": self.status, "qc_reasons": [reason.text for reason in self.reasons]}


def judge(
    quality: ScanQuality | Mapping[str, float | None],
    rules: QualityRules,
    *,
    outlier: float | None = None,
    duplicate_of: str | None = None,
) -> Decision:
    """Judge a scan by its measures.

    Parameters
    ----------
    quality : ScanQuality or mapping of str to float or None
        Measures by name (without ``qc_``), as read back from a cohort; what is not in it, None or NaN is not judged.
    rules : QualityRules
    outlier : float, optional
        The scan's score in `boldstream.analysis.outliers.outlier_scores`.
    duplicate_of : str, optional
        Key of the scan that this one is a copy of.

    Raises
    ------
    ValueError
        If a measure is not known.
    """
    values = dict(quality.measures() if isinstance(quality, ScanQuality) else quality)
    if outlier is not None:
        values["outlier"] = outlier
    if unknown := sorted(set(values) - set(ALL_MEASURES)):
        raise ValueError(f"{unknown[0]!r} is no quality measure; known: {', '.join(ALL_MEASURES)}")
    reasons = [reason for name, value in values.items() if (reason := _reason(name, value, rules)) is not None]
    if duplicate_of is not None and rules.duplicates != "keep":
        text = f"duplicates: the same time series as {duplicate_of}"
        reasons.append(Reason("duplicates", None, None, rules.duplicates, text))
    reasons.sort(key=lambda reason: -SEVERITY[reason.status])
    return Decision(reasons[0].status if reasons else "keep", tuple(reasons))


def _reason(name: str, value: float | None, rules: QualityRules) -> Reason | None:
    """Return the gravest rule that a value breaks."""
    if value is None or value != value:
        return None
    measure, limit = ALL_MEASURES[name], rules.limit(name)
    graded: tuple[tuple[Status, float | None], ...] = (("quarantine", limit.quarantine), ("flag", limit.flag))
    for status, threshold in graded:
        if threshold is not None and _beyond(value, threshold, measure):
            side = "above" if measure.bad == "high" else "below"
            unit = f" {measure.unit}" if measure.unit else ""
            text = f"{name}: {measure.title} {_distinct(value, threshold)}{unit} is {side} {threshold:g}{unit}"
            return Reason(name, value, threshold, status, text)
    return None


def _beyond(value: float, threshold: float, measure: Measure) -> bool:
    return value > threshold if measure.bad == "high" else value < threshold


def _distinct(value: float, threshold: float) -> str:
    """Write a value with three digits, or with so many that it does not read like the threshold."""
    return next(text for digits in (3, 5, 8, 17) if float(text := f"{value:.{digits}g}") != threshold)

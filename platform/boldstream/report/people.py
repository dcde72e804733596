"""Who and what is in a cohort: one small table of its scans, counted and drawn."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from boldstream.artifacts.cohort import COVARIATE_FIELDS, Cohort
from boldstream.drawing import COLOURS, OPEN_AXES, REST, STYLE, png

COVARIATES = tuple(field.name for field in COVARIATE_FIELDS)
KEPT, FLAGGED, QUARANTINED = "#7fa8c9", "#e69f00", "#d55e00"
"""Colours of what became of scans, those of the cohort's quality page."""
FATES = ("kept", "flagged", "set aside")
MOST_SITES = 24
N_BINS = 24
MEASURED_ONLY = "not judged"


def read_people(cohort: Cohort) -> pd.DataFrame:
    """Read who every scan is of, what is known of them, and what quality control has decided."""
    wanted = ["subject", *COVARIATES, "t_r", "n_timepoints", "bad_rois", "qc_status", "qc_reasons"]
    there = [name for name in wanted if name in cohort.table.schema.names]
    people: pd.DataFrame = cohort.table.column(there, cohort.manifest.version).to_pandas()
    for name in set(wanted) - set(there):  # cohorts of earlier schemas have no quality columns
        people[name] = None
    return people


def count_quality(people: pd.DataFrame) -> dict[str, Any]:
    """Count scans by what quality control has decided, and the measures that made it flag a scan."""
    status = people["qc_status"].where(people["qc_status"].notna(), MEASURED_ONLY)
    reasons = Counter(
        str(reason).partition(":")[0]
        for listed in people["qc_reasons"]
        if isinstance(listed, (list, np.ndarray))
        for reason in listed
    )
    return {
        "status": {str(name): int(n) for name, n in status.value_counts().items()},
        "reasons": dict(reasons.most_common()),
    }


@mpl.rc_context(STYLE | OPEN_AXES)
def draw_people(people: pd.DataFrame, n_aside: int, vectors: Mapping[str, tuple[int, int]]) -> bytes:
    """Draw what became of the scans, and how sites, ages and motion are spread, where they are known.

    Parameters
    ----------
    people : DataFrame
        From `read_people`.
    n_aside : int
        Scans that were set aside when the cohort was read.
    vectors : mapping of str to (int, int)
        By table: its vectors, and its quarantine.
    """
    drawers = [lambda ax: _draw_fate(ax, people, n_aside, vectors)]
    known = {name for name in ("site", "age", "mean_fd") if people[name].notna().any()}
    drawers += [
        draw
        for name, draw in (
            ("site", lambda ax: _draw_sites(ax, people)),
            ("age", lambda ax: _draw_ages(ax, people)),
            ("mean_fd", lambda ax: _draw_motion(ax, people)),
        )
        if name in known
    ]
    columns = min(2, len(drawers))
    n_rows = -(-len(drawers) // columns)
    bars = 1 + len(vectors)
    figure = Figure(figsize=(10, 2.7 * n_rows if len(drawers) > 1 else 0.8 + 0.42 * bars), layout="constrained")
    axes = figure.subplots(n_rows, columns, squeeze=False).ravel()
    for ax, draw in zip(axes, drawers, strict=False):
        draw(ax)
    for ax in axes[len(drawers) :]:
        ax.remove()
    return png(figure)


def _draw_fate(ax: Axes, people: pd.DataFrame, n_aside: int, vectors: Mapping[str, tuple[int, int]]) -> None:
    n_flagged = int((people["qc_status"] == "flag").sum())
    bars = [("cohort (scans)", (len(people) - n_flagged, n_flagged, n_aside))]
    bars += [(f"{name} (vectors)", (n, 0, out)) for name, (n, out) in vectors.items()]
    left = np.zeros(len(bars))
    for label, colour, counts in zip(
        FATES, (KEPT, FLAGGED, QUARANTINED), np.array([b[1] for b in bars]).T, strict=True
    ):
        if counts.any():
            ax.barh(range(len(bars)), counts, left=left, color=colour, height=0.62, label=label)
        left = left + counts
    for row, (_, counts) in enumerate(bars):
        told = [f"{n} {label}" for n, label in zip(counts, FATES, strict=True) if n]
        ax.text(0.015 * left.max(), row, ", ".join(told), va="center", fontsize=8)
    ax.set_yticks(range(len(bars)), [name for name, _ in bars])
    ax.invert_yaxis()
    ax.tick_params(axis="y", length=0)
    ax.set_title("What became of the scans")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3)


def _draw_sites(ax: Axes, people: pd.DataFrame) -> None:
    counts = people["site"].value_counts()
    shown = counts.iloc[:MOST_SITES]
    ax.bar(range(len(shown)), shown.to_numpy(), color=KEPT, width=0.75)
    turned: dict[str, Any] = {"rotation": 55, "ha": "right", "rotation_mode": "anchor"} if len(shown) > 5 else {}
    ax.set_xticks(range(len(shown)), shown.index.tolist(), fontsize=7, **turned)
    more = f", the {MOST_SITES} largest of {len(counts)}" if len(counts) > MOST_SITES else ""
    ax.set_title(f"Scans by site{more}")


def _draw_ages(ax: Axes, people: pd.DataFrame) -> None:
    known = people[people["age"].notna()]
    sex = known["sex"].where(known["sex"].notna(), "sex not known").astype(str)
    names = sorted(sex.unique())
    colours = [REST if name == "sex not known" else COLOURS[i % len(COLOURS)] for i, name in enumerate(names)]
    ax.hist([known["age"][sex == name] for name in names], bins=N_BINS, stacked=True, color=colours, label=names)
    ax.set_title("Scans by age (years)")
    if len(names) > 1:
        ax.legend()


def _draw_motion(ax: Axes, people: pd.DataFrame) -> None:
    known = people["mean_fd"].dropna()
    ax.hist(known, bins=N_BINS, color=KEPT)
    missing = len(people) - len(known)
    ax.set_title("Scans by mean FD (mm)" + (f"; {missing} not known" if missing else ""))

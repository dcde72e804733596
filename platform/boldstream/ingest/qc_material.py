"""What the quality page is made of, and its table in one shape whatever it came in."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from boldstream.parcellation.qc import Measure
from boldstream.parcellation.qc_rules import ALL_MEASURES, SEVERITY, QualityRules

MEASURES: dict[str, Measure] = ALL_MEASURES | {"n_bad_rois": Measure("regions constant or not finite", "", "high")}
UNKNOWN = "not known"
NUMBER_COLUMNS = ("pc_1", "pc_2", "t_r", "n_timepoints", "age")
TEXT_COLUMNS = {"scan_key": "", "subject": None, "site": UNKNOWN, "status": "keep", "sex": None}
"""Columns of text, and what stands in them where nothing is known."""

Rows: TypeAlias = pd.DataFrame | pa.Table
Series = NDArray[np.floating]


@dataclass(frozen=True)
class QcMaterial:
    """Everything that the page shows.

    Attributes
    ----------
    cohort : str
        Its name, for the title.
    rows : DataFrame or pyarrow.Table
        A row a scan that was read: ``scan_key``, and where there are ``subject``, ``site``, ``status`` (keep, flag,
        quarantine), ``reasons`` (list of ``measure: text``), the measures, ``pc_1`` and ``pc_2`` (the outlier map),
        ``t_r``, ``n_timepoints`` and the covariates. Columns of the cohort that begin with ``qc_`` may keep that.
    quarantine : DataFrame or pyarrow.Table, optional
        ``scan_key``, ``reason``, ``message`` of every scan set aside, by quality or because it could not be read.
    unmatched_participants, unmatched_scans : sequence of str
        Rows of the participants table without a scan; scans without a row.
    carpet_of : callable or mapping, optional
        Gives the (n_timepoints, n_rois) series of a scan key, or None where it is not at hand.
    fd_of : mapping, optional
        Framewise displacement (mm) by timepoint of scans, where known.
    rules : QualityRules
    covariates : tuple of str
        Columns whose gaps are counted.
    outlier_note : str, optional
        Why there are no outlier scores.
    changes : sequence of str
        Sentences on what came, changed and went since the version before.
    """

    cohort: str
    rows: Rows
    quarantine: Rows | None = None
    unmatched_participants: Sequence[str] = ()
    unmatched_scans: Sequence[str] = ()
    carpet_of: Callable[[str], Series | None] | Mapping[str, Series] | None = None
    fd_of: Mapping[str, Series] = field(default_factory=dict)
    rules: QualityRules = field(default_factory=QualityRules)
    covariates: tuple[str, ...] = ("age", "sex", "mean_fd", "t_r")
    outlier_note: str | None = None
    changes: Sequence[str] = ()


def tidy_rows(source: Rows) -> pd.DataFrame:
    """Return rows with every column that the page knows, plain names, and one kind of missing value a column.

    Measures are float64 with NaN, texts str or None, ``site`` a str, ``reasons`` lists, ``status`` keep where there
    is none.

    Raises
    ------
    ValueError
        If there is no ``scan_key``, or a status is none.
    """
    frame = source.to_pandas() if isinstance(source, pa.Table) else source.reset_index(drop=True)
    named = {c: c.removeprefix("qc_") for c in frame.columns if c.startswith("qc_")}
    frame = frame.drop(columns=[plain for plain in named.values() if plain in frame.columns]).rename(columns=named)
    if "scan_key" not in frame.columns:
        raise ValueError(f"rows of a quality page have no column 'scan_key', only {', '.join(frame.columns)}")
    n = len(frame)
    for name in [*MEASURES, *NUMBER_COLUMNS]:
        frame[name] = pd.to_numeric(frame[name]).astype(float) if name in frame.columns else np.full(n, np.nan)
    for name, empty in TEXT_COLUMNS.items():
        found = frame[name].tolist() if name in frame.columns else [None] * n
        frame[name] = pd.Series([empty if pd.isna(value) else str(value) for value in found], dtype=object)
    reasons = frame["reasons"].tolist() if "reasons" in frame.columns else [None] * n
    frame["reasons"] = pd.Series(
        [list(r) if isinstance(r, (list, tuple, np.ndarray)) else [] for r in reasons], dtype=object
    )
    if unknown := sorted(set(frame["status"]) - set(SEVERITY)):
        raise ValueError(f"status {unknown[0]!r} is none; a scan's is keep, flag or quarantine")
    return frame


def dropped_scans(quarantine: Rows | None, rows: pd.DataFrame) -> list[dict[str, str]]:
    """Return every scan set aside once, by key: those of the quarantine table, and those that tidy rows say are."""
    lines: list[dict[Any, Any]] = []
    if quarantine is not None:
        lines = quarantine.to_pylist() if isinstance(quarantine, pa.Table) else quarantine.to_dict("records")
    listed = {str(line["scan_key"]): {k: str(line[k]) for k in ("scan_key", "reason", "message")} for line in lines}
    out = rows[rows["status"] == "quarantine"]
    for key, reasons in zip(out["scan_key"], out["reasons"], strict=True):
        listed.setdefault(key, {"scan_key": key, "reason": "quality", "message": "; ".join(reasons)})
    return [listed[key] for key in sorted(listed)]

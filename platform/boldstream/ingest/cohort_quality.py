"""Judge scans among the others of their cohort: outliers and copies."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from boldstream.analysis.outliers import copies, find_duplicates, outlier_scores
from boldstream.artifacts.cohort import QUALITY_MEASURES, cohort_schema, iter_timeseries
from boldstream.artifacts.keys import first_of_each
from boldstream.artifacts.tables import VersionedTable
from boldstream.ingest.config import IngestConfig
from boldstream.ingest.qc_material import QcMaterial
from boldstream.parcellation.qc_rules import Decision, QualityRules, judge

READ = [
    *("scan_key", "subject", "site", "age", "sex", "mean_fd", "t_r", "n_timepoints", "source_uri"),
    "source_stamp",
    *(field.name for field in cohort_schema({}) if field.name.startswith("qc_")),
]

AMONG_OTHERS = "cohort_quality"
"""Reason of scans that a rule over the whole cohort sets aside: looked at again whenever the cohort changes."""


@dataclass(frozen=True)
class CohortQuality:
    """What the scans of a cohort look like beside each other.

    Attributes
    ----------
    rows : DataFrame
        A row a scan: identity, covariates, measures, ``outlier``, ``pc_1``, ``pc_2``, final ``qc_status`` and
        ``qc_reasons``.
    decisions : dict of Decision
        By scan key.
    note : str or None
        Why there are no outlier scores.
    """

    rows: pd.DataFrame
    decisions: dict[str, Decision]
    note: str | None

    @property
    def set_aside(self) -> dict[str, Decision]:
        """Scans that a rule over the cohort quarantines."""
        return {key: found for key, found in self.decisions.items() if found.status == "quarantine"}

    @property
    def flags(self) -> dict[str, list[str]]:
        """Reasons of the flagged scans, by key."""
        return {
            key: [reason.text for reason in found.reasons]
            for key, found in self.decisions.items()
            if found.status == "flag"
        }


def judge_cohort(tables: Sequence[VersionedTable], rules: QualityRules) -> CohortQuality:
    """Judge every scan of some tables by all rules, those that need the other scans included.

    A scan that is in two of them, in the same state, is judged once.
    """
    parts = [one.column(READ) for one in tables]
    whole = pa.concat_tables([part for part in parts if part.num_rows] or parts[:1]).sort_by("scan_key")
    table = first_of_each(whole, "scan_key")
    rows = table.drop_columns(["qc_fc_sketch"]).to_pandas()
    found = outlier_scores(_sketches(table["qc_fc_sketch"]), rows["site"].tolist())
    keys = rows["scan_key"].tolist()
    copied = copies(
        find_duplicates(keys, table["qc_content_sha256"].to_pylist()),
        dict(zip(keys, rows["subject"], strict=True)),
    )
    measured = table.select([f"qc_{name}" for name in QUALITY_MEASURES]).rename_columns(list(QUALITY_MEASURES))
    decisions = {}
    each = (row for batch in measured.to_batches(max_chunksize=1024) for row in batch.to_pylist())
    for key, measures, score in zip(keys, each, found.scores, strict=True):
        outlier = None if np.isnan(score) else float(score)
        decisions[key] = judge(measures, rules, outlier=outlier, duplicate_of=copied.get(key))
    rows["outlier"] = found.scores
    rows["pc_1"], rows["pc_2"] = found.coordinates.T
    rows["qc_status"] = [decisions[key].status for key in keys]
    rows["qc_reasons"] = [[reason.text for reason in decisions[key].reasons] for key in keys]
    return CohortQuality(rows, decisions, found.note)


def _sketches(column: pa.ChunkedArray) -> NDArray[np.float32]:
    """Return sketches as one matrix, NaN for scans without one."""
    lists = column.combine_chunks()
    there = lists.is_valid().to_numpy(zero_copy_only=False)
    values = lists.drop_null().flatten().to_numpy()
    width = len(values) // max(1, int(there.sum()))
    matrix = np.full((len(lists), max(1, width)), np.nan, dtype=np.float32)
    if width:
        matrix[there] = values.reshape(-1, width)
    return matrix


def material_of(
    quality: CohortQuality, cohort: VersionedTable, quarantine: VersionedTable, label: str, config: IngestConfig,
    without_scan: list[str], changes: list[str],
) -> QcMaterial:  # fmt: skip
    """Return what the quality page shows."""
    set_aside = quarantine.column(["scan_key", "reason", "message"]).to_pandas()
    unmatched = set_aside["reason"].isin(["no_participants_row", "no_sessions_row"])
    kept = quality.rows[quality.rows["qc_status"] != "quarantine"]
    return QcMaterial(
        cohort=label,
        rows=kept,
        quarantine=set_aside,
        unmatched_participants=without_scan,
        unmatched_scans=sorted(set_aside.loc[unmatched, "scan_key"]),
        carpet_of=partial(_series_of, cohort),
        rules=config.quality,
        outlier_note=quality.note,
        changes=changes,
    )


def _series_of(cohort: VersionedTable, scan_key: str) -> NDArray[np.floating] | None:
    """Return the series of one scan, None if the table does not have it."""
    from pyiceberg.expressions import EqualTo

    fields = ("timeseries", "n_timepoints", "n_rois")
    found = cohort.iceberg.scan(row_filter=EqualTo("scan_key", scan_key), selected_fields=fields).to_arrow()
    return next(iter(iter_timeseries(found.combine_chunks())), None)

"""One Ray task of the ingest room: read a shard's scans, write its rows and its quarantine."""

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from boldstream.artifacts.cohort import QUARANTINE_SCHEMA
from boldstream.artifacts.shards import shard_name, write_shard
from boldstream.config import digest_json
from boldstream.errors import ScanError, StorageError
from boldstream.ingest.config import IngestConfig
from boldstream.ingest.plan import ScanPlan, problem_of
from boldstream.parcellation.timeseries import judge_series, read_timeseries
from boldstream.storage import read_bytes


@dataclass(frozen=True)
class IngestTask:
    """What every task of a run is told.

    Attributes
    ----------
    config : IngestConfig
    roi_names : tuple of str
    schema : pyarrow.Schema
        Of the cohort.
    cohort_uri, quarantine_uri : str
        Where the two tables live.
    """

    config: IngestConfig
    roi_names: tuple[str, ...]
    schema: pa.Schema
    cohort_uri: str
    quarantine_uri: str


def ingest_shard(row: dict[str, Any], *, task: IngestTask) -> dict[str, Any]:
    """Read the scans of one shard and write their Parquet files; return the receipt for the driver.

    The receipt names the written files (empty where there is none) and counts rows and quarantine reasons.
    """
    plans = [ScanPlan(**values) for values in json.loads(row["scans"])]
    good: list[dict[str, Any]] = []
    bad: list[dict[str, Any]] = []
    for plan in plans:
        source_sha256 = None
        try:
            if problem := problem_of(plan):
                raise problem
            try:
                data = read_bytes(plan.source_uri)
            except StorageError as error:
                raise ScanError("unreadable", str(error)) from None
            source_sha256 = hashlib.sha256(data).hexdigest()
            good.append(_cohort_row(plan, data, source_sha256, task))
        except ScanError as error:
            bad.append(
                {
                    "scan_key": plan.scan_key,
                    "room": "ingest",
                    "reason": error.reason,
                    "message": error.message,
                    "source_uri": plan.source_uri,
                    "source_sha256": source_sha256,
                }
            )
    identity = task.config.config_hash()
    receipt: dict[str, Any] = {"shard": "", "quarantine": "", "rows": len(good), "quarantined": len(bad)}
    if good:
        name = shard_name([scan["scan_key"] for scan in good], identity)
        receipt["shard"] = write_shard(task.cohort_uri, name, pa.Table.from_pylist(good, task.schema))
    if bad:
        name = shard_name([scan["scan_key"] for scan in bad], identity)
        receipt["quarantine"] = write_shard(task.quarantine_uri, name, pa.Table.from_pylist(bad, QUARANTINE_SCHEMA))
    receipt["reasons"] = json.dumps(Counter(scan["reason"] for scan in bad))
    return receipt


def _cohort_row(plan: ScanPlan, data: bytes, source_sha256: str, task: IngestTask) -> dict[str, Any]:
    """Return the cohort row of one scan.

    Raises
    ------
    ScanError
        If the scan cannot be used.
    """
    config = task.config
    name = plan.source_uri.rpartition("/")[2]
    series = read_timeseries(data, name, orientation=config.orientation, mat_key=config.mat_key)
    bad_rois = judge_series(
        series, task.roi_names, min_timepoints=config.min_timepoints, max_bad_rois=config.max_bad_rois
    )
    content = hashlib.sha256(series.values.tobytes()).hexdigest()
    return {
        **plan.values,
        "scan_key": plan.scan_key,
        "n_timepoints": series.values.shape[0],
        "n_rois": series.values.shape[1],
        "timeseries": series.values.ravel(),
        "bad_rois": list(bad_rois),
        "source_uri": plan.source_uri,
        "source_sha256": source_sha256,
        "row_digest": digest_json([content, plan.values, list(bad_rois)]),
    }

"""One Ray task of the ingest room: read a shard's scans, write its rows and its quarantine."""

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from boldstream.artifacts.cohort import COHORT_QUARANTINE_SCHEMA
from boldstream.artifacts.shards import content_name, write_shard
from boldstream.config import digest_json
from boldstream.errors import ScanError, StorageError
from boldstream.ingest.config import IngestConfig
from boldstream.ingest.plan import ScanPlan, problem_of
from boldstream.ingest.prepare import prepare_scan
from boldstream.ingest.read import read_scan
from boldstream.ingest.regions import Regions
from boldstream.ingest.synthetic_scan import make_scan


@dataclass(frozen=True)
class IngestTask:
    """What every task of a run is told.

    Attributes
    ----------
    config : IngestConfig
    regions : Regions
    schema : pyarrow.Schema
        Of the cohort.
    cohort_uri, quarantine_uri : str
        Where the two tables live.
    """

    config: IngestConfig
    regions: Regions
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
        try:
            if problem := problem_of(plan):
                raise problem
            good.append(cohort_row(plan, task))
        except ScanError as error:
            told = ScanError(error.reason, plan.told(error.message))
            bad.append(quarantine_row(plan.scan_key, told, plan.told_uri, plan.stamp))
    receipt: dict[str, Any] = {
        "shard": "",
        "quarantine": "",
        "rows": len(good),
        "quarantined": len(bad),
        "reasons": json.dumps(Counter(scan["reason"] for scan in bad)),
        "stopped": "",
    }
    try:
        receipt["shard"] = _write(task.cohort_uri, good, task.schema)
        receipt["quarantine"] = _write(task.quarantine_uri, bad, COHORT_QUARANTINE_SCHEMA)
    except StorageError as error:
        receipt["stopped"] = str(error)
    return receipt


def _write(table_uri: str, rows: list[dict[str, Any]], schema: pa.Schema) -> str:
    """Write rows as a shard; return its URI, empty if there are none."""
    if not rows:
        return ""
    shard = pa.Table.from_pylist(rows, schema)
    return write_shard(table_uri, content_name(shard), shard)


def quarantine_row(scan_key: str, error: ScanError, source_uri: str, stamp: str) -> dict[str, Any]:
    """Return the quarantine's row of a scan."""
    return {
        "scan_key": scan_key,
        "room": "ingest",
        "reason": error.reason,
        "message": error.message,
        "source_uri": source_uri,
        "source_sha256": None,
        "source_stamp": stamp,
    }


def cohort_row(plan: ScanPlan, task: IngestTask) -> dict[str, Any]:
    """Return the cohort's row of one scan.

    Raises
    ------
    ScanError
        If the scan cannot be used.
    """
    if task.regions.brain is not None:
        scan = make_scan(plan, task.config.synthetic, task.regions.brain)
    else:
        scan = read_scan(plan, task.config.source, task.regions)
    prepared = prepare_scan(scan, plan.values, task.regions.atlas.roi_names, task.config)
    columns = prepared.columns()
    columns["notes"] = [plan.told(note) for note in columns["notes"]]
    content = hashlib.sha256(prepared.values.tobytes()).hexdigest()
    told = {name: columns[name] for name in ("t_r", "mean_fd", "bad_rois", "censored", "notes")}
    return {
        **plan.values,
        **columns,
        "scan_key": plan.scan_key,
        "source_uri": plan.told_uri,
        "source_sha256": scan.sha256,
        "source_stamp": plan.stamp,
        "row_digest": digest_json([content, plan.values, told]),
    }

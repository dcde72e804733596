"""Cohorts of white noise for the benchmarks of training, written by the artifacts' own writers without an ingest."""

import numpy as np
import pyarrow as pa

from boldstream.artifacts.cohort import QUARANTINE_SCHEMA, cohort_schema, cohort_tables
from boldstream.artifacts.gradient import publish_gradient
from boldstream.artifacts.shards import write_shard
from boldstream.config import digest_json
from boldstream.storage import Warehouse

SHARD_SIZE = 250


def write_cohort(
    warehouse: str, name: str, n_scans: int, n_timepoints: int, n_rois: int, shard_size: int = SHARD_SIZE
) -> None:
    """Write a cohort, one subject a scan."""
    schema, place = cohort_schema({}), Warehouse.at(warehouse)
    table, quarantine = cohort_tables(place, name)
    table.begin(schema, {"n_scans": n_scans})
    quarantine.begin(QUARANTINE_SCHEMA, {"n_scans": n_scans})
    rng, shards = np.random.default_rng(0), []
    for first in range(0, n_scans, shard_size):
        rows = [
            {
                "scan_key": f"sub-{i:05d}", "subject": f"{i:05d}", "t_r": 2.0,
                "n_timepoints": n_timepoints, "n_rois": n_rois,
                "timeseries": rng.standard_normal(n_timepoints * n_rois, dtype=np.float32),
                "bad_rois": [], "source_uri": "random", "source_sha256": "0", "source_stamp": "0", "row_digest": str(i),
            }
            for i in range(first, min(first + shard_size, n_scans))
        ]  # fmt: skip
        shards.append(write_shard(table.uri, f"{first:05d}.parquet", pa.Table.from_pylist(rows, schema)))
    table.append(shards)
    table.publish(
        config={}, config_hash="0", parents=[], rows=n_scans, digest=digest_json([n_scans, n_timepoints, n_rois]),
        content={"atlas": "bench", "roi_names": list(names(n_rois)), "quarantined": {}}, mlflow_run_id=None,
    )  # fmt: skip


def write_gradient(warehouse: str, name: str, n_rois: int, n_components: int = 10) -> None:
    """Write a gradient of noise for the same regions."""
    publish_gradient(
        Warehouse.at(warehouse), name, np.random.default_rng(0).standard_normal((n_rois, n_components)),
        atlas="bench", roi_names=names(n_rois), config={}, identity={}, parents=[], mlflow_run_id=None,
    )  # fmt: skip


def names(n_rois: int) -> tuple[str, ...]:
    return tuple(f"roi-{i}" for i in range(n_rois))

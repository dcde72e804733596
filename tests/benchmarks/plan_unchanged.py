"""Planning a run over an unchanged cohort: key columns only, against reading the rows to find that out.

    python tests/benchmarks/plan_unchanged.py [--quick]

A synthetic cohort of 100,000 scans and an embedding table that holds them all, in the files that the rooms write
(64 scans each). The plan is everything between the model's check and the first task: opening the cohort version (every
footer checked), opening the three tables, key and digest of both sides, the anti-join. The baseline finds the same out
from whole rows, time series (short ones here) included: of a tenth of the files, times ten. Met: under 5 s.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from boldstream.artifacts.cohort import NOT_CARRIED, cohort_schema, cohort_tables, open_cohort
from boldstream.artifacts.embeddings import embedding_schema
from boldstream.artifacts.shards import write_shard
from boldstream.artifacts.tables import VersionedTable
from boldstream.embed.outputs import Outputs
from boldstream.embed.plan import plan_rows
from boldstream.storage import Warehouse, local_path

SHARD, N_TIMEPOINTS, N_ROIS, N_DIMS = 64, 20, 10, 32
TARGET_S = 5.0
IDENTITY = {"model_digest": "d"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="10,000 scans instead of 100,000")
    quick = parser.parse_args().quick
    n_scans = 10_000 if quick else 100_000
    with tempfile.TemporaryDirectory() as scratch:
        warehouse = str(Path(scratch) / "warehouse")
        make(warehouse, n_scans)
        times = []
        for _ in range(3):
            started = time.perf_counter()
            cohort = open_cohort("many", warehouse)
            carried = pa.schema([field for field in cohort.table.schema if field.name not in NOT_CARRIED])
            outputs = Outputs.open(warehouse, "table", cohort, embedding_schema(carried), IDENTITY)
            plan = plan_rows(cohort, outputs, 1, 3)
            times.append(time.perf_counter() - started)
            assert (plan.units, plan.n_rows, plan.expected.num_rows) == ([], 0, n_scans)
        files = cohort.files[::10]
        started = time.perf_counter()
        held = set(outputs.vectors.index.rows["row_key"].to_pylist())
        for file in files:
            assert held.issuperset(pq.read_table(local_path(file.uri))["scan_key"].to_pylist())
        baseline = (time.perf_counter() - started) * len(cohort.files) / len(files)
    ours = statistics.median(times)
    print(f"{n_scans} scans in {len(cohort.files)} files, nothing to do: plan {ours:.2f} s (median of 3: "
          f"{', '.join(f'{t:.2f}' for t in times)}); reading the rows {baseline:.1f} s")  # fmt: skip
    result = {
        "name": "plan_unchanged",
        "ratio": baseline / ours,
        "target": f"ours < {TARGET_S} s",
        "met": ours < TARGET_S,
    }
    print(json.dumps(result | {"ours": ours, "baseline": baseline, "unit": "s"}))


def make(warehouse: str, n_scans: int) -> None:
    """Write a cohort version and a table that holds all of it."""
    schema = cohort_schema({"iq": pa.float64()})
    cohort, _ = cohort_tables(Warehouse.at(warehouse), "many")
    cohort.begin(schema, {})
    carried = pa.schema([field for field in schema if field.name not in NOT_CARRIED])
    written: dict[str, list[str]] = {"cohort": [], "table": []}
    table = VersionedTable(Warehouse.at(warehouse), "embeddings", "table")
    table.begin(embedding_schema(carried), IDENTITY)
    series = np.random.default_rng(0).normal(size=N_TIMEPOINTS * N_ROIS).astype(np.float32)
    for first in range(0, n_scans, SHARD):
        scans = []
        for i in range(first, min(first + SHARD, n_scans)):
            scans.append({
                "scan_key": f"sub-{i:06d}_ses-1_task-rest", "subject": f"{i:06d}", "n_timepoints": N_TIMEPOINTS,
                "n_rois": N_ROIS, "timeseries": series, "bad_rois": [], "source_uri": f"file:///data/{i}",
                "source_sha256": f"{i:064x}", "source_stamp": "0", "row_digest": f"{i:064x}",
            })  # fmt: skip
        written["cohort"].append(write_shard(cohort.uri, f"{first}.parquet", pa.Table.from_pylist(scans, schema)))
        rows = [
            {name: value for name, value in scan.items() if name not in NOT_CARRIED}
            | {
                "row_key": scan["scan_key"], "part": 0, "scan_digest": scan["row_digest"], "status": "ok",
                "vector_sha256": scan["row_digest"], "embedding": series[:N_DIMS], "n_windows": 1,
                "strategy_id": "s", "model_version": "m", **IDENTITY, "cohort_version": "c",
                "cohort_digest": "d",
            }
            for scan in scans
        ]  # fmt: skip
        shard = write_shard(table.uri, f"{first}.parquet", pa.Table.from_pylist(rows, embedding_schema(carried)))
        written["table"].append(shard)
    for found, name in ((cohort, "cohort"), (table, "table")):
        for first in range(0, len(written[name]), 32):  # as the driver commits them
            found.append(written[name][first : first + 32])
    content = {"atlas": "toy", "roi_names": [f"R{i}" for i in range(N_ROIS)]}
    cohort.publish(
        config={}, config_hash="", parents=[], rows=n_scans, digest="d", content=content, mlflow_run_id=None
    )  # fmt: skip


if __name__ == "__main__":
    main()

"""A small embedding table with sites, ages and motion planted in its vectors, of a cohort that holds subjects out."""

import hashlib

import mlflow
import numpy as np
import pyarrow as pa

from boldstream.adjust import AdjustConfig, adjust_table
from boldstream.analysis.splits import hold_out
from boldstream.artifacts.cohort import NOT_CARRIED, cohort_schema, cohort_tables
from boldstream.artifacts.commit import Committer
from boldstream.artifacts.embeddings import REFUSALS_SCHEMA, embedding_schema, embedding_tables, open_table
from boldstream.artifacts.folders import folder_versions
from boldstream.artifacts.manifest import Parent
from boldstream.artifacts.shards import content_name, write_shard
from boldstream.config import digest_json
from boldstream.refs import CohortRef, EmbeddingTableRef
from boldstream.storage import Warehouse

N = 60
P = 12
SITES = ("A", "B", "C")
SPLIT = {"holdout": 0.2, "seed": 0}
STRATEGY = """
id: toy_adjusted_v1
window: {length: 32, stride: 14}
adjust:
  - {step: harmonize, keep: [age, sex]}
  - {step: project, dim: 512}
  - {step: residualize, covariates: [age, sex, mean_fd]}
"""
EMBEDDED = {"id": "toy_v1", "window": {"length": 32, "stride": 14, "target_t_r": None, "short_scans": "refuse"}}
EMBEDDED |= {"pool": "mean", "keep_roi_latents": False}
PHENOTYPES = {"global_signal_flag": pa.string()}


def person(i, site=None, p=P):
    """Covariates and vector of the i-th subject; everything about them follows from i."""
    rng = np.random.default_rng(i)
    weights = np.random.default_rng(99).normal(size=(3, p))
    known = {
        "subject": f"{i:03d}",
        "site": site or SITES[i % len(SITES)],
        "age": round(rng.uniform(8, 60), 1),
        "sex": "FM"[int(rng.integers(2))],
        "mean_fd": round(rng.gamma(2, 0.1), 3),
    }
    shift = SITES.index(known["site"]) if known["site"] in SITES else 5
    vector = rng.normal(size=p) + weights.T @ [3.0 * shift, 0.1 * known["age"], 10 * known["mean_fd"]]
    return known, vector.astype(np.float32)


def rows_of(people, runs=1, **changed):
    """Rows of the embedding table; `changed` maps a row's number to columns that differ."""
    found = []
    for i in people:
        known, vector = person(i)
        for run in range(runs):
            change = changed.get(f"row_{i}", {})
            values = (vector + np.float32(0.01 * run)) if "embedding" not in change else change["embedding"]
            row = {"scan_key": f"sub-{i:03d}_run-{run}", "row_key": f"sub-{i:03d}_run-{run}", "part": 0, **known}
            row |= {"run": str(run), "status": "ok", "n_windows": 3, "strategy_id": "toy_v1", "n_timepoints": 120}
            row |= {"n_rois": 4, "bad_rois": [], "source_uri": "file:///x", "source_sha256": "0"}
            row |= {
                "model_version": "models:/toy/1",
                "model_digest": "m0",
                "cohort_version": "c@1",
                "cohort_digest": "c",
            }
            row |= change | {"embedding": values}
            row["scan_digest"] = digest_json([row["scan_key"], {k: row[k] for k in ("age", "sex", "site", "mean_fd")}])
            row["vector_sha256"] = hashlib.sha256(np.asarray(values).tobytes()).hexdigest()
            found.append(row)
    return found


def make_cohort(warehouse, people, split=SPLIT):
    """A cohort's version without scans: rooms after embed read its manifest only."""
    table, _ = cohort_tables(warehouse, "toy")
    table.begin(cohort_schema({}), {"toy": 1})
    names = [f"{i:03d}" for i in people]
    out = sorted(hold_out(names, split["holdout"], split["seed"])) if split else []
    rows = [{"scan_key": "k", "subject": "0", "n_timepoints": 1, "n_rois": 1, "timeseries": [0.0], "bad_rois": []}]
    rows[0] |= {"source_uri": "x", "source_sha256": "x", "source_stamp": "x", "row_digest": "x"}
    if not table.versions:
        table.append([write_shard(table.uri, "a.parquet", pa.Table.from_pylist(rows, cohort_schema({})))])
    content = {"roi_names": ["a", "b", "c", "d"]}
    content |= {"statistics": {"split": split, "held_out_subjects": out}} if split else {}
    manifest = table.publish(
        config={},
        config_hash="0",
        parents=[],
        rows=1,
        digest=digest_json([names, split]),
        content=content,
        mlflow_run_id=None,
    )
    return CohortRef(table.uri, manifest.version, manifest.digest), out


def make_table(warehouse, rows, cohort, name="toy", model="m0", per_file=7, strategy=EMBEDDED, more=None):
    """Bring the table `name` to hold just these rows, several files of them, and publish a version."""
    schema = embedding_schema(pa.schema([f for f in cohort_schema(PHENOTYPES) if f.name not in NOT_CARRIED]))
    table, quarantine = embedding_tables(warehouse, name)
    table.begin(schema, {"name": name})
    quarantine.begin(REFUSALS_SCHEMA, {"name": name})
    light = [{key: row.get(key) for key in schema.names} for row in rows]
    vectors = Committer(table, "row_key", ["scan_digest", "vector_sha256"])
    shards = []
    for first in range(0, len(light), per_file):
        part = pa.Table.from_pylist(light[first : first + per_file], schema)
        shards.append(write_shard(table.uri, content_name(part), part))
    vectors.commit(shards)
    keys = {row["row_key"] for row in rows}
    vectors.remove(lambda held: pa.chunked_array([[key not in keys for key in held["row_key"].to_pylist()]]))
    manifest = table.publish(
        config={},
        config_hash="0",
        parents=[Parent.of(cohort)],
        rows=len(rows),
        digest=digest_json([[row["row_key"], row["scan_digest"], row["vector_sha256"]] for row in rows]),
        content={
            "cohort": cohort.uri,
            "model": "models:/toy/1",
            "model_digest": model,
            "strategy": strategy,
            "parts": 1,
            "quarantined": 0,
            "pending": ["project: 512, pca"],
            **(more or {}),
        },
        mlflow_run_id=None,
    )
    return EmbeddingTableRef(table.uri, manifest.version, manifest.digest)


class Place:
    """A warehouse with a cohort, its table, and the strategy's file."""

    def __init__(self, root):
        self.root = root
        self.warehouse = Warehouse.at(str(root / "w"))
        self.cohort, self.held_out = make_cohort(self.warehouse, range(N))
        self.write(STRATEGY)

    def write(self, text):
        self.strategy = self.root / "toy_adjusted_v1.yaml"
        self.strategy.write_text(text)

    def table(self, people=range(N), runs=1, cohort=None, **changed):
        return self.put(rows_of(people, runs, **changed), cohort=cohort or self.cohort)

    def put(self, rows, **options):
        return make_table(self.warehouse, rows, options.pop("cohort", self.cohort), **options)

    def config(self, **values):
        known = {"output": "adjusted", "table": "toy", "strategy": str(self.strategy), "measured_rows": 0}
        if "adjustment" in values:
            known = {"output": "adjusted", "table": "toy"}
        return AdjustConfig(**known | values, warehouse=self.warehouse.uri)

    def adjust(self, **values):
        return adjust_table(self.config(**values))

    def open(self, name="adjusted"):
        return open_table(name, self.warehouse.uri)

    def quarantine(self, name="adjusted"):
        columns = ["scan_key", "room", "reason", "message"]
        return embedding_tables(self.warehouse, name)[1].column(columns).sort_by("scan_key").to_pylist()

    def versions(self, name="adjusted"):
        return folder_versions(self.warehouse.location("adjustments", name))


def last_run():
    return mlflow.search_runs(experiment_names=["boldstream"], order_by=["start_time DESC"], max_results=1).iloc[0]

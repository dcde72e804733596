"""Cohorts, embedding tables and probe results for tests of the report room, made without Ray."""

import numpy as np
import pandas as pd
import pyarrow as pa

from boldstream.artifacts.cohort import QUARANTINE_SCHEMA, cohort_schema, cohort_tables
from boldstream.artifacts.embeddings import embedding_schema, embedding_tables, row_key
from boldstream.artifacts.manifest import Parent
from boldstream.artifacts.results import PREDICTIONS_SCHEMA, publish_results
from boldstream.artifacts.shards import write_shard
from boldstream.config import digest_json
from boldstream.refs import CohortRef
from boldstream.storage import Warehouse

N_ROIS, N_SUBJECTS, N_DIMS = 6, 5, 8
STRATEGY = {
    "id": "test_recipe",
    "window": {"length": 20, "stride": 10, "target_t_r": 2.0, "short_scans": "pad"},
    "pool": "mean",
}


def make_cohort(
    warehouse, name="demo", seed=0, bad_roi=True, n_subjects=N_SUBJECTS, people=lambda subject: {}, regions="r"
):
    """Every subject has connectivity of their own; the last one has two scans, the first a constant region.

    `people(subject)` gives what is known of them beside their site and age.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for subject in range(n_subjects):
        mixing = rng.normal(size=(N_ROIS, N_ROIS))
        for run in range(2 if subject == n_subjects - 1 else 1):
            values = (rng.normal(size=(120, N_ROIS)) @ mixing).astype(np.float32)
            flat = bad_roi and subject == 0
            if flat:
                values[:, 2] = 0.0
            rows.append(
                {
                    "scan_key": f"sub-{subject}_run-{run}",
                    "subject": str(subject),
                    "run": str(run),
                    "site": "A" if subject < 2 else "B",
                    "age": 20.0 + subject if subject else None,
                    "t_r": 2.0,
                    "n_timepoints": 120,
                    "n_rois": N_ROIS,
                    "timeseries": values.ravel(),
                    "bad_rois": ["r2"] if flat else [],
                    "source_uri": "file:///x",
                    "source_sha256": "0",
                    "source_stamp": "0",
                    "row_digest": f"{seed}{subject}{run}",
                    **people(subject),
                }
            )
    schema = cohort_schema({})
    table, quarantine = cohort_tables(Warehouse.at(str(warehouse)), name)
    table.begin(schema, {"seed": seed})
    quarantine.begin(QUARANTINE_SCHEMA, {"seed": seed})
    table.append([write_shard(table.uri, "a.parquet", pa.Table.from_pylist(rows, schema))])
    manifest = table.publish(
        config={},
        config_hash="0",
        parents=[],
        rows=len(rows),
        digest=digest_json([seed]),
        content={
            "atlas": "six",
            "roi_names": [f"{regions}{i}" for i in range(N_ROIS)],
            "quarantined": {"unreadable": 1},
        },
        mlflow_run_id=None,
    )
    return CohortRef(table.uri, manifest.version, manifest.digest), rows


def make_table(
    warehouse,
    name,
    cohort,
    rows,
    vectors,
    *,
    parts=2,
    model="models:/nowhere/1",
    digest="0",
    drop=(),
    latents=lambda scan, part: None,
    first=0,
    **content,
):
    """`vectors(scan, part)` gives the vector of a part of the cohort's n-th scan, `latents` those of its regions.

    Called again with scans from `first` on, it makes the next version, which has them too.
    """
    schema = embedding_schema(pa.schema([f for f in cohort_schema({}) if f.name not in {"timeseries", "row_digest"}]))
    stamp = {
        "status": "ok",
        "n_windows": 3,
        "strategy_id": STRATEGY["id"],
        "model_version": model,
        "model_digest": digest,
        "cohort_version": cohort.pointer,
        "cohort_digest": cohort.digest,
    }
    found = [
        {
            **scan,
            **stamp,
            "row_key": row_key(scan["scan_key"], part, parts),
            "scan_digest": scan["row_digest"],
            "part": part,
            "embedding": vectors(i, part),
            "vector_sha256": f"{name} {i} {part}",
            "roi_latents": latents(i, part),
        }
        for i, scan in enumerate(rows)
        if i >= first
        for part in range(parts)
        if (scan["scan_key"], part) not in drop
    ]
    table, quarantine = embedding_tables(Warehouse.at(str(warehouse)), name)
    table.begin(schema, {"name": name})
    quarantine.begin(QUARANTINE_SCHEMA, {"name": name})
    light = [{key: row.get(key) for key in schema.names} for row in found]
    table.append([write_shard(table.uri, f"from-{first}.parquet", pa.Table.from_pylist(light, schema))])
    if drop:
        refused = [
            {"scan_key": row_key(key, part, parts), "room": "embed", "reason": "too_short", "message": "short"}
            for key, part in drop
        ]
        refused = pa.Table.from_pylist(refused, QUARANTINE_SCHEMA)
        quarantine.append([write_shard(quarantine.uri, "q.parquet", refused)])
    table.publish(
        config={},
        config_hash="0",
        parents=[Parent.of(cohort)],
        rows=len(found),
        digest=digest_json([name, first]),
        content={
            "cohort": cohort.uri,
            "model": model,
            "model_digest": digest,
            "strategy": STRATEGY,
            "parts": parts,
            "quarantined": len(drop),
            "pending": ["project: 512, pca"],
            **content,
        },
        mlflow_run_id=None,
    )


def own_vector(scan, part):
    base = np.random.default_rng(scan).normal(size=N_DIMS)
    return (base + 0.01 * np.random.default_rng([scan, part]).normal(size=N_DIMS)).astype(np.float32)


def noise(scan, part):
    return np.random.default_rng([1, scan, part]).normal(size=N_DIMS).astype(np.float32)


METHODS = {
    "fitted": "in every training fold, and nowhere else",
    "fronts": {"age/trained/ridge": "standardised"},
    "adjust": [],
    "intervals": "BCa, 1000 resamples of subjects (Efron 1987)",
    "comparisons": "paired bootstrap; DeLong's test for AUROC",
    "p": "not tested",
    "p_adjusted": "Benjamini-Hochberg over targets",
}
VERDICTS = {-1: "worse", 0: "not told apart", 1: "better"}
SCORES = {"continuous": ("r2", "r", "mae"), "binary": ("auroc", "balanced_accuracy", "auprc", "brier")}
SCORES["multiclass"] = SCORES["binary"]


def score_rows(target, kind, values, *, lead="trained", p=float("nan")):
    """`values` gives the primary score of every representation, the leading table first; intervals are 0.1 wide."""
    rows = []
    for name, value in values.items():
        for place, metric in enumerate(SCORES[kind]):
            rows.append(
                {
                    "target": target,
                    "kind": kind,
                    "representation": name,
                    "role": "embedding" if name in (lead, "untrained") else "baseline",
                    "head": "ridge" if kind == "continuous" else "logistic",
                    "front": "standardised",
                    "metric": metric,
                    "primary": place == 0,
                    "value": value,
                    "low": value - 0.05,
                    "high": value + 0.05,
                    "p": p,
                    "p_adjusted": p,
                    "n_scans": 60,
                    "n_subjects": 59,
                    "n_sites": 3,
                    "n_missing": 1,
                    "n_dims": 8,
                    "folds_id": "folds-0",
                    "scheme": "1 x 5 folds",
                }
            )
    return rows


def contest_rows(target, kind, values, verdicts):
    """`verdicts` gives -1, 0 or 1 of the leading table against every other."""
    lead, *others = values
    return [
        {
            "target": target,
            "metric": SCORES[kind][0],
            "first": lead,
            "second": other,
            "first_head": "ridge",
            "second_head": "ridge",
            "first_value": values[lead],
            "second_value": values[other],
            "difference": values[lead] - values[other],
            "low": values[lead] - values[other] - 0.04,
            "high": values[lead] - values[other] + 0.04,
            "delong_p": float("nan"),
            "verdict": VERDICTS[verdicts[other]],
        }
        for other in others
    ]


def make_results(warehouse, name, cohort, targets, *, kind="probe", **content):
    """`targets` gives (kind, values, verdicts) of every target."""
    scores = [row for target, (of, values, _) in targets.items() for row in score_rows(target, of, values)]
    contests = [row for target, (of, *rest) in targets.items() for row in contest_rows(target, of, *rest)]
    nothing = pd.DataFrame(PREDICTIONS_SCHEMA.empty_table().to_pandas())
    return publish_results(
        Warehouse.at(str(warehouse)),
        name,
        kind,
        {"scores": pd.DataFrame(scores), "contests": pd.DataFrame(contests), "predictions": nothing},
        config={},
        identity={"rows": "0"},
        parents=[Parent.of(cohort)],
        content={
            "cohort": {"pointer": cohort.pointer, "digest": cohort.digest},
            "tables": {},
            "targets": {target: {"kind": of[0], "column": target} for target, of in targets.items()},
            "folds": {},
            "methods": METHODS,
            "sentences": ["At age the trained table loses to functional connectivity."],
            "headline": "Functional connectivity is better than the trained table at 1 of 2 targets.",
            **content,
        },
        mlflow_run_id=None,
    )

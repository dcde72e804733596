"""Embedding tables with planted vectors, of a small made-up cohort with time series."""

import hashlib

import numpy as np
import pyarrow as pa

from boldstream.artifacts.cohort import NOT_CARRIED, open_cohort
from boldstream.artifacts.commit import Committer
from boldstream.artifacts.embeddings import REFUSALS_SCHEMA, embedding_schema, embedding_tables, row_key
from boldstream.artifacts.manifest import Parent
from boldstream.artifacts.shards import content_name, write_shard
from boldstream.config import digest_json
from boldstream.refs import EmbeddingTableRef
from boldstream.storage import Warehouse

N_DIMS = 6


def planted_vector(row, part, strength):
    """A vector whose first dimension is the age in decades, by so much; the rest is noise of its own."""
    seed = int(hashlib.sha256(f"{row['scan_key']} {part}".encode()).hexdigest()[:8], 16)
    vector = np.random.default_rng(seed).normal(size=N_DIMS)
    vector[0] += strength * row["age"] / 10
    return vector.astype(np.float32)


def plant_table(cohort_ref, warehouse, name, strength, parts=2, model="m0"):
    """Write an embedding table of a cohort: planted vectors, a row a part, and regions' latents whose mean they are."""
    cohort = open_cohort(cohort_ref.pointer, warehouse)
    carried = pa.schema([field for field in cohort.table.schema if field.name not in NOT_CARRIED])
    schema = embedding_schema(carried)
    light = cohort.table.column([*carried.names, "row_digest"], cohort.manifest.version).sort_by("scan_key")
    rows = []
    for row in light.to_pylist():
        for part in range(parts):
            vector = planted_vector(row, part, strength)
            told = {"row_key": row_key(row["scan_key"], part, parts), "part": part, "scan_digest": row["row_digest"]}
            told |= {"status": "ok", "n_windows": 1, "embedding": vector, "strategy_id": "toy_v1"}
            told |= {"vector_sha256": hashlib.sha256(vector.tobytes()).hexdigest(), "model_version": "models:/toy/1"}
            noise = np.random.default_rng(part).normal(size=(row["n_rois"], N_DIMS))
            told["roi_latents"] = (vector + noise - noise.mean(axis=0)).astype(np.float32).ravel()
            told |= {"model_digest": model, "cohort_version": cohort_ref.pointer, "cohort_digest": cohort_ref.digest}
            rows.append({key: value for key, value in row.items() if key in schema.names} | told)
    return publish_rows(warehouse, name, rows, schema, cohort_ref, parts, model)


def publish_rows(warehouse, name, rows, schema, cohort_ref, parts=1, model="m0"):
    """Publish rows as the next version of a table; its first ones are replaced where their keys are the same."""
    table, quarantine = embedding_tables(Warehouse.at(warehouse), name)
    table.begin(schema, {"name": name})
    quarantine.begin(REFUSALS_SCHEMA, {"name": name})
    made = pa.Table.from_pylist(rows, schema)
    Committer(table, "row_key", ["scan_digest", "vector_sha256"]).commit(
        [write_shard(table.uri, content_name(made), made)]
    )
    manifest = table.publish(
        config={},
        config_hash="0",
        parents=[Parent.of(cohort_ref)],
        rows=len(rows),
        digest=digest_json([[row["row_key"], row["vector_sha256"]] for row in rows]),
        content={"cohort": cohort_ref.uri, "model": "models:/toy/1", "model_digest": model, "parts": parts},
        mlflow_run_id=None,
    )
    return EmbeddingTableRef(table.uri, manifest.version, manifest.digest)

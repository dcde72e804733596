"""What other tools, and later versions of boldstream, may count on: columns, types, manifest keys.

The golden files are those of all schema versions. A change to the newest needs a new schema version.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from boldstream.artifacts.cohort import (
    COHORT_QUARANTINE_SCHEMA,
    NOT_CARRIED,
    QUARANTINE_SCHEMA,
    cohort_schema,
    cohort_tables,
    iter_timeseries,
    open_cohort,
)
from boldstream.artifacts.embeddings import FAILURES_SCHEMA, REFUSALS_SCHEMA, adjusted_schema, embedding_schema
from boldstream.artifacts.manifest import SCHEMA_VERSION, Manifest, Parent
from boldstream.artifacts.results import CLASS_COLUMNS, CONTESTS_SCHEMA, PREDICTIONS_SCHEMA, SCORES_SCHEMA
from boldstream.artifacts.shards import write_shard
from boldstream.refs import CohortRef
from boldstream.storage import Warehouse, local_path

GOLDEN = Path(__file__).parent / "golden"
ARRAY = np.arange(12, dtype=np.float32).reshape(4, 3) * [[1.5, -0.25, 1e-20]]


def described(schema):
    """Return a schema as JSON, lists by what they hold (their element's name is the writer's business)."""
    kinds = {field.name: field.type for field in schema}
    return [
        {
            "name": field.name,
            "type": f"list<{kinds[field.name].value_type}>" if pa.types.is_list(field.type) else str(field.type),
            "nullable": field.nullable,
        }
        for field in schema
    ]


def carried():
    return pa.schema([f for f in cohort_schema({}) if f.name not in NOT_CARRIED])


@pytest.mark.parametrize(
    ("name", "schema"),
    [
        ("cohort", cohort_schema({"iq": pa.float64(), "diagnosis": pa.string()})),
        ("quarantine", QUARANTINE_SCHEMA),
        ("cohorts_quarantine", COHORT_QUARANTINE_SCHEMA),
        ("embeddings", embedding_schema(carried())),
        ("embeddings_adjusted", adjusted_schema(embedding_schema(carried()))),
        ("embeddings_quarantine", REFUSALS_SCHEMA),
        ("embeddings_failures", FAILURES_SCHEMA),
        ("results_scores", SCORES_SCHEMA),
        ("results_contests", CONTESTS_SCHEMA),
        ("results_predictions", PREDICTIONS_SCHEMA),
        ("results_class_columns", CLASS_COLUMNS),
    ],
)
def test_schema__is_the_released_one(name, schema):
    golden = json.loads((GOLDEN / f"{name}_v{SCHEMA_VERSION}.json").read_text())
    assert described(schema) == golden


def test_manifest__has_the_released_keys():
    golden = json.loads((GOLDEN / f"manifest_v{SCHEMA_VERSION}.json").read_text())
    assert {name: str(field.annotation) for name, field in Manifest.model_fields.items()} == golden["manifest"]
    assert {name: str(field.annotation) for name, field in Parent.model_fields.items()} == golden["parent"]


def test_manifest__of_a_released_version_is_read():
    found = Manifest.from_json((GOLDEN / "manifest_example_v1.json").read_text(), where="golden")
    assert (found.name, found.version, found.rows) == ("abide", "2", 727)
    assert found.parents[0].role == "cohort"


def schema_of(version):
    """Return the cohort's schema of a released version."""
    kinds = {"list<float>": pa.list_(pa.float32()), "list<string>": pa.list_(pa.string()), "double": pa.float64()}
    golden = json.loads((GOLDEN / f"cohort_v{version}.json").read_text())
    return pa.schema(
        [pa.field(f["name"], kinds.get(f["type"]) or getattr(pa, f["type"])(), f["nullable"]) for f in golden]
    )


@pytest.fixture(params=[1, 2])
def cohort(tmp_path, request):
    """A cohort of two scans, published; of every released schema."""
    table, _ = cohort_tables(Warehouse.at(str(tmp_path)), "a")
    schema = schema_of(1) if request.param == 1 else cohort_schema({"iq": pa.float64(), "diagnosis": pa.string()})
    rows = [
        {
            "scan_key": f"sub-{i}",
            "subject": str(i),
            "age": 20.5,
            "iq": None,
            "t_r": 2.0,
            "n_timepoints": 4 - i,
            "n_rois": 3,
            "timeseries": ARRAY[: 4 - i].ravel().astype(np.float32),
            "bad_rois": ["R2"] if i else [],
            "source_uri": "file:///scan.csv",
            "source_sha256": "0" * 64,
            "source_stamp": "s",
            "row_digest": "1" * 64,
        }
        for i in range(2)
    ]
    table.begin(schema, {})
    table.append([write_shard(table.uri, "x.parquet", pa.Table.from_pylist(rows, schema))])
    manifest = table.publish(
        config={},
        config_hash="",
        parents=[],
        rows=2,
        digest="d",
        content={"atlas": "toy", "roi_names": ["R1", "R2", "R3"]},
        mlflow_run_id=None,
    )
    assert manifest.version == "1"
    yield open_cohort("a", str(tmp_path))
    table.warehouse.catalog.close()


def test_cohort__gives_the_same_arrays_to_every_reader(cohort):
    assert cohort.ref == CohortRef(cohort.table.uri, "1", "d")
    (file,) = cohort.files
    expected = [ARRAY.astype(np.float32), ARRAY[:3].astype(np.float32)]

    ours = list(iter_timeseries(pq.read_table(local_path(file.uri))))
    iceberg = list(iter_timeseries(cohort.table.iceberg.scan().to_arrow()))
    arrow = [
        np.asarray(row["timeseries"], np.float32).reshape(row["n_timepoints"], row["n_rois"])
        for row in pq.read_table(local_path(file.uri)).to_pylist()
    ]
    pandas = [
        np.asarray(row.timeseries, np.float32).reshape(row.n_timepoints, row.n_rois)
        for row in pd.read_parquet(local_path(file.uri)).itertuples()
    ]
    for found in (ours, iceberg, arrow, pandas):
        for values, wanted in zip(found, expected, strict=True):
            assert values.dtype == np.float32
            np.testing.assert_array_equal(values, wanted)


def test_cohort__keeps_nulls_and_lists(cohort):
    rows = pq.read_table(local_path(cohort.files[0].uri)).to_pylist()
    assert [row["bad_rois"] for row in rows] == [[], ["R2"]]
    assert [(row["session"], row["iq"], row["age"]) for row in rows] == [(None, None, 20.5)] * 2


def test_shard__of_float_lists_is_written_without_dictionary(cohort):
    metadata = pq.read_metadata(local_path(cohort.files[0].uri)).row_group(0)
    columns = {metadata.column(i).path_in_schema: metadata.column(i) for i in range(metadata.num_columns)}
    (series,) = [column for path, column in columns.items() if path.startswith("timeseries")]
    assert not series.has_dictionary_page
    assert series.compression == "ZSTD"
    assert columns["scan_key"].has_dictionary_page

"""Plan, readers and failures of the embed room, without Ray."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from boldstream.artifacts.cohort import cohort_schema, cohort_tables, iter_timeseries, open_cohort
from boldstream.artifacts.commit import Committer
from boldstream.artifacts.embeddings import FAILURES_SCHEMA, REFUSALS_SCHEMA, embedding_schema
from boldstream.artifacts.shards import content_name, write_shard
from boldstream.embed.attempt import Setback, attempt, traceback_digest
from boldstream.embed.outputs import Outputs
from boldstream.embed.plan import plan_rows
from boldstream.embed.read import read_scans
from boldstream.embed.task import EmbedTask
from boldstream.errors import EmbeddingsError, OutputExistsError, ScanError
from boldstream.storage import Warehouse, local_path
from boldstream.strategy import Strategy

CARRIED = pa.schema(
    [pa.field("scan_key", pa.string(), nullable=False), pa.field("subject", pa.string(), nullable=False)]
)
SCHEMA = embedding_schema(CARRIED)
N_SCANS, N_TIMEPOINTS, N_ROIS = 40, 50, 6


def cohort_of(root, digests):
    """Publish a cohort with these scans, in files of 20."""
    table, _ = cohort_tables(Warehouse.at(str(root)), "c")
    schema = cohort_schema({})
    table.begin(schema, {})
    mine = Committer(table, "scan_key", ["row_digest"])
    mine.remove(lambda rows: pa.chunked_array([[digests.get(k) != d for k, d in by_key(rows)]], pa.bool_()))
    rng = np.random.default_rng(0)
    rows = [
        {"scan_key": key, "subject": key, "n_timepoints": N_TIMEPOINTS, "n_rois": N_ROIS, "bad_rois": [],
         "source_uri": "file:///x", "source_sha256": "0", "source_stamp": "0", "row_digest": digest,
         "timeseries": rng.normal(size=N_TIMEPOINTS * N_ROIS).astype(np.float32)}
        for key, digest in digests.items()
    ]  # fmt: skip
    for first in range(0, len(rows), 20):
        found = pa.Table.from_pylist(rows[first : first + 20], schema)
        mine.commit([write_shard(table.uri, content_name(found), found)])
    table.publish(
        config={}, config_hash="", parents=[], rows=len(digests), digest=str(len(table.versions)), mlflow_run_id=None,
        content={"atlas": "toy", "roi_names": list("abcdef")},
    )  # fmt: skip
    table.warehouse.catalog.close()
    return open_cohort("c", str(root))


def by_key(rows):
    return zip(rows["scan_key"].to_pylist(), rows["row_digest"].to_pylist(), strict=True)


def keys(*numbers):
    return [f"sub-{i:02d}" for i in numbers]


@pytest.fixture
def cohort(tmp_path):
    return cohort_of(tmp_path, dict.fromkeys(keys(*range(N_SCANS)), "d"))


def outputs_of(cohort, model="m", **more):
    identity = {"model": model, "model_digest": f"digest of {model}", "parts": 1}
    return Outputs.open(cohort.table.warehouse.uri, "t", cohort, SCHEMA, identity, **more)


def write(committer, schema, rows):
    """Commit rows as the workers do, all other columns filled in."""
    fill = {pa.string(): "x", pa.int32(): 1, pa.list_(pa.float32()): [1.0], pa.timestamp("us", tz="UTC"): 0}
    filled = [{field.name: fill[field.type] for field in schema} | row for row in rows]
    found = pa.Table.from_pylist(filled, schema)
    return committer.commit([write_shard(committer.table.uri, content_name(found), found)])


def embedded(outputs, scans, digest="d"):
    known = {"scan_digest": digest, "model_digest": outputs.model_digest}
    return write(outputs.vectors, SCHEMA, [{"row_key": key, "scan_key": key} | known for key in scans])


def refused(outputs, scans, digest="d"):
    write(outputs.refusals, REFUSALS_SCHEMA, [{"scan_key": key, "scan_digest": digest} for key in scans])


def failed(outputs, scans, times, digest="d"):
    rows = [{"row_key": key, "scan_key": key, "scan_digest": digest, "attempt": times} for key in scans]
    write(outputs.failures, FAILURES_SCHEMA, rows)


def planned(cohort, outputs, parts=1, max_attempts=3):
    """Return the plan's units by the place of their file, their attempts, and the counts."""
    plan = plan_rows(cohort, outputs, parts, max_attempts)
    places = {file.uri: place for place, file in enumerate(cohort.files)}
    units = {places[unit["file"]]: unit["attempts"] for unit in map(json.loads, plan.units)}
    return units, plan.n_rows, plan.n_left


def first_keys(cohort):
    return pq.read_table(local_path(cohort.files[0].uri))["scan_key"].to_pylist()


def test_plan__of_an_empty_table_is_all_files_whole(cohort):
    assert planned(cohort, outputs_of(cohort)) == ({0: None, 1: None}, N_SCANS, 0)
    assert planned(cohort, outputs_of(cohort), parts=3) == ({0: None, 1: None}, 3 * N_SCANS, 0)


def test_plan__leaves_out_what_is_there(cohort):
    outputs = outputs_of(cohort)
    scans = first_keys(cohort)
    embedded(outputs, scans[:15])
    refused(outputs, scans[15:17])
    failed(outputs, scans[17:18], 2)
    failed(outputs, scans[18:19], 3)
    expected = {scans[17]: 2, scans[19]: 0}
    assert planned(cohort, outputs) == ({0: expected, 1: None}, 22, 1)
    assert planned(cohort, outputs, max_attempts=4) == ({0: expected | {scans[18]: 3}, 1: None}, 23, 0)
    embedded(outputs, scans[15:])
    assert planned(cohort, outputs) == ({1: None}, 20, 0)


def test_plan__takes_changed_scans_again_whatever_became_of_them_before(cohort):
    outputs = outputs_of(cohort)
    scans = first_keys(cohort)
    embedded(outputs, keys(*range(N_SCANS)))
    embedded(outputs, scans[:1], digest="old")
    assert planned(cohort, outputs) == ({0: {scans[0]: 0}}, 1, 0)
    refused(outputs, scans[1:2], digest="old")
    failed(outputs, scans[:1], 3, digest="old")
    assert planned(cohort, outputs) == ({0: {scans[0]: 0}}, 1, 0)
    embedded(outputs, scans[:1])
    outputs.settle(plan_rows(cohort, outputs, 1, 3).expected)
    assert outputs.vectors.index.rows.num_rows == N_SCANS
    assert outputs.refusals.index.rows.num_rows == outputs.failures.index.rows.num_rows == 0


def test_settle__removes_withdrawn_scans(cohort, tmp_path):
    outputs = outputs_of(cohort)
    embedded(outputs, keys(*range(30)))
    refused(outputs, keys(30, 31))
    failed(outputs, keys(32, 33), 1)
    newer = cohort_of(tmp_path, dict.fromkeys(keys(0, 1, 30, 32), "d"))
    outputs = outputs_of(newer)
    outputs.settle(plan_rows(newer, outputs, 1, 3).expected)
    assert sorted(outputs.vectors.index.rows["row_key"].to_pylist()) == keys(0, 1)
    assert outputs.refusals.index.rows["scan_key"].to_pylist() == keys(30)
    assert outputs.open_failures["row_key"].to_pylist() == keys(32)


def test_older_cohort__is_refused_and_a_run_on_it_stops(cohort, tmp_path):
    older = outputs_of(cohort)
    assert embedded(older, keys(0)) == 1
    newer = cohort_of(tmp_path, dict.fromkeys(keys(0, 1), "new"))
    assert embedded(outputs_of(newer), keys(0), digest="new") == 1
    refusal = (
        r"table 't' follows cohort c@2, which is newer than c@1: going back would remove scans from it; name c@2 or"
    )
    with pytest.raises(EmbeddingsError, match=refusal):
        embedded(older, keys(0, 1))
    with pytest.raises(EmbeddingsError, match=refusal):
        outputs_of(cohort)


def task(**values):
    strategy = Strategy.model_validate({"id": "s", "window": {"length": 8, "stride": 8}})
    names = ("stamp", "table_uri", "quarantine_uri", "failures_uri", "run_id", "model_files", "watch", "threads")
    known = {"strategy": strategy, "parts": 1, "batch_size": 1, "actors": 1, "device": "cpu", "precision": "float32"}
    known |= {"gpus": 1.0, "compile": False}
    return EmbedTask(**known | dict.fromkeys(names) | {"carried": CARRIED, "schema": SCHEMA} | values)


def read(file, attempts):
    carried = pa.schema([*CARRIED, pa.field("n_timepoints", pa.int32()), pa.field("n_rois", pa.int32())])
    batch = pa.table({"unit": [json.dumps({"file": file.uri, "attempts": attempts})]})
    return pa.concat_tables(read_scans(batch, task=task(carried=carried)))


def test_read__gives_the_scans_of_the_unit_and_no_others(cohort):
    scans = first_keys(cohort)
    whole = read(cohort.files[0], None)
    assert whole["scan_key"].to_pylist() == scans
    assert whole["attempt"].to_pylist() == [1] * 20
    some = read(cohort.files[0], {scans[18]: 2, scans[3]: 0})
    assert some["scan_key"].to_pylist() == [scans[3], scans[18]]
    assert some["attempt"].to_pylist() == [1, 3]
    for found, place in zip(iter_timeseries(some.combine_chunks()), (3, 18), strict=True):
        np.testing.assert_array_equal(found, list(iter_timeseries(whole.combine_chunks()))[place])


@pytest.mark.parametrize("attempts", [None, "some"])
def test_read__of_a_damaged_row_group_gives_failures_for_its_scans_alone(cohort, attempts):
    (file, _) = cohort.files
    scans = first_keys(cohort)
    metadata = pq.read_metadata(local_path(file.uri))
    group = metadata.row_group(0)
    columns = [group.column(i) for i in range(group.num_columns)]
    (series,) = [column for column in columns if column.path_in_schema.startswith("timeseries")]
    data = bytearray(local_path(file.uri).read_bytes())
    middle = series.data_page_offset + series.total_compressed_size // 2
    data[middle : middle + 400] = bytes(400)
    local_path(file.uri).write_bytes(data)

    wanted = scans if attempts is None else [scans[0], scans[19]]
    found = read(file, None if attempts is None else dict.fromkeys(wanted, 1))
    errors = dict(zip(found["scan_key"].to_pylist(), found["error_class"].to_pylist(), strict=True))
    assert list(errors) == wanted
    assert {key for key, name in errors.items() if name} == set(wanted) & set(scans[:16])
    assert set(filter(None, errors.values())) == {"OSError"}
    assert all(found["message"].to_pylist()[:1])


def reshape(size):
    return np.zeros(size).reshape(2, 3)


def test_attempt__tells_refusals_from_failures():
    def refuse():
        raise ScanError("too_short", "has 3 timepoints")

    def run_out():
        raise MemoryError

    assert attempt(reshape, 6).shape == (2, 3)
    assert attempt(refuse).columns == {"reason": "too_short", "message": "has 3 timepoints"}
    found = attempt(run_out)
    assert isinstance(found, Setback)
    assert (found.columns["error_class"], found.columns["message"]) == ("MemoryError", "MemoryError")
    with pytest.raises(KeyboardInterrupt):
        attempt(interrupt)


def interrupt():
    raise KeyboardInterrupt


def test_traceback_digest__is_equal_for_equal_faults():
    digests = [attempt(reshape, size).columns["traceback_digest"] for size in (5, 7)]
    assert digests[0] == digests[1]
    assert attempt(lambda: reshape(5)).columns["traceback_digest"] != digests[0]
    assert len(traceback_digest(ValueError("never raised"))) == 64


def publish(outputs):
    return outputs.vectors.table.publish(
        config={}, config_hash="", parents=[], rows=1, digest=outputs.model_digest, mlflow_run_id=None,
        content={"model_digest": outputs.model_digest},
    )  # fmt: skip


def models_of(outputs):
    outputs.refresh()
    return sorted(outputs.vectors.index.rows["model_digest"].to_pylist())


def test_outputs__of_another_model_refuse_unless_told(cohort):
    first = outputs_of(cohort)
    embedded(first, keys(*range(N_SCANS)))
    publish(first)
    with pytest.raises(OutputExistsError, match=r"is of m \(sha256 digest of m\), not of n .*replace_model: true"):
        outputs_of(cohort, "n")
    assert outputs_of(cohort).vectors.table.run_settings()["model"] == "m"


def test_outputs__given_to_another_model_replace_row_by_row_and_go_back_at_once(cohort):
    first = outputs_of(cohort)
    embedded(first, keys(*range(N_SCANS - 1)))
    failed(first, keys(N_SCANS - 1), 3)
    publish(first)
    second = outputs_of(cohort, "n", replace_model=True)
    assert planned(cohort, second)[1:] == (N_SCANS, 0), "the scan that failed is tried with the other model"
    embedded(second, keys(*range(10)))
    assert models_of(second) == ["digest of m"] * (N_SCANS - 11) + ["digest of n"] * 10
    assert planned(cohort, outputs_of(cohort, "n"))[1] == N_SCANS - 10, "stopped, the same run goes on"
    with pytest.raises(EmbeddingsError, match="was given to n by another run while this one embedded with m"):
        embedded(first, keys(N_SCANS - 1))
    second.settle(plan_rows(cohort, second, 1, 3).expected)
    assert models_of(second) == ["digest of n"] * 10
    publish(second)
    back = outputs_of(cohort, replace_model=True)
    assert models_of(back) == ["digest of m"] * (N_SCANS - 1)
    assert back.vectors.table.versions == ["1", "2"]
    forward = outputs_of(cohort, "n", replace_model=True)
    assert models_of(forward) == ["digest of n"] * 10

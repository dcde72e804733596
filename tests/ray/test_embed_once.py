"""The embed room when things go wrong: two runs at once, changed scans, scans that fail (killed: test_faults)."""

import re
import time

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from boldstream.artifacts.cohort import cohort_tables, open_cohort
from boldstream.artifacts.commit import Committer
from boldstream.artifacts.embeddings import embedding_tables, failures_table, open_table
from boldstream.artifacts.shards import content_name, write_shard
from boldstream.config import digest_json
from boldstream.embed import embed_cohort
from boldstream.errors import IncompleteError
from boldstream.ingest import ingest_cohort
from boldstream.storage import Warehouse
from boldstream.table_registry import registered_table
from synthetic import ingest_config, series, write_participants, write_scan, write_study

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("cluster")]

N_MANY = 40


def failures_of(config):
    table = failures_table(Warehouse.at(config.warehouse), config.output)
    return table.column(["row_key", "error_class", "message", "attempt"]).sort_by("row_key").to_pylist()


def test_embed__twice_at_once_makes_one_table(embed_config, job, tmp_path):
    write_study(tmp_path, [f"{i:03d}" for i in range(N_MANY)], n_timepoints=200)
    cohort = ingest_cohort(ingest_config(tmp_path, shard_size=1)).pointer
    # a window a forward pass and a scan a shard: the vectors are the same to the bit, however the work is shared
    config = embed_config(cohort=cohort, batch_size=1)
    processes = [job("embed", config), job("embed", config)]
    results = [process.communicate(timeout=400) for process in processes]
    for process, (_, err) in zip(processes, results, strict=True):
        assert process.returncode == 0, err
    assert results[0][0] == results[1][0]

    table, quarantine = embedding_tables(Warehouse.at(config.warehouse), config.output)
    found = open_table(config.output, config.warehouse)
    assert table.versions == ["1"]
    assert found.rows()["row_key"].tolist() == [f"sub-{i:03d}" for i in range(N_MANY)]
    assert table.column(["row_key"]).num_rows == N_MANY
    assert quarantine.column(["scan_key"]).num_rows == 0
    assert failures_of(config) == []
    alone = embed_cohort(config.model_copy(update={"output": "alone"}))
    assert found.ref.digest == alone.digest
    # both runs are logged with the one version, which is registered once
    entry = registered_table(found.ref.uri)
    assert [(one.number, one.version) for one in entry.versions] == [("1", "1")]


def rows_of(config, version):
    found = open_table(f"{config.output}@{version}", config.warehouse)
    return dict(zip(found.rows()["row_key"], found.rows()["vector_sha256"], strict=True))


def take_out(cohort, *keys):
    """Remove scans from a cohort, as a withdrawal of consent does; the next ingest reads the files that are there."""
    table, _ = cohort_tables(Warehouse.at(cohort.warehouse), cohort.output)
    Committer(table, "scan_key").remove(lambda rows: pc.is_in(rows["scan_key"], value_set=pa.array(keys)))


def test_cohort__that_changes_is_followed_scan_by_scan(embed_config, tmp_path):
    write_study(tmp_path, ["1", "2", "3", "4"])
    write_scan(tmp_path / "scans", "4", series(4, n_timepoints=20))
    source = ingest_config(tmp_path)
    first = ingest_cohort(source)
    config = embed_config(cohort="study", warehouse=str(tmp_path / "warehouse"))
    assert embed_cohort(config).version == "1"
    table, quarantine = embedding_tables(Warehouse.at(config.warehouse), "table")
    assert quarantine.column(["scan_key"])["scan_key"].to_pylist() == ["sub-4"]

    # the files of 1 and 4 change, 2 is withdrawn
    take_out(source, "sub-1", "sub-2", "sub-4")
    write_scan(tmp_path / "scans", "1", series(11))
    write_scan(tmp_path / "scans", "4", series(4))
    (tmp_path / "scans" / "sub-2.csv").unlink()
    write_participants(tmp_path, ["1", "3", "4"])
    second = ingest_cohort(source)
    assert (first.version, second.version) == ("1", "2")
    assert embed_cohort(config).version == "2"

    before, now = rows_of(config, "1"), rows_of(config, "2")
    assert (set(before), set(now)) == ({"sub-1", "sub-2", "sub-3"}, {"sub-1", "sub-3", "sub-4"})
    assert before["sub-1"] != now["sub-1"]
    assert before["sub-3"] == now["sub-3"]
    assert quarantine.iceberg.refresh().scan().to_arrow().num_rows == 0
    # no snapshot of the table ever had a scan twice, or lacked the one that was replaced
    for snapshot in table.iceberg.refresh().snapshots():
        keys = table.iceberg.scan(snapshot_id=snapshot.snapshot_id).to_arrow()["row_key"].to_pylist()
        assert len(keys) == len(set(keys))
        assert "sub-1" in keys
    assert embed_cohort(config).version == "2"


def damage(study, warehouse, **wrong):
    """Write a cohort with the study's scans, some rows of it made wrong by hand; returns its pointer."""
    source = open_cohort(study.cohort.pointer, "")
    table, _ = cohort_tables(Warehouse.at(warehouse), "damaged")
    rows = source.table.iceberg.scan().to_arrow().cast(source.table.schema).sort_by("scan_key").to_pylist()
    for row in rows:
        row |= wrong.get(row["subject"], {})
    made = pa.Table.from_pylist(rows, source.table.schema)
    table.begin(source.table.schema, {})
    mine = Committer(table, "scan_key")
    mine.remove(lambda there: pc.is_valid(there["scan_key"]))
    mine.commit([write_shard(table.uri, content_name(made), made)])
    content = {name: source.manifest.content[name] for name in ("atlas", "roi_names")}
    version = table.publish(
        config={},
        config_hash="",
        parents=[],
        rows=10,
        digest=digest_json([table.name, wrong]),
        content=content,
        mlflow_run_id=None,
    ).version
    return f"{table.uri}@{version}"


TOO_FEW = {"timeseries": [0.0] * 479}  # of 60 x 8: it cannot be reshaped
TOO_NARROW = {"n_rois": 7, "timeseries": [float(i % 13) for i in range(420)]}  # nor can the encoder take this


def test_scans__that_fail_are_told_tried_again_and_leave_the_others_alone(embed_config, study, job, tmp_path):
    warehouse = str(tmp_path / "w")
    damaged = damage(study, warehouse, **{"01": TOO_FEW, "02": TOO_NARROW})
    config = embed_config(cohort=damaged, max_attempts=2, batch_size=64)
    process = job("embed", config)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 3, err
    assert re.fullmatch(r"table: .*/embeddings/table@1  # sha256 \w+\n", out)
    summary = (
        r"IncompleteError: 2 of 10 scans failed and are not in table table@1 \(2 x ValueError, listed in file:.*/embe"
    )
    assert re.search(rf"{summary}ddings_failures/table\); the same command tries 2 again\n$", err)
    assert not re.search("^Traceback", err, re.MULTILINE)  # the workers' logs have them
    failed = failures_of(config)
    assert [(row["row_key"], row["error_class"], row["attempt"]) for row in failed] == [
        ("sub-01", "ValueError", 1),
        ("sub-02", "ValueError", 1),
    ]
    assert failed[0]["message"] == "cannot reshape array of size 479 into shape (60,8)"
    others = ["sub-00", *(f"sub-{i:02d}" for i in range(3, 9))]
    assert sorted(rows_of(config, "1")) == others

    with pytest.raises(
        IncompleteError, match=r"2 x ValueError.*\); 2 failed in 2 attempts and are left \(raise max_attempts to try ag"
    ) as caught:
        embed_cohort(config)
    assert caught.value.ref.version == "1"
    assert [row["attempt"] for row in failures_of(config)] == [2, 2]
    started = time.time_ns()
    with pytest.raises(IncompleteError, match="are left"):
        embed_cohort(config)  # nothing is tried any more
    table = failures_table(Warehouse.at(warehouse), "table")
    assert all(s.timestamp_ms * 1_000_000 < started for s in table.iceberg.snapshots())

    # the rows are mended, with the same digests: another attempt makes the table whole
    mended = embed_config(cohort=damage(study, warehouse, **{"01": {}}), max_attempts=3)
    assert embed_cohort(mended).version == "2"
    assert sorted(rows_of(config, "2")) == sorted([*others, "sub-01", "sub-02"])
    assert failures_of(config) == []


def test_fail_fast__stops_at_the_first_failure(embed_config, study, job, tmp_path):
    damaged = damage(study, str(tmp_path / "w"), **{"01": TOO_FEW})
    config = embed_config(cohort=damaged, fail_fast=True)
    process = job("embed", config)
    out, err = process.communicate(timeout=240)
    assert (process.returncode, out) == (2, "")
    assert re.search(
        r"EmbeddingsError: sub-01 failed: ValueError: cannot reshape array of size 479 into shape \(60,8\) "
        r"\(fail_fast: the first failure ends the run\)\n$",
        err,
    )
    assert embedding_tables(Warehouse.at(config.warehouse), "table")[0].versions == []
    with pytest.raises(IncompleteError, match="the same command tries 1 again"):
        embed_cohort(config.model_copy(update={"fail_fast": False}))

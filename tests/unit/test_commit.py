"""Exactly once: what two runs do to one table, at every point where one can come between the other's steps."""

import contextlib
import errno
import sqlite3
import threading

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.exceptions import CommitFailedException
from sqlalchemy import URL, create_engine, text

from boldstream.artifacts.commit import Committer
from boldstream.artifacts.conflicts import until_committed
from boldstream.artifacts.shards import content_name, write_shard
from boldstream.artifacts.tables import VersionedTable
from boldstream.errors import ArtifactError, EmbeddingsError, StorageError
from boldstream.storage import Warehouse, local_path

SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("digest", pa.string(), nullable=False),
        pa.field("WISC.IQ", pa.float64()),
        pa.field("vector", pa.list_(pa.float32()), nullable=False),
    ]
)


@pytest.fixture
def table(tmp_path):
    found = VersionedTable(Warehouse.at(str(tmp_path / "Zürich 100%")), "embeddings", "a", EmbeddingsError)
    found.begin(SCHEMA, {})
    yield found
    found.warehouse.catalog.close()


def again(table):
    """Return the table as another process sees it."""
    return VersionedTable(Warehouse.at(table.warehouse.uri), table.kind, table.name, table.error)


def committer(table, **values):
    return Committer(again(table), "key", ["digest"], **values)


def shard(table, *rows):
    """Write a shard of rows ``key:digest``."""
    split = [row.split(":") for row in rows]
    columns = [[key for key, _ in split], [digest for _, digest in split], [1.5] * len(rows), [[1.0, 2.0]] * len(rows)]
    found = pa.table(columns, schema=SCHEMA)
    return write_shard(table.uri, content_name(found), found)


def held(table):
    found = again(table).column(["key", "digest"])
    return sorted(f"{key}:{digest}" for key, digest in zip(*found.to_pydict().values(), strict=True))


def publish(table, digest="d", **values):
    known = {"config": {}, "config_hash": "h", "parents": [], "rows": 1, "content": {}, "mlflow_run_id": None}
    return table.publish(digest=digest, **known | values)


def test_commit__of_the_same_shard_twice_adds_nothing(table):
    one = committer(table)
    assert one.commit([shard(table, "a:1", "b:1")]) == 2
    assert one.commit([shard(table, "a:1", "b:1")]) == 0
    assert committer(table).commit([shard(table, "a:1", "b:1")]) == 0
    assert held(table) == ["a:1", "b:1"]


def test_commit__drops_rows_that_another_run_has_committed_since(table):
    one, other = committer(table), committer(table)
    one.commit([shard(table, "z:1")])
    other.refresh()
    assert one.commit([shard(table, "a:1", "b:1")]) == 2
    mixed = shard(table, "b:1", "c:1")
    assert other.commit([mixed, shard(table, "d:1")]) == 2
    assert held(table) == ["a:1", "b:1", "c:1", "d:1", "z:1"]
    assert local_path(mixed).exists()  # written, never committed: harmless
    assert mixed not in again(table).current_files()


def test_commit__keeps_one_row_of_a_key_that_comes_twice(table):
    assert committer(table).commit([shard(table, "a:1", "b:1", "a:1"), shard(table, "b:1", "c:1")]) == 3
    assert held(table) == ["a:1", "b:1", "c:1"]


def test_commit__replaces_a_changed_row_within_one_snapshot(table):
    one = committer(table)
    one.commit([shard(table, "a:1", "b:1")])
    publish(again(table))
    before = {s.snapshot_id for s in again(table).iceberg.snapshots()}
    assert one.commit([shard(table, "a:2", "c:1")]) == 2
    assert held(table) == ["a:2", "b:1", "c:1"]
    now = again(table)
    assert len({s.snapshot_id for s in now.iceberg.snapshots()} - before) == 1
    assert sorted(now.column(["digest"], "1")["digest"].to_pylist()) == ["1", "1"]
    rows = now.iceberg.scan().to_arrow()
    assert rows["WISC.IQ"].to_pylist() == [1.5] * 3
    assert rows["vector"].to_pylist() == [[1.0, 2.0]] * 3
    # and the rewritten file can be rewritten again
    assert one.commit([shard(table, "b:3")]) == 1
    assert held(table) == ["a:2", "b:3", "c:1"]


def test_commit__without_a_digest_leaves_what_is_there(table):
    one = Committer(again(table), "key")
    one.commit([shard(table, "a:1")])
    assert one.commit([shard(table, "a:2", "b:1")]) == 1
    assert held(table) == ["a:1", "b:1"]


def test_remove__takes_rows_out_and_versions_keep_them(table):
    one = committer(table)
    one.commit([shard(table, "a:1", "b:1"), shard(table, "c:1")])
    publish(again(table))
    assert one.remove(lambda rows: pa.chunked_array([[key in "ac" for key in rows["key"].to_pylist()]])) == 2
    assert one.remove(lambda rows: pa.chunked_array([[key in "ac" for key in rows["key"].to_pylist()]])) == 0
    assert held(table) == ["b:1"]
    assert again(table).column(["key"], "1").num_rows == 3
    assert [file.rows for file in again(table).check_files("1")] != []
    assert one.remove(lambda rows: pa.chunked_array([[True] * rows.num_rows])) == 1
    assert held(table) == []
    assert one.commit([shard(table, "a:1")]) == 1


def test_commit__starts_over_where_another_run_comes_between_look_and_commit(table):
    other = committer(table)
    came = []

    def between():
        if not came:
            came.append(True)
            other.commit([shard(table, "a:1", "b:1")])

    one = committer(table, guard=between)
    assert one.commit([shard(table, "b:1", "c:1")]) == 1
    assert held(table) == ["a:1", "b:1", "c:1"]
    assert sorted(one.refresh()["key"].to_pylist()) == ["a", "b", "c"]


def test_replacement__starts_over_where_another_run_comes_between(table):
    other = committer(table)
    other.commit([shard(table, "a:1", "b:1")])
    came = []

    def between():
        if not came:
            came.append(True)
            other.commit([shard(table, "a:2")])

    one = committer(table, guard=between)
    assert one.commit([shard(table, "a:2", "b:2")]) == 1
    assert held(table) == ["a:2", "b:2"]


def test_commit__of_two_runs_at_once_loses_and_doubles_nothing(table):
    keys = [f"k{i:03d}:1" for i in range(60)]
    errors = []

    def run(order, size):
        try:
            mine = committer(table)
            for start in range(0, 60, size):
                mine.commit([shard(table, *order[start : start + size])])
        except ArtifactError as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=args) for args in [(keys, 5), (keys[::-1], 7), (keys, 11)]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert held(table) == keys


def test_publish__by_two_runs_at_once_gives_one_version(table):
    committer(table).commit([shard(table, "a:1")])
    one, other = again(table), again(table)
    came = []

    def between():
        if not came:
            came.append(publish(other))

    found = publish(one, guard=between, mlflow_run_id="loser")
    assert (found, again(table).versions) == (came[0], ["1"])
    assert again(table).manifest().mlflow_run_id is None
    assert publish(again(table), digest="new").version == "2"


def test_publish__of_another_content_at_once_gives_two_versions(table):
    committer(table).commit([shard(table, "a:1")])
    one, other = again(table), again(table)
    came = []

    def between():
        if not came:
            came.append(publish(other, digest="theirs"))

    found = publish(one, digest="ours", guard=between)
    assert (came[0].version, found.version) == ("1", "2")
    assert [again(table).manifest(version).digest for version in "12"] == ["theirs", "ours"]


def test_publish__of_an_older_snapshot_gives_what_it_held(table):
    one = committer(table)
    one.commit([shard(table, "a:1")])
    seen = one.index.snapshot_id
    one.commit([shard(table, "b:1")])
    publish(again(table), snapshot_id=seen)
    assert again(table).column(["key"], "1")["key"].to_pylist() == ["a"]


def test_committed_file__is_never_written_over(table):
    first = shard(table, "a:1")
    size = local_path(first).stat().st_size
    rows = pq.read_table(local_path(first)).set_column(
        3, SCHEMA.field(3), [pa.array([[1.0, 2.5]], pa.list_(pa.float32()))]
    )
    assert write_shard(table.uri, content_name(rows.cast(SCHEMA)), rows) != first
    assert local_path(first).stat().st_size == size
    assert shard(table, "a:1") == first


def test_begin__turns_the_own_retries_of_pyiceberg_off(table):
    assert table.iceberg.properties["commit.retry.num-retries"] == "0"
    with table.iceberg.transaction() as transaction:
        transaction.remove_properties("commit.retry.num-retries")
    again(table).begin(SCHEMA, {})
    assert again(table).iceberg.properties["commit.retry.num-retries"] == "0"


def test_refresh__of_a_table_whose_file_is_gone_says_so(table):
    found = shard(table, "a:1")
    committer(table).commit([found])
    local_path(found).unlink()
    with pytest.raises(EmbeddingsError, match=r"a data file cannot be read .*; restore it, or make the table again"):
        committer(table).refresh()


def test_until_committed__gives_up_after_many_tries(table, monkeypatch):
    monkeypatch.setattr("boldstream.artifacts.conflicts.FIRST_WAIT_S", 0)
    monkeypatch.setattr("boldstream.artifacts.conflicts.LONGEST_WAIT_S", 0)
    tries = []

    def act():
        tries.append(1)
        raise CommitFailedException("branch main has changed\nmore")

    with pytest.raises(
        EmbeddingsError,
        match=r"^embeddings a: other writers were faster in all of 30 commits \(branch main has changed\)",
    ):
        until_committed(act, table)
    assert len(tries) == 30


def test_until_committed__waits_for_a_locked_catalog_and_stops_at_a_full_one(table):
    catalog = local_path(table.warehouse.uri) / "catalog.db"
    tries = []
    with contextlib.closing(sqlite3.connect(catalog, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")

        def act():
            tries.append(1)
            if len(tries) == 3:
                other.execute("ROLLBACK")
            engine = create_engine(URL.create("sqlite", database=str(catalog), query={"timeout": "0.01"}))
            try:
                with engine.begin() as connection:
                    connection.execute(text("CREATE TABLE more (x)"))
                    if len(tries) == 4:
                        connection.execute(text("PRAGMA max_page_count = 1"))
                        connection.execute(text("INSERT INTO more VALUES (zeroblob(1000000))"))
            finally:
                engine.dispose()
            return len(tries)

        assert until_committed(act, table) == 3
        with contextlib.closing(sqlite3.connect(catalog)) as database:
            database.execute("DROP TABLE more")
        with pytest.raises(
            StorageError,
            match=r"^catalog of file:.*: cannot be written: .*database or disk is full; what is committed is kept, so",
        ):
            until_committed(act, table)
    assert len(tries) == 4


def test_until_committed__says_where_no_file_can_be_written(table):
    def act():
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(
        StorageError,
        match=r"^file:.*/embeddings/\w+: cannot be read or written: .*No space left on device; what is com",
    ):
        until_committed(act, table)

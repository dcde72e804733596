import csv
import datetime
import json
import re
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from boldstream.artifacts.commit import Committer
from boldstream.artifacts.embeddings import open_table
from boldstream.artifacts.shards import content_name, write_shard
from boldstream.artifacts.tables import VersionedTable
from boldstream.artifacts.versions import expire, iter_batches, plan_expiry, resolve_version
from boldstream.config import digest_json
from boldstream.errors import ArtifactError, CohortError, ConfigError, EmbeddingsError, OutputExistsError, StorageError
from boldstream.storage import Warehouse, local_path
from boldstream.table_diff import compare_versions
from boldstream.tables.commands import run_tables
from boldstream.tables.find import find_version
from boldstream.tables.limits import MAX_SCANS

SCHEMA = pa.schema(
    [
        pa.field("row_key", pa.string(), nullable=False),
        pa.field("age", pa.float64()),
        pa.field("notes", pa.list_(pa.string())),
        pa.field("vector_sha256", pa.string(), nullable=False),
        pa.field("embedding", pa.list_(pa.float32()), nullable=False),
        pa.field("roi_latents", pa.list_(pa.float32())),
    ]
)
NOW, DAY = datetime.timedelta(), datetime.timedelta(days=1)


@pytest.fixture
def warehouse(tmp_path):
    found = Warehouse.at(str(tmp_path / "w"))
    yield found
    found.catalog.close()


def make(warehouse, name, kind="embeddings"):
    table = VersionedTable(warehouse, kind, name, EmbeddingsError)
    table.begin(SCHEMA, {"strategy": "s"})
    return table


def write(table, keys, vectors):
    """Write a shard, without committing it."""
    columns = {
        "row_key": keys,
        "age": [20.5 + i for i in range(len(keys))],
        "notes": [["a", "b c"], None][: len(keys)] + [[]] * (len(keys) - 2),
        "vector_sha256": [digest_json(vector.tolist()) for vector in vectors],
        "embedding": list(vectors),
        "roi_latents": [np.arange(3, dtype=np.float32)] * len(keys),
    }
    rows = pa.table(columns, SCHEMA)
    return write_shard(table.uri, content_name(rows), rows)


def publish(table, model="models:/m/1"):
    rows = table.column(["row_key", "vector_sha256"])
    digest = digest_json([model, sorted(rows["row_key"].to_pylist()), sorted(rows["vector_sha256"].to_pylist())])
    content = {"strategy": {"id": "s"}, "model": model, "model_digest": digest_json(model)}
    table.publish(
        config={}, config_hash="h", parents=[], rows=rows.num_rows, digest=digest, content=content, mlflow_run_id=None
    )


def vectors(n, d=4, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def names(n, start=0):
    return [f"sub-{i:02d}" for i in range(start, start + n)]


@pytest.fixture
def table(warehouse):
    """Three versions of 4, 6 and 6 rows; the last has another vector of sub-00."""
    table = make(warehouse, "t")
    x = vectors(6)
    table.append([write(table, names(4), x[:4])])
    publish(table)
    table.append([write(table, names(2, 4), x[4:])])
    publish(table)
    Committer(table, "row_key").remove(lambda rows: pc.equal(rows["row_key"], "sub-00"))
    table.append([write(table, ["sub-00"], -x[:1])])
    publish(table)
    return table


def again(table):
    """Return the table as another process sees it."""
    return VersionedTable(table.warehouse, table.kind, table.name, table.error)


def manifest_of(table, version):
    return table.manifest_uri(version).removeprefix(f"{table.uri}/")


def on_disk(table):
    return {path.relative_to(local_path(table.uri)) for path in local_path(table.uri).rglob("*") if path.is_file()}


def content(table, version):
    rows = table.column(["row_key", "vector_sha256"], version).sort_by("row_key")
    return dict(zip(rows["row_key"].to_pylist(), rows["vector_sha256"].to_pylist(), strict=True))


def test_expire__removes_versions_and_only_the_files_that_they_alone_need(table):
    before, size = content(table, "3"), len(on_disk(table))
    (first,) = table.files("1")
    plan = plan_expiry(table, 1, (), DAY)
    assert (plan.versions, plan.kept) == (["1", "2"], ["3"])
    assert {file.name for file in plan.files} >= {
        manifest_of(table, "1"),
        manifest_of(table, "2"),
        first.uri[len(table.uri) + 1 :],
    }
    assert len(on_disk(table)) == size
    assert set(content(table, "1")) == set(names(4))  # readable until it is done

    removed = expire(table, plan)
    other = again(table)
    assert other.versions == ["3"]
    assert content(other, "3") == before
    assert other.check_files("3")
    assert not local_path(first.uri).exists()
    assert len(on_disk(table)) == size + 3 - len(removed)  # three commits have written metadata
    assert [snapshot.snapshot_id for snapshot in other.iceberg.snapshots()] == [
        other.iceberg.current_snapshot().snapshot_id
    ]
    with pytest.raises(EmbeddingsError, match=r"embedding 't' has no version '1' \(there: 3\)"):
        find_version("t@1", table.warehouse.uri)


def test_expire__keeps_protected_versions_whole(table):
    expire(table, plan_expiry(table, 1, {"1"}, NOW))
    other = again(table)
    assert other.versions == ["1", "3"]
    for version in other.versions:
        assert open_table(f"t@{version}", table.warehouse.uri).rows().shape[0] == {"1": 4, "3": 6}[version]
        assert open_table(f"t@{version}", table.warehouse.uri).vectors().shape[1] == 4
    assert (len(content(other, "1")), len(content(other, "3"))) == (4, 6)
    assert plan_expiry(other, 1, {"1"}, NOW).snapshots == []


def test_expire__goes_on_to_the_next_version_number(table):
    expire(table, plan_expiry(table, 1, (), NOW))
    other = again(table)
    other.append([write(other, ["new"], vectors(1, seed=3))])
    publish(other)
    assert other.versions == ["3", "4"]
    assert len(content(again(table), "4")) == 7


def test_orphans__go_when_they_are_old_and_what_a_run_has_committed_stays(table):
    orphan = local_path(write(table, ["orphan"], vectors(1, seed=8)))
    unfinished = write(table, ["unfinished"], vectors(1, seed=9))
    table.append([unfinished])
    plan = plan_expiry(table, 3, (), DAY)
    assert (plan.versions, [file.path for file in plan.files if file.name.startswith("data/")]) == ([], [])
    assert str(orphan) in {file.path for file in plan.young}
    expire(table, plan)
    assert orphan.exists()

    expire(table, plan_expiry(table, 3, (), NOW))
    assert not orphan.exists()
    other = again(table)
    assert "unfinished" in other.values("row_key")
    assert [len(content(other, version)) for version in other.versions] == [4, 6, 6]


def test_expire__spares_a_file_that_came_into_use_after_the_plan(table):
    late = write(table, ["late"], vectors(1, seed=8))
    plan = plan_expiry(table, 3, (), NOW)
    assert str(local_path(late)) in {file.path for file in plan.files}
    again(table).append([late])
    expire(table, plan)
    assert "late" in again(table).values("row_key")
    assert local_path(late).exists()


def test_expire__stopped_after_the_tags_is_finished_by_the_next(table):
    first = manifest_of(table, "1")
    table.iceberg.manage_snapshots().remove_tag("v1").commit()
    plan = plan_expiry(table, 3, (), NOW)
    assert plan.versions == []
    assert first in {file.name for file in plan.files}
    expire(table, plan)
    assert again(table).versions == ["2", "3"]
    assert len(content(again(table), "2")) == 6


def test_expire__of_a_damaged_table_removes_nothing(table):
    file = local_path(table.files("3")[0].uri)
    file.rename(file.with_suffix(".away"))
    with pytest.raises(EmbeddingsError, match=rf"embedding 't' is not whole \({file} is missing\), so nothing is remo"):
        plan_expiry(table, 1, (), NOW)
    with pytest.raises(ValueError, match="at least one version is kept, got keep=0"):
        plan_expiry(table, 0, (), NOW)


def test_versions__are_found_by_number_and_newest(table):
    assert (resolve_version(table, None), resolve_version(table, "2")) == ("3", "2")
    with pytest.raises(EmbeddingsError, match="has no version '9'"):
        resolve_version(table, "9")
    assert sum(batch.num_rows for batch in iter_batches(table, "1")) == 4
    with pytest.raises(EmbeddingsError, match="'t' has no version '9'"):
        list(iter_batches(table, "9"))


def test_pointers__say_what_is_meant(table, warehouse, tmp_path):
    cohort = make(warehouse, "t", "cohorts")
    cohort.append([write(cohort, names(2), vectors(2))])
    publish(cohort)
    home = warehouse.uri
    assert find_version("t", home).label == "t@3"
    assert not find_version("embeddings/t@1", home).is_cohort
    assert find_version("cohorts/t", home).ref.pointer == f"{home}/cohorts/t@1"
    assert find_version(f"{home}/cohorts/t@1", "nowhere").is_cohort
    assert find_version(f"{tmp_path}/w/embeddings/t@2", "nowhere").manifest.rows == 6
    with pytest.raises(ArtifactError, match=r"no table 'x' in warehouse .*/w \(there: embeddings/t, cohorts/t\)"):
        find_version("x", home)
    with pytest.raises(ConfigError, match=r"'other/t' names no table; write name, name@version"):
        find_version("other/t", home)
    with pytest.raises(StorageError, match=r"there is no warehouse at .*/none; name yours with --warehouse"):
        find_version("t", f"{home}/none")
    assert not (tmp_path / "w" / "none").exists()
    with pytest.raises(EmbeddingsError, match=r"'t' is a cohort; this works on embedding tables \(cohorts: list, sho"):
        run_tables(["diff", "cohorts/t", "t", "--warehouse", home])
    with pytest.raises(CohortError, match=r"t@1 is an embedding table; `boldstream tables diff` compares those"):
        run_tables(["diff", "t", "embeddings/t@1", "--warehouse", home], cohorts=True)


@pytest.mark.parametrize("target", ["a.parquet", "folder", "a.csv"])
def test_export__gives_the_vectors_back(table, tmp_path, target):
    said = run_tables(["export", "t@1", "--to", str(tmp_path / target), "--warehouse", table.warehouse.uri])
    assert said.startswith(f"t@1: 4 rows in {tmp_path / target}")
    found = open_table("t@1", table.warehouse.uri)
    if target == "a.csv":
        assert said.endswith("(left out: roi_latents)")
        with (tmp_path / target).open() as stream:
            rows = sorted(csv.DictReader(stream), key=lambda row: row["row_key"])
        given = np.array([[row[f"embedding_{i}"] for i in range(4)] for row in rows], dtype=np.float32)
        assert (rows[0]["age"], json.loads(rows[0]["notes"]), rows[1]["notes"]) == ("20.5", ["a", "b c"], "")
        keys = [row["row_key"] for row in rows]
    else:
        path = tmp_path / target / "t.parquet" if target == "folder" else tmp_path / target
        read = pq.read_table(path)
        assert read.schema.field("embedding").type == pa.list_(pa.float32())
        assert json.loads(read.schema.metadata[b"boldstream.manifest"])["digest"] == found.manifest.digest
        read = read.sort_by("row_key")
        keys, given = read["row_key"].to_pylist(), np.array(read["embedding"].to_pylist(), dtype=np.float32)
        assert read["roi_latents"][0].as_py() == [0, 1, 2]
    assert keys == names(4)
    np.testing.assert_array_equal(given, found.vectors())


def test_export__overwrites_nothing_unasked(table, tmp_path):
    target = tmp_path / "a.csv"
    target.write_text("mine")
    words = ["export", "t@1", "--to", str(target), "--warehouse", table.warehouse.uri]
    with pytest.raises(OutputExistsError, match=r"--to: .*a.csv exists; choose another place, or add --overwrite"):
        run_tables(words)
    assert target.read_text() == "mine"
    run_tables([*words, "--overwrite"])
    assert target.read_text().startswith('"row_key"')
    with pytest.raises(ConfigError, match=r"--to: 'a.json' ends in '.json'; write FILE.parquet, FILE.csv, or a folder"):
        run_tables(["export", "t", "--to", "a.json", "--warehouse", table.warehouse.uri])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "w"]


def test_export__of_a_damaged_table_writes_nothing(table, tmp_path):
    local_path(table.files("1")[0].uri).unlink()
    with pytest.raises(EmbeddingsError, match="is missing"):
        run_tables(["export", "t@1", "--to", str(tmp_path / "a.csv"), "--warehouse", table.warehouse.uri])
    assert not (tmp_path / "a.csv").exists()


def test_diff__counts_rows_and_finds_the_changed_scan(table):
    home = table.warehouse.uri
    found = compare_versions(find_version("t@1", home), find_version("t@3", home), max_scans=MAX_SCANS)
    assert (found.added, found.removed, found.changed, found.n_same) == (names(2, 4), [], ["sub-00"], 3)
    assert found.geometry.n == 4
    assert [one.key for one in found.most_changed] == ["sub-00"]
    assert found.most_changed[0].cosine == pytest.approx(-1)
    np.testing.assert_allclose(found.changed_cosine, [-1])
    turned = compare_versions(find_version("t@3", home), find_version("t@1", home), max_scans=MAX_SCANS)
    assert (turned.added, turned.removed) == ([], names(2, 4))


def test_diff__of_equal_versions_is_nothing(table, tmp_path):
    said = run_tables(["diff", "t@2", "t@2", "--out", str(tmp_path / "d"), "--warehouse", table.warehouse.uri])
    assert "rows changed                0 of 6 in both" in said
    assert "1.000000, 1.000000, 1.000000" in said
    numbers = json.loads((tmp_path / "d" / "numbers.json").read_text())
    assert numbers["geometry"]["cka"]["value"] == pytest.approx(1)
    assert numbers["geometry"]["neighbour_overlap"] == {"k": 2, "value": 1.0, "chance": 2 / 5}
    assert numbers["geometry"]["procrustes_error"]["value"] == pytest.approx(0, abs=1e-12)
    assert numbers["most_changed"] == []


def test_diff__writes_a_page_that_needs_nothing_else(table, tmp_path):
    other = make(table.warehouse, "wide")
    other.append([write(other, names(6), vectors(6, 7, seed=4))])
    publish(other, "models:/m/2")
    folder = tmp_path / "d"
    words = ["diff", "t", "wide", "--out", str(folder), "--warehouse", table.warehouse.uri]
    said = run_tables(words)
    assert "model: 'models:/m/1' -> 'models:/m/2'" in said
    assert "none: 4 and 7 dimensions" in said
    assert said.endswith(f"page: {folder}/index.html")
    assert sorted(path.name for path in folder.iterdir()) == ["diff.png", "index.html", "numbers.json"]
    page = (folder / "index.html").read_text()
    assert "What changed from t@3 to wide@1" in page
    assert "data:image/png;base64," in page
    assert not re.search(r"(src|href)=.?https?:", page)
    assert (folder / "diff.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((folder / "numbers.json").read_text())["geometry"]["cosine"] is None
    run_tables(words)  # an earlier comparison is replaced
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("x")
    with pytest.raises(OutputExistsError, match=r"--out: .*mine exists and holds no comparison; choose another folder"):
        run_tables([*words[:4], str(tmp_path / "mine"), *words[5:]])


def test_diff__samples_large_tables_the_same_way_every_time(warehouse):
    for i, name in enumerate(("a", "b")):
        table = make(warehouse, name)
        table.append([write(table, names(60), vectors(60) + i * vectors(60, seed=2))])
        publish(table)
    a, b = find_version("a", warehouse.uri), find_version("b", warehouse.uri)
    first, second, other = (compare_versions(a, b, max_scans=20, seed=seed) for seed in (1, 1, 2))
    assert first.keys == second.keys != other.keys
    assert (first.geometry.n, first.geometry.cka) == (20, second.geometry.cka)
    assert len(first.changed) == 60
    with pytest.raises(ConfigError, match=r"--max-scans: at least 3 are needed to compare, got 2"):
        compare_versions(a, b, max_scans=2)


def test_diff__says_why_there_is_no_geometry(table, tmp_path):
    home = table.warehouse.uri
    few = make(table.warehouse, "few")
    few.append([write(few, ["sub-00", "sub-01", "new"], vectors(3))])
    publish(few)
    said = run_tables(["diff", "t", "few", "--out", str(tmp_path / "d"), "--warehouse", home])
    assert "note: geometry not compared: 2 rows are in both; at least 3 are needed" in said
    assert (tmp_path / "d" / "diff.png").is_file()
    flat = make(table.warehouse, "flat")
    flat.append([write(flat, names(6), np.ones((6, 4), dtype=np.float32))])
    publish(flat)
    found = compare_versions(find_version("t", home), find_version("flat", home), max_scans=MAX_SCANS)
    assert found.no_geometry == "all 6 rows of second are equal, so nothing can be compared"


def test_commands__say_in_one_line_what_is_wrong(table, capsys):
    for words, message in [
        (["nothing"], "boldstream tables: argument COMMAND: invalid choice: 'nothing'"),
        (["diff", "t"], "boldstream tables diff: the following arguments are required: B"),
        (
            ["diff", "t", "u", "--page", "p"],
            "boldstream tables diff: unrecognized arguments: --page p (`boldstream tables diff --help` tells",
        ),
        (["expire", "t"], "boldstream tables expire: the following arguments are required: --keep"),
    ]:
        with pytest.raises(SystemExit) as ended:
            run_tables(words)
        assert ended.value.code == 2
        said = capsys.readouterr().err
        assert said.startswith(message)
        assert said.count("\n") == 1
    home = ["--warehouse", table.warehouse.uri]
    for words, message in [
        (["expire", "t", "--keep", "0"], "--keep: the newest version always stays, so at least 1, got 0"),
        (["expire", "t", "--keep", "1", "--grace-hours", "-1"], "--grace-hours: at least 0, got -1"),
        (["expire", "t@1", "--keep", "1"], "expire: name the table without a version, got 't@1'"),
        (["promote", "t"], "promote: 't' leaves the version open; write t@2, for example"),
        (["promote", "t@1", "--alias", "v1"], "alias: 'v1' is no alias"),
        (["promote", "t@1", "--alias", "12"], "alias: '12' could be a version; use a word"),
        (["rollback", "t@2"], "rollback: name the table without a version, and the version with --to 2"),
    ]:
        with pytest.raises(ConfigError, match=message):
            run_tables([*words, *home])


def test_table_without_versions__keeps_what_it_holds_and_one_snapshot(table):
    made = make(table.warehouse, "t", "embeddings_quarantine")
    made.append([write(made, ["bad"], vectors(1))])
    made.append([write(made, ["worse"], vectors(1, seed=1))])
    expire(made, plan_expiry(made, 1, (), NOW))
    assert again(made).values("row_key") == {"bad", "worse"}
    assert len(again(made).iceberg.snapshots()) == 1


def test_expire__of_a_table_whose_folder_was_copied_away_removes_nothing(table, tmp_path):
    shutil.copytree(local_path(table.uri) / "data", tmp_path / "data")
    shutil.rmtree(local_path(table.uri) / "data")
    with pytest.raises(EmbeddingsError, match="is not whole"):
        plan_expiry(table, 1, (), NOW)

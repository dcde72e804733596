import json
import re
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from boldstream.artifacts.cohort import cohort_tables, open_cohort
from boldstream.artifacts.embeddings import open_table, row_key
from boldstream.artifacts.files import file_problem
from boldstream.artifacts.receipts import begin_run
from boldstream.artifacts.shards import content_name, write_shard
from boldstream.artifacts.tables import VersionedTable
from boldstream.errors import ArtifactError, CohortError, ConfigError, EmbeddingsError, OutputExistsError
from boldstream.refs import CohortRef
from boldstream.storage import Warehouse, local_path

SCHEMA = pa.schema([pa.field("scan_key", pa.string(), nullable=False), pa.field("WISC.IQ", pa.float64())])
IDENTITY = {"atlas": "toy", "optim": {"lr": 0.1, "steps": 3}}


@pytest.fixture
def warehouse(tmp_path):
    found = Warehouse.at(str(tmp_path / "w"))
    yield found
    found.catalog.close()


def shard(table, *keys):
    rows = pa.table({"scan_key": list(keys), "WISC.IQ": [1.0] * len(keys)}, schema=SCHEMA)
    return write_shard(table.uri, content_name(rows), rows)


def publish(table, rows, **values):
    known = {"config": {}, "config_hash": "h", "parents": [], "digest": f"d{rows}", "content": {}}
    return table.publish(rows=rows, mlflow_run_id=None, **known | values)


def manifest_path(table, version):
    return local_path(table.manifest_uri(version))


@pytest.fixture
def table(warehouse):
    """One published version with two rows, and one row more that belongs to none."""
    table = VersionedTable(warehouse, "cohorts", "a", CohortError)
    table.begin(SCHEMA, IDENTITY)
    table.append([shard(table, "k1", "k2")])
    publish(table, 2)
    table.append([shard(table, "k3")])
    return table


def again(table):
    """Return the table as another process sees it."""
    return VersionedTable(table.warehouse, table.kind, table.name, table.error)


def keys(found):
    return sorted(found["scan_key"].to_pylist())


def test_version__holds_what_was_there_when_it_was_published(table):
    assert keys(table.column(["scan_key"], "1")) == ["k1", "k2"]
    assert keys(table.column(["scan_key"])) == ["k1", "k2", "k3"]
    publish(table, 3)
    other = again(table)
    assert other.versions == ["1", "2"]
    assert other.newest() == "2"
    assert keys(other.column(["scan_key"], "1")) == ["k1", "k2"]
    assert keys(other.column(["scan_key"], "2")) == ["k1", "k2", "k3"]
    assert [file.rows for file in other.check_files("1")] == [2]
    assert (other.manifest().rows, other.manifest("1").rows) == (3, 2)


def test_versions__are_numbers_not_text(table):
    for i in range(10):
        publish(table, 3, digest=f"other{i}")
    assert table.newest() == "11"


def test_manifest__is_json_beside_the_table(table):
    found = json.loads(manifest_path(table, "1").read_text())
    assert re.fullmatch(r"v1-[0-9a-f]{8}.json", manifest_path(table, "1").name)
    assert (found["kind"], found["name"], found["version"], found["rows"]) == ("cohorts", "a", "1", 2)
    assert found["content"]["iceberg_snapshot"]


def test_begin__goes_on_with_the_same_run(table):
    other = again(table)
    other.begin(SCHEMA, {**IDENTITY, "optim": {"steps": 3, "lr": 0.1}})
    other.append([shard(other, "k4")])
    assert keys(other.column(["scan_key"])) == ["k1", "k2", "k3", "k4"]


def test_begin__refuses_another_run_and_names_what_differs(table):
    with pytest.raises(
        OutputExistsError,
        match=r"cohort 'a' exists in file:.* was made with other settings \(atlas: 'toy' -> 'cc200'; "
        r"optim.lr: 0.1 -> 0.2; seed: None -> 1\); choose another output name, or the same settings to go on",
    ):
        again(table).begin(SCHEMA, {"atlas": "cc200", "optim": {"lr": 0.2, "steps": 3}, "seed": 1})


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (SCHEMA.append(pa.field("new", pa.string())), "column new: None -> 'string'"),
        (SCHEMA.remove(1), "column WISC.IQ: 'double' -> None"),
        (SCHEMA.set(1, pa.field("WISC.IQ", pa.string())), "column WISC.IQ: 'double' -> 'string'"),
    ],
)
def test_begin__refuses_other_columns(table, schema, message):
    with pytest.raises(OutputExistsError, match=rf"made with other settings \({message}\); choose another"):
        again(table).begin(schema, IDENTITY)


def test_begin__goes_on_with_a_table_whose_recipe_listed_the_adjust_rooms_steps(warehouse):
    """Tables of earlier releases; a step listed otherwise is no other table, a window that differs is."""
    recipe = {"id": "r", "window": {"length": 160}}
    table = VersionedTable(warehouse, "embeddings", "a", EmbeddingsError)
    listed = {"harmonize": "none", "project_dim": 512, "residualize": ["age"]}
    table.begin(SCHEMA, {"strategy": {**recipe, **listed}, "parts": 1})
    again(table).begin(SCHEMA, {"strategy": recipe, "parts": 1})
    with pytest.raises(OutputExistsError, match=r"\(strategy.window.length: 160 -> 64\)"):
        again(table).begin(SCHEMA, {"strategy": {"id": "r", "window": {"length": 64}}, "parts": 1})


def test_begin_run__clears_away_an_unfinished_run_with_other_settings(warehouse, caplog):
    unfinished, quarantine = cohort_tables(warehouse, "b")
    begin_run(unfinished, quarantine, SCHEMA, IDENTITY)
    left = shard(unfinished, "k1")
    unfinished.append([left])
    begin_run(again(unfinished), again(quarantine), SCHEMA, {**IDENTITY, "atlas": "cc200"})
    assert "clearing away an unfinished run with other settings (atlas: 'toy' -> 'cc200')" in caplog.text
    assert keys(again(unfinished).column(["scan_key"])) == []
    assert not local_path(left).exists()


def test_begin_run__keeps_what_was_published(table):
    quarantine = cohort_tables(table.warehouse, "a")[1]
    with pytest.raises(OutputExistsError, match=r"\(atlas: 'toy' -> 'cc200'\)"):
        begin_run(again(table), quarantine, SCHEMA, {**IDENTITY, "atlas": "cc200"})
    assert keys(again(table).column(["scan_key"], "1")) == ["k1", "k2"]


def test_append__of_a_committed_shard_fails(table):
    with pytest.raises(ValueError, match="already referenced"):
        table.append([shard(table, "k3")])
    assert keys(table.column(["scan_key"])) == ["k1", "k2", "k3"]


def test_publish__of_an_empty_table_is_refused(warehouse):
    table = VersionedTable(warehouse, "cohorts", "a", CohortError)
    table.begin(SCHEMA, IDENTITY)
    assert table.column(["scan_key"]).num_rows == 0
    with pytest.raises(CohortError, match="has no rows, so there is nothing to publish"):
        publish(table, 0)


def test_publish__writes_what_lies_beside_a_version_unless_an_older_one_stands(table):
    table.append([shard(table, "k4")])
    assert publish(table, 4, digest="four", beside={"x-1.bin": b"one"}).version == "2"
    assert local_path(table.beside("2", "x-1.bin")).read_bytes() == b"one"
    assert publish(table, 4, digest="four", beside={"x-2.bin": b"two"}).version == "2"
    assert not list((local_path(table.uri) / "versions").glob("*x-2.bin"))


def test_unfinished_table__is_not_there_for_readers(warehouse):
    table = VersionedTable(warehouse, "cohorts", "a", CohortError)
    table.begin(SCHEMA, IDENTITY)
    table.append([shard(table, "k1")])
    with pytest.raises(CohortError, match="cohort 'a' has no published version: its run has not finished; run the sa"):
        open_cohort("a", warehouse.uri)


def test_manifest_without_tag__is_no_version(table):
    first = manifest_path(table, "1")
    shutil.copy(first, first.with_name("v2-00000000.json"))
    assert again(table).versions == ["1"]
    assert publish(table, 3).version == "2"
    assert again(table).manifest("2").rows == 3


def test_manifest__of_an_earlier_release_is_found(table):
    first = manifest_path(table, "1")
    first.rename(first.with_name("v1.json"))
    with table.iceberg.transaction() as transaction:
        transaction.remove_properties("boldstream.manifest.v1")
    assert again(table).manifest("1").rows == 2


def test_open__says_what_is_there_instead(table, warehouse):
    with pytest.raises(CohortError, match=r"no cohort 'b' in warehouse file:.* \(there: a\)"):
        open_cohort("b", warehouse.uri)
    with pytest.raises(CohortError, match=r"cohort 'a' has no version '7' \(there: 1\)"):
        open_cohort("a@7", warehouse.uri)
    with pytest.raises(CohortError, match=r"no cohort 'b' in warehouse file:.*/empty \(there: none\)"):
        open_cohort("b", f"{warehouse.uri}/empty")
    with pytest.raises(EmbeddingsError, match=r"no embedding 'a' in warehouse .* \(there: none\)"):
        open_table("a", warehouse.uri)
    with pytest.raises(ConfigError, match="cohort: 'a@' does not name an artifact"):
        open_cohort("a@", warehouse.uri)


@pytest.mark.parametrize("kind", ["uri", "path", "name"])
def test_open__takes_every_spelling_of_a_pointer(table, warehouse, kind, tmp_path):
    pointer = {"uri": f"{table.uri}@1", "path": f"{tmp_path}/w/cohorts/a@1", "name": "a@1"}[kind]
    elsewhere = warehouse.uri if kind == "name" else f"file://{tmp_path}/elsewhere"
    assert open_cohort(pointer, elsewhere).ref == CohortRef(table.uri, "1", "d2")
    assert not (tmp_path / "elsewhere").exists()


def test_open__refuses_a_folder_of_parquet(tmp_path):
    folder = tmp_path / "parquet"
    folder.mkdir()
    pq.write_table(pa.table({"scan_key": ["k1"]}), folder / "a.parquet")
    with pytest.raises(
        CohortError, match=r"cohort: '.*parquet' is not below a folder 'cohorts' of a warehouse, so it "
    ):
        open_cohort(str(folder), str(tmp_path / "w"))
    (tmp_path / "cohorts").mkdir()
    folder.rename(tmp_path / "cohorts" / "parquet")
    with pytest.raises(CohortError, match=r"no cohort 'parquet' in warehouse"):
        open_cohort(str(tmp_path / "cohorts" / "parquet"), str(tmp_path / "w"))


def test_open__refuses_a_version_without_manifest(table, warehouse):
    manifest = manifest_path(table, "1")
    manifest.unlink()
    with pytest.raises(
        CohortError, match=r"cohort a@1 has no manifest \(.*v1-\w+.json is missing\), so what it holds cann"
    ):
        open_cohort("a", warehouse.uri)
    manifest.write_text("{")
    with pytest.raises(ArtifactError, match=r"a@1 \(.*v1-\w+.json\): is no manifest .* the artifact is not whole"):
        open_cohort("a", warehouse.uri)


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-10])


def overwrite(path):
    path.write_bytes(b"x" * path.stat().st_size)


def scramble_footer(path):
    data = path.read_bytes()
    path.write_bytes(data[:-80] + b"\xff" * 72 + data[-8:])


def replace(path):
    rows = pa.table({"scan_key": ["k"] * 5}, schema=SCHEMA.remove(1))
    size = path.stat().st_size
    pq.write_table(rows, path)
    assert path.stat().st_size != size


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (Path.unlink, "is missing"),
        (cut_short, r"has \d+ bytes instead of \d+ \(truncated or overwritten\)"),
        (replace, r"has \d+ bytes instead of \d+ \(truncated or overwritten\)"),
        (overwrite, r"is not Parquet \("),
        (scramble_footer, r"is not Parquet \("),
    ],
)
def test_open__refuses_a_damaged_file(table, warehouse, damage, message):
    (file,) = table.files("1")
    damage(local_path(file.uri))
    with pytest.raises(
        CohortError, match=rf"cohort a@1: data file {file.uri} {message}.*; restore the file or make the cohort again"
    ) as caught:
        open_cohort("a", warehouse.uri)
    assert "\n" not in str(caught.value)


def test_open__refuses_a_file_with_other_rows(table, warehouse):
    (file,) = table.files("1")
    path = local_path(file.uri)
    size = path.stat().st_size
    rows = pa.table({"scan_key": ["k1"], "WISC.IQ": [1.0]}, schema=SCHEMA)
    for padding in range(4000):
        rows = rows.replace_schema_metadata({"pad": "x" * padding})
        pq.write_table(rows, path, compression="none")
        if path.stat().st_size >= size:
            break
    table_file = type(file)(file.uri, file.rows, path.stat().st_size)
    assert file_problem(table_file) == f"data file {file.uri} has 1 rows instead of 2"


def test_open__says_so_where_the_folder_was_removed(table, warehouse):
    shutil.rmtree(local_path(table.uri))
    with pytest.raises(
        CohortError, match=r"knows cohort 'a', but its files are gone .*; restore the folder, or choose"
    ):
        open_cohort("a", warehouse.uri)
    with pytest.raises(CohortError, match="its files are gone"):
        again(table).begin(SCHEMA, IDENTITY)


def test_quarantine__stands_beside_its_table(warehouse):
    cohort, quarantine = cohort_tables(warehouse, "a")
    assert (cohort.uri, quarantine.uri) == (f"{warehouse.uri}/cohorts/a", f"{warehouse.uri}/cohorts_quarantine/a")


def test_row_key__names_the_part_only_where_there_are_parts():
    assert [row_key("sub-1", 0, 1), row_key("sub-1", 1, 2)] == ["sub-1", "sub-1_part-2"]

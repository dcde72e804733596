import re
import shutil
from types import SimpleNamespace

import mlflow
import numpy as np
import pytest

from boldstream.artifacts.embeddings import open_table
from boldstream.embed import EmbedConfig, embed_cohort
from boldstream.errors import EmbeddingsError, ModelError
from boldstream.ingest import ingest_cohort
from boldstream.pretrain import PretrainConfig, pretrain
from boldstream.registry import resolve_model
from boldstream.storage import local_path
from boldstream.table_registry import register_table_version, registered_table
from boldstream.tables import run_tables
from boldstream.tables.find import find_version
from synthetic import ingest_config, series, write_participants, write_scan, write_study

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("cluster")]

STRATEGY = "id: toy_v1\nwindow: {length: 32, stride: 14}\n"
FIRST = [f"{i:02d}" for i in range(8)]


@pytest.fixture(scope="module")
def made(study, tmp_path_factory):
    """A table of three versions (8, 9, 10 scans), and one with a model of another seed."""
    root = tmp_path_factory.mktemp("tables")
    (root / "toy_v1.yaml").write_text(STRATEGY)
    other = pretrain(PretrainConfig(**study.pretrain | {"output": "toy-tables", "seed": 7}))
    home = str(root / "warehouse")

    def embed(output, model):
        config = EmbedConfig(
            output=output, cohort="study", model=model.pointer, strategy=str(root / "toy_v1.yaml"), warehouse=home
        )
        return embed_cohort(config)

    write_study(root, FIRST)
    ingest_cohort(ingest_config(root))
    refs = [embed("nights", study.model)]
    for more in ("08", "09"):
        write_scan(root / "scans", more, series(int(more)))
        write_participants(root, [f"{i:02d}" for i in range(int(more) + 1)])
        ingest_cohort(ingest_config(root))
        refs.append(embed("nights", study.model))
    return SimpleNamespace(root=root, home=home, refs=refs, other=embed("elsewhere", other))


@pytest.fixture
def tables(made):
    """Return a function that runs ``boldstream tables`` on the module's warehouse."""

    def run(*words):
        return run_tables([*words, "--warehouse", made.home])

    yield lambda *words: re.sub("  +", "  ", run(*words))
    if "2" in find_version("nights", made.home).table.versions:
        run("rollback", "nights", "--to", "1")


def champion(made):
    return registered_table(made.refs[0].uri).aliases["champion"].version


def test_registry__knows_every_version_once_and_the_first_is_champion(made):
    known = registered_table(made.refs[0].uri)
    assert known.name == "table.nights"
    assert [one.version for one in known.versions] == ["1", "2", "3"]
    assert champion(made) == "1"
    for ref in made.refs:
        register_table_version(ref, open_table(ref.pointer, made.home).manifest)
    assert registered_table(made.refs[0].uri) == known

    manifest = open_table(made.refs[1].pointer, made.home).manifest
    version = mlflow.MlflowClient().get_model_version("table.nights", "2")
    assert version.run_id == manifest.mlflow_run_id
    expected = {"table": made.refs[1].pointer, "digest": made.refs[1].digest, "rows": "9", "strategy": "toy_v1"}
    expected["model_version"] = manifest.content["model"]
    assert expected.items() <= version.tags.items()
    assert version.tags["cohort"].endswith("/cohorts/study@2")
    artifacts = mlflow.MlflowClient().list_logged_model_artifacts(version.source.removeprefix("models:/"))
    assert [file.path for file in artifacts] == ["manifest.json"]
    with pytest.raises(ModelError, match=r"'models:/table\.nights/2' is an embedding table, not an encoder"):
        resolve_model("models:/table.nights/2")
    with pytest.raises(ModelError, match=r"\(models there: (?!.*table\.)"):
        resolve_model("models:/nobody/1")


def test_registry__keeps_tables_of_two_warehouses_with_one_name_apart(made, tmp_path):
    shutil.copytree(local_path(made.refs[0].uri).parents[1], tmp_path / "w")
    manifest = open_table(made.other.pointer, made.home).manifest
    twin = type(made.other)(f"file://{tmp_path}/w/embeddings/elsewhere", made.other.version, made.other.digest)
    register_table_version(twin, manifest)
    known = registered_table(twin.uri)
    assert known.name.startswith("table.elsewhere.")
    assert registered_table(made.other.uri).name == "table.elsewhere"
    assert (len(known.versions), known.aliases["champion"].version) == (1, "1")


def test_list__shows_tables_and_cohorts_at_their_newest(made, tables):
    lines = [line.split() for line in tables("list").splitlines()]
    assert lines[0] == ["kind", "name", "newest", "rows", "strategy", "model", "champion", "created", "(UTC)", "digest"]
    assert lines[1][:7] == ["embedding", "elsewhere", "1", "10", "toy_v1", "toy-tables/1", "1"]
    assert lines[2][:7] == ["embedding", "nights", "3", "10", "toy_v1", "toy/1", "1"]
    assert lines[3][:7] == ["cohort", "study", "3", "10", "-", "-", "-"]
    assert lines[2][-1] == made.refs[2].digest[:12]


def test_show__tells_where_a_version_comes_from_and_goes_to(made, tables):
    said = tables("show", "nights@2")
    assert said.startswith("embedding table nights@2\n")
    assert f"where  {made.refs[1].pointer}\n" in said
    assert "MLflow model  models:/table.nights/2\n" in said
    assert "/cohorts/study version 2" in said
    assert "models:/toy version 1" in said
    assert "read by\nno MLflow run\n" in said
    assert "cohort: 'study@1' -> 'study@2'; +1 rows" in said
    cohort = tables("show", "cohorts/study@2")
    assert f"embed nights  FINISHED  run {open_table(made.refs[1].pointer, made.home).manifest.mlflow_run_id}" in cohort
    assert made.refs[1].pointer in cohort
    assert made.refs[0].pointer not in cohort


def test_diff__of_two_nights_and_of_two_models(made, tables, tmp_path):
    nights = tables("diff", "nights@champion", "nights", "--out", str(tmp_path / "nights"))
    assert nights.startswith("nights@1 -> nights@3\n")
    assert "cohort: 'study@1' -> 'study@3'" in nights
    assert "rows added  2" in nights
    assert "rows changed  0 of 8 in both" in nights
    assert "added: sub-08, sub-09" in nights
    models = tables("diff", "nights", "elsewhere", "--out", str(tmp_path / "models"))
    assert "model: 'models:/toy/1' -> 'models:/toy-tables/1'" in models
    assert "rows changed  10 of 10 in both" in models
    assert "note: two model versions made these vectors, so their axes differ: cosine says nothing" in models
    assert (tmp_path / "models" / "index.html").is_file()


def test_champion__is_promoted_and_taken_back(made, tables):
    assert tables("promote", "nights@2") == "nights@champion is version 2 now (before: 1)"
    assert tables("promote", "nights@2") == "nights@champion is version 2 already"
    assert tables("promote", "nights@3") == "nights@champion is version 3 now (before: 2)"
    assert tables("rollback", "nights") == "nights@champion is version 2 now (before: 3)"
    assert find_version("nights@champion", made.home).ref == made.refs[1]
    assert tables("promote", "nights@1") == "nights@champion is version 1 now (before: 2)"
    assert tables("rollback", "nights") == "nights@champion is version 2 now (before: 1)"  # not 3, which was taken back
    assert tables("rollback", "nights") == "nights@champion is version 1 now (before: 2)"
    with pytest.raises(
        EmbeddingsError, match=r"'nights' had no champion before version 1 that is still there; name a v"
    ):
        tables("rollback", "nights")
    assert tables("rollback", "nights", "--to", "3") == "nights@champion is version 3 now (before: 1)"
    # moved by hand in MLflow's own page
    mlflow.MlflowClient().set_registered_model_alias("table.nights", "champion", "2")
    assert tables("rollback", "nights") == "nights@champion is version 3 now (before: 2)"


def test_alias__of_ones_own(made, tables):
    with pytest.raises(
        EmbeddingsError, match=r"table 'nights' has no version or alias 'paper' .*\(aliases there: champ"
    ):
        tables("show", "nights@paper")
    assert tables("promote", "nights@2", "--alias", "paper") == "nights@paper is version 2 now (before: none)"
    assert tables("show", "nights@paper").startswith("embedding table nights@2\n")
    assert champion(made) == "1"
    mlflow.MlflowClient().delete_registered_model_alias("table.nights", "paper")
    with pytest.raises(EmbeddingsError, match="table 'nights' has no paper yet, so there is nothing to go back from"):
        tables("rollback", "nights", "--alias", "paper")


def test_export__gives_the_vectors_back(made, tables, tmp_path):
    import pyarrow.parquet as pq

    tables("export", "nights@champion", "--to", str(tmp_path / "a.parquet"))
    rows = pq.read_table(tmp_path / "a.parquet").sort_by("row_key")
    given = np.array(rows["embedding"].to_pylist(), dtype=np.float32)
    np.testing.assert_array_equal(given, open_table(made.refs[0].pointer, made.home).vectors())
    assert rows["age"].to_pylist() == [20.0 + i for i in range(8)]
    said = tables("export", "cohorts/study@1", "--to", str(tmp_path / "study.csv"))
    assert "study@1: 8 rows in" in said
    assert "timeseries" in said.partition("left out")[2]
    tables("export", "cohorts/study@1", "--to", str(tmp_path / "study"))
    assert "timeseries" in pq.read_schema(tmp_path / "study" / "study.parquet").names


def test_expire__without_the_registry_that_knows_the_champion_is_refused(made, tables, tmp_path, monkeypatch):
    here = mlflow.get_tracking_uri()
    monkeypatch.chdir(tmp_path)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/none.db")
    try:
        with pytest.raises(EmbeddingsError, match=r"the registry at sqlite:.*none.db does not know table 'nights', so"):
            tables("expire", "nights", "--keep", "1")
        assert "(no MLflow registry here tells the champions" in tables("list")
        assert "read by\nnot known: there is no MLflow store here" in tables("show", "nights@1")
        assert list(tmp_path.iterdir()) == []
    finally:
        mlflow.set_tracking_uri(here)


def test_expire__keeps_champion_and_newest_and_the_rest_go_with_their_files(made, tables):
    """The last test of the module: version 2 is gone after it."""
    before = {ref.version: open_table(ref.pointer, made.home).vectors() for ref in made.refs}
    dry = tables("expire", "nights", "--keep", "1", "--grace-hours", "0", "--dry-run")
    assert dry.startswith("nights: versions would go: 2; kept: 1 (champion), 3\n")
    assert "versions/v2-" in dry
    np.testing.assert_array_equal(open_table("nights@2", made.home).vectors(), before["2"])

    said = tables("expire", "nights", "--keep", "1", "--grace-hours", "0")
    assert said.startswith("nights: versions gone: 2; kept: 1 (champion), 3\n")
    for version in ("1", "3"):
        np.testing.assert_array_equal(open_table(f"nights@{version}", made.home).vectors(), before[version])
    with pytest.raises(EmbeddingsError, match=r"embedding 'nights' has no version '2' \(there: 1, 3\)"):
        open_table("nights@2", made.home)
    folder = local_path(made.refs[0].uri)
    assert sorted(path.name[:3] for path in (folder / "versions").iterdir()) == ["v1-", "v3-"]
    assert len(list((folder / "metadata").glob("*.metadata.json"))) == 3  # the last, and this expiry's two
    assert mlflow.MlflowClient().get_model_version("table.nights", "2").tags["expired"] == "true"
    with pytest.raises(EmbeddingsError, match="has no version '2'"):
        tables("promote", "nights@2")
    assert tables("promote", "nights@3") == "nights@champion is version 3 now (before: 1)"

    # the next night goes on as if nothing had been
    write_scan(made.root / "scans", "10", series(10))
    write_participants(made.root, [f"{i:02d}" for i in range(11)])
    ingest_cohort(ingest_config(made.root))
    config = {"output": "nights", "cohort": "study", "model": "models:/toy/1", "warehouse": made.home}
    ref = embed_cohort(EmbedConfig(**config, strategy=str(made.root / "toy_v1.yaml")))
    assert (ref.version, len(open_table(ref.pointer, made.home).rows())) == ("4", 11)

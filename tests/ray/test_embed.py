import re
import time
import urllib.request

import mlflow
import numpy as np
import pytest

from boldstream.artifacts.embeddings import embedding_tables, open_table
from boldstream.cluster import count_gpus
from boldstream.embed import embed_cohort
from boldstream.encoders.interface import load_encoder
from boldstream.encoders.windows import WindowSpec, cut_windows
from boldstream.errors import AtlasError, ConfigError, EmbeddingsError, ModelError, OutputExistsError
from boldstream.ingest import ingest_cohort
from boldstream.pretrain import PretrainConfig, pretrain
from boldstream.registry import download_model
from boldstream.storage import Warehouse
from planted_encoders import DEADLY
from synthetic import ROIS, ingest_config, series, write_participants, write_scan, write_study

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("cluster")]

# Relative to the largest value of a vector. Measured against a loop that takes one window at a time, on one machine:
# 6.4e-8 for each of the three (batch size, actors) below.
TOLERANCE = 1e-5


@pytest.fixture
def config(embed_config):
    return embed_config


def quarantine_of(config):
    table = embedding_tables(Warehouse.at(config.warehouse), config.output)[1]
    return table.column(["scan_key", "reason", "message"]).sort_by("scan_key").to_pylist()


def worst(first, second):
    """Largest difference, relative to the largest value of each vector."""
    return np.max(np.abs(first - second) / np.abs(first).max(axis=1, keepdims=True))


@pytest.fixture(scope="module")
def vectors(study, tmp_path_factory):
    """The vectors, computed by a plain loop in this process."""
    encoder = load_encoder(download_model(study.model, tmp_path_factory.mktemp("model")))
    found = []
    for i in range(9):
        # the files hold five digits
        values = np.array([[float(f"{value:.5f}") for value in row] for row in series(i)], dtype=np.float32)
        windows = cut_windows(values, 2.0, WindowSpec(length=32, stride=14)).values
        found.append(np.mean([encoder.encode(window[None]).mean(dim=(1, 2)).numpy()[0] for window in windows], axis=0))
    return np.array(found)


@pytest.mark.parametrize(("batch_size", "actors"), [(1, 1), (7, 2), (64, 4)])
def test_vectors__do_not_depend_on_batch_size_and_actors(config, vectors, batch_size, actors):
    ref = embed_cohort(config(batch_size=batch_size, actors=actors))
    table = open_table(ref.pointer, "")
    assert worst(vectors, table.vectors()) < TOLERANCE
    rows = table.rows()
    assert rows["scan_key"].tolist() == [f"sub-{i:02d}" for i in range(9)]
    assert set(rows["n_windows"]) == {3}  # windows start at 0, 14 and 28


def test_scan_that_kills_its_encoder__fails_alone(config, vectors, job, tmp_path):
    """Also: an autoscaling pool and batches of a size that is found give the same vectors."""
    write_study(tmp_path, [f"{i:02d}" for i in range(9)])
    deadly = series(4)
    deadly[10, 3] = DEADLY
    write_scan(tmp_path / "scans", "04", deadly)
    cohort = ingest_cohort(ingest_config(tmp_path)).pointer
    made = config(cohort=cohort, actors={"min": 1, "max": 2}, batch_size="auto", compile=False)
    _, err = job("embed", made, "tests/ray/killer_job.py").communicate(timeout=240)
    assert "1 of 9 scans failed and are not in table table@1 (1 x WorkerDied, listed in" in err, err
    table = open_table("table@1", made.warehouse)
    alive = [i for i in range(9) if i != 4]
    assert table.rows()["scan_key"].tolist() == [f"sub-{i:02d}" for i in alive]
    assert worst(vectors[alive], table.vectors()) < TOLERANCE


def exported():
    """Return what Ray exports to Prometheus on this node."""
    import ray

    (node,) = ray.nodes()
    with urllib.request.urlopen(f"http://127.0.0.1:{node['MetricsExportPort']}", timeout=10) as answer:
        return answer.read().decode()


def test_progress__is_told_to_mlflow_and_prometheus(config):
    embed_cohort(config(output="told", batch_size=2))
    (run,) = mlflow.search_runs(filter_string="tags.`mlflow.runName` = 'embed told'", output_format="list")
    found = {name.removeprefix("progress/"): value for name, value in run.data.metrics.items()}
    assert (found["scans"], found["quarantined"], found["failed"], found["seconds_left"]) == (10, 1, 0, 0)
    assert (found["batch_size"], found["actors"]) == (2, 1)
    assert 0 < found["actor_busy_share"] <= 1
    assert found["scans_per_s"] > 0
    deadline = time.monotonic() + 60
    while not (scans := re.findall(r'^ray_boldstream_embed_scans_total{.*table="told".*} (.*)$', exported(), re.M)):
        assert time.monotonic() < deadline
        time.sleep(1)
    assert scans == ["10.0"]
    text = exported()
    for name in ("actor_busy_share", "encode_seconds_bucket"):
        assert re.search(rf'^ray_boldstream_embed_{name}{{.*table="told"', text, re.MULTILINE)


def test_table__carries_labels_and_lineage_and_accounts_for_every_scan(config, study):
    made = config()
    ref = embed_cohort(made)
    table = open_table(ref.pointer, "")
    rows = table.rows()
    assert rows["age"].tolist() == [20.0 + i for i in range(9)]
    assert rows["site"].tolist()[:2] == ["site0", "site1"]
    assert rows["iq"].tolist() == [100.0 + i for i in range(9)]
    assert rows["source_uri"].str.endswith("/sub-00.csv")[0]
    assert (rows["status"] == "ok").all()
    expected = {
        "strategy_id": "toy_v1",
        "model_version": study.model.pointer,
        "model_digest": study.model.digest,
        "cohort_version": study.cohort.pointer,
        "cohort_digest": study.cohort.digest,
    }
    for name, value in expected.items():
        assert set(rows[name]) == {value}
    assert [parent.role for parent in table.manifest.parents] == ["cohort", "model"]
    (short,) = quarantine_of(made)
    assert (short["scan_key"], short["reason"]) == ("sub-09", "shorter_than_window")
    assert short["message"].startswith("20 timepoints, a window has 32; use a model with shorter windows, or short_sc")

    # the same command again: nothing new, nothing doubled; other batch sizes are the same run
    assert embed_cohort(config(batch_size=3, actors=2)) == ref
    assert open_table("table", made.warehouse).ref.version == "1"
    assert len(open_table("table", made.warehouse).rows()) == 9


def test_table__made_otherwise_is_refused(config, study, strategy):
    embed_cohort(config())
    other = strategy("other_v1", keep_roi_latents=True)
    with pytest.raises(
        OutputExistsError,
        match=r"embedding 'table' exists .* \(strategy.id: 'toy_v1' -> 'other_v1'; strategy.keep_roi_l",
    ):
        embed_cohort(config(strategy=other))
    model = pretrain(PretrainConfig(**study.pretrain | {"output": "toy-seed", "seed": 1}))
    with pytest.raises(
        OutputExistsError, match=r"is of models:/toy/1 .*, not of models:/toy-seed/1 .*replace_model: true"
    ):
        embed_cohort(config(model=model.pointer))


def test_parts__are_embedded_each_by_itself(config, strategy, study):
    made = config(parts=2, strategy=strategy(window={"length": 32, "stride": 32, "short_scans": "pad"}))
    table = open_table(embed_cohort(made).pointer, "")
    rows = table.rows()
    keys = [f"sub-{i:02d}_part-{part}" for i in range(10) for part in (1, 2)]
    assert rows["row_key"].tolist() == keys
    assert rows["part"].tolist() == [0, 1] * 10
    assert set(rows["status"]) == {"padded"}  # halves have 30 timepoints (the last scan's 10), a window 32
    vectors = table.vectors()
    assert worst(vectors[::2], vectors[1::2]) > 1e-3


def test_padding__is_done_where_the_strategy_says_so_and_flagged(config, strategy):
    made = config(strategy=strategy(window={"short_scans": "pad"}))
    rows = open_table(embed_cohort(made).pointer, "").rows()
    assert rows["status"].tolist() == ["ok"] * 9 + ["padded"]
    assert rows["n_windows"].tolist() == [3] * 9 + [1]
    assert quarantine_of(made) == []


def test_resampling__needs_a_repetition_time(config, strategy, tmp_path):
    write_study(tmp_path, ["1", "2", "3"])
    cohort = ingest_cohort(ingest_config(tmp_path, t_r=None, t_r_by_site={"site0": 2.0}))
    made = config(cohort=cohort.pointer, strategy=strategy(window={"target_t_r": 1.0}))
    table = open_table(embed_cohort(made).pointer, "")
    assert table.rows()["scan_key"].tolist() == ["sub-1", "sub-3"]
    assert set(table.rows()["n_windows"]) == {7}  # 120 timepoints at 1 s
    (unknown,) = quarantine_of(made)
    assert (unknown["scan_key"], unknown["reason"]) == ("sub-2", "t_r_unknown")


def test_roi_latents__are_kept_and_their_mean_is_the_vector(config, strategy):
    table = open_table(embed_cohort(config(strategy=strategy(keep_roi_latents=True))).pointer, "")
    found = table.table.column(["row_key", "embedding", "roi_latents"]).sort_by("row_key").to_pydict()
    vectors = np.array(found["embedding"], dtype=np.float32)
    latents = np.array(found["roi_latents"], dtype=np.float32).reshape(9, len(ROIS), -1)
    assert worst(vectors, latents.mean(axis=1)) < TOLERANCE


def test_model_of_another_order__is_refused_by_name(config, study, tmp_path):
    turned = [*ROIS[:6], ROIS[7], ROIS[6]]
    (tmp_path / "rois.txt").write_text("\n".join(turned))
    warehouse = str(tmp_path / "turned")
    cohort = ingest_cohort(ingest_config(study.root, atlas_labels=str(tmp_path / "rois.txt"), warehouse=warehouse))
    with pytest.raises(
        AtlasError,
        match=r"cohort 'study@1' has atlas 'toy' \(8 regions\) but model 'models:/toy/1' expects 'toy' \(8\): "
        r"same regions, other order; first at region 7, 'R8' instead of 'R7'. Ingest again",
    ):
        embed_cohort(config(cohort=cohort.pointer))


def test_inputs__that_do_not_fit_are_refused_before_anything_is_written(config, strategy, tmp_path):
    with pytest.raises(
        ConfigError,
        match=r"strategy 'toy_v1' has windows of 16 timepoints, model 'models:/toy/1' takes 32; use a strategy",
    ):
        embed_cohort(config(strategy=strategy(window={"length": 16})))
    with pytest.raises(ConfigError, match=r"none.yaml: no such file"):
        embed_cohort(config(strategy=str(tmp_path / "none.yaml")))
    with pytest.raises(ModelError, match="'models:/toy@nobody' is not in the registry"):
        embed_cohort(config(model="models:/toy@nobody"))
    if not count_gpus():
        with pytest.raises(ConfigError, match="the cluster has no room for 1 GPU and 1 CPU"):
            embed_cohort(config(actors={"gpu": True}))
    assert not (tmp_path / "w").exists()


def test_nothing_to_embed__says_why_and_leaves_the_name_free(config, strategy, tmp_path):
    write_study(tmp_path, ["1", "2"], n_timepoints=20)
    cohort = ingest_cohort(ingest_config(tmp_path)).pointer
    for _ in range(2):
        with pytest.raises(
            EmbeddingsError,
            match=r"none of the 2 scans of cohort study@1 can be embedded \(2 x shorter_than_window; for example "
            r"sub-1: 20 timepoints, a window has 32; .*; all are listed in file:.*/embeddings_quarantine/table\)",
        ):
            embed_cohort(config(cohort=cohort))
    padding = config(cohort=cohort, strategy=strategy(window={"short_scans": "pad"}))
    assert embed_cohort(padding).version == "1"


def test_new_scans__are_embedded_and_nothing_else(config, tmp_path):
    write_study(tmp_path, ["1", "2", "3"])
    first = ingest_cohort(ingest_config(tmp_path))
    old = embed_cohort(config(cohort="study", warehouse=str(tmp_path / "warehouse")))
    write_scan(tmp_path / "scans", "0", series(11))
    write_participants(tmp_path, ["1", "2", "3", "0"])
    second = ingest_cohort(ingest_config(tmp_path))
    new = embed_cohort(config(cohort="study", warehouse=str(tmp_path / "warehouse")))
    assert (old.version, new.version) == ("1", "2")
    rows = open_table(new.pointer, "").rows()
    assert rows["scan_key"].tolist() == ["sub-0", "sub-1", "sub-2", "sub-3"]
    assert rows["cohort_version"].tolist() == [second.pointer] + [first.pointer] * 3
    assert open_table(old.pointer, "").rows()["scan_key"].tolist() == ["sub-1", "sub-2", "sub-3"]
    with pytest.raises(
        EmbeddingsError,
        match=r"table 'table' follows cohort study@2, which is newer than study@1: going back would remove scans from "
        r"it; name study@2 or a newer version, or choose another output name",
    ):
        embed_cohort(config(cohort="study@1", warehouse=str(tmp_path / "warehouse")))

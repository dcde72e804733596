"""`boldstream tables quality` on small Iceberg tables, with a real MLflow store and no Ray."""

import dataclasses
import json
import re

import mlflow
import numpy as np
import pandas as pd
import pytest

from adjustable import SITES, STRATEGY, make_cohort, make_table, rows_of
from boldstream.adjust import AdjustConfig, adjust_table
from boldstream.artifacts.embeddings import open_table
from boldstream.errors import ArtifactError, ConfigError, EmbeddingsError, OutputExistsError
from boldstream.registry import register_model
from boldstream.storage import Warehouse
from boldstream.tables.commands import run_tables
from boldstream.tables.find import find_embeddings
from boldstream.tables.quality.config import QualityConfig
from boldstream.tables.quality.encoder import input_sensitivity
from boldstream.tables.quality.lines import lines
from boldstream.tables.quality.measure import Quality, measure_quality
from boldstream.tables.quality.page import write_page
from boldstream.tables.quality.sample import Sample, draw_sample
from boldstream.tables.quality.views import find_views
from boldstream.tables.quality.wording import findings, headline, scope
from boldstream.tracking import job_run

# mlflow's and pyiceberg's own use of sqlalchemy
pytestmark = [
    pytest.mark.usefixtures("tracking"),
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
]
N, D = 60, 12


@pytest.fixture
def warehouse(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = Warehouse.at(str(tmp_path / "w"))
    yield found
    found.catalog.close()


def in_parts(people=range(N), noise=0.2, change=None, seed=0):
    """Rows of scans in halves: the subject's own vector, and noise."""
    rng, rows = np.random.default_rng(seed), []
    for i, row in zip(people, rows_of(people), strict=True):
        own = np.random.default_rng([7, i]).normal(size=D)
        for part in range(2):
            vector = (own + noise * rng.normal(size=D)).astype(np.float32)
            vector = change(i, part, vector) if change else vector
            changed = {"part": part, "row_key": f"{row['scan_key']}_part-{part + 1}", "embedding": vector}
            rows.append(row | changed | {"vector_sha256": str(vector.tobytes().hex()[:64])})
    return rows


def table_of(warehouse, rows, **values):
    cohort, _ = make_cohort(warehouse, range(N))
    return make_table(warehouse, rows, cohort, **values)


def measured(warehouse, table="toy", **values):
    return measure_quality(QualityConfig(table=table, warehouse=warehouse.uri, **values))


def texts(quality):
    return [f"{'!' if one.alarming else ''}{one.text}" for one in findings(quality)]


def test_quality__of_a_good_table(warehouse):
    table_of(warehouse, in_parts())
    found = measured(warehouse)
    values = found.values
    assert values["identification_parts"] == values["identification_within_site_parts"] == 1
    assert values["identification_chance_parts"] == pytest.approx(1 / N)
    assert values["identification_within_site_chance_parts"] == pytest.approx(len(SITES) / N)
    # own variance 1, noise 0.04: the ICC is 1 / 1.04
    assert values["icc_consistency_median_parts"] == pytest.approx(1 / 1.04, abs=0.05)
    assert 0.7 * D < values["lidar_parts"] <= D
    assert 0.8 * D < values["rankme_centred"] <= D
    assert (values["dead_dimensions"], values["n_broken"], values["n_rows_measured"]) == (0, 0, 2 * N)
    assert abs(values["mean_cosine"]) < 0.05
    assert values["site_balanced_accuracy"] < 0.6
    assert not [one for one in findings(found) if one.alarming]
    assert headline(found, []) == "toy@1: nothing is alarming, and nothing stands out."
    assert scope(found) == f"All {2 * N} rows of {N} subjects are measured, {D} dimensions."
    assert "input sensitivity" in found.missing
    assert re.match("this is the first version that there is; --against names", found.missing["debiased CKA"])
    assert re.match("hardly a subject has two scans: 0 subjects are seen twice", found.missing["scans"])


def test_quality__of_a_collapsed_table(warehouse):
    direction = np.arange(1, D + 1, dtype=np.float32)
    table_of(warehouse, in_parts(change=lambda i, part, vector: direction * (1 + 1e-3 * vector[0])))
    found = measured(warehouse)
    told = texts(found)
    assert any(
        re.match(r"!around their mean the vectors use 1\.0 effective directions \(alarming below 2\)", t) for t in told
    )
    assert any(re.match(r"!the mean cosine of two rows is 1\.00000 \(alarming above 0\.9999\)", t) for t in told)
    assert any(re.match(r"!from one part of a scan to another, .* no more than chance allows", t) for t in told)
    assert re.match(r"toy@1: \d things are alarming", headline(found, findings(found)))


def test_quality__of_equal_rows(warehouse, tmp_path):
    table_of(warehouse, in_parts(change=lambda i, part, vector: np.ones(D, dtype=np.float32)))
    found = measured(warehouse)
    assert "!all rows are equal: the vectors say nothing of any scan" in texts(found)
    assert found.values["dead_dimensions"] == D
    assert "identification, 2 parts of one scan" in found.missing
    assert found.missing["site and motion"] == "all rows are equal"
    write_page(found, tmp_path)
    assert "all rows are equal" in (tmp_path / "index.html").read_text()


def test_quality__of_people_who_are_not_in_the_vectors(warehouse):
    table_of(warehouse, in_parts(noise=300.0))
    told = texts(measured(warehouse))
    assert any(
        re.match(rf"!from one part .* of {N} subjects are found again, no more than chance allows \(p = ", t)
        for t in told
    )
    assert any(
        re.match(r"from one part .* half of the dimensions have an ICC\(3,1\) below .* \(worth a look below 0.4\)", t)
        for t in told
    )


def test_quality__of_few_people_who_are_not_found_again_is_no_alarm(warehouse):
    table_of(warehouse, in_parts(range(8), noise=300.0))
    found = measured(warehouse)
    told = [one for one in findings(found) if "found again" in one.text]
    assert [one.alarming for one in told] == [False]
    assert told[0].text.endswith("above 0.01, but 8 are few: alarming from 20 on)")
    assert {line.measure: line.reads for line in lines(found)}["effective rank (RankMe)"].startswith("between 1 and 12")


def test_quality__names_dead_dimensions_and_a_common_offset(warehouse):
    def change(i, part, vector):
        vector = vector + 20
        vector[:2] = 20
        return vector

    table_of(warehouse, in_parts(change=change))
    told = texts(measured(warehouse))
    assert "2 of 12 dimensions are dead: they vary by less than a millionth of the liveliest one" in told
    assert any(t.startswith("the mean cosine of two rows is 0.99") for t in told)


def test_quality__leaves_broken_vectors_out_and_says_so(warehouse):
    def change(i, part, vector):
        return {3: vector * np.nan, 4: vector * 0}.get(i, vector).astype(np.float32)

    table_of(warehouse, in_parts(change=change))
    found = measured(warehouse)
    assert f"!4 of {2 * N} vectors are not finite or all zero; none should be. Embed these scans again" in texts(found)
    assert found.values["n_subjects_parts"] == N - 2
    assert scope(found).endswith("; 4 broken ones are left out.")


def test_quality__of_sites_and_motion_in_the_vectors(warehouse):
    table_of(warehouse, rows_of(range(N)))
    found = measured(warehouse)
    assert found.values["site_balanced_accuracy"] > 0.9
    assert found.values["site_chance"] == pytest.approx(1 / 3)
    told = texts(found)
    assert any(re.match(r"sites are told from the vectors with a balanced accuracy of (0.9|1.0)", t) for t in told)
    assert any(
        re.match(r"the vectors tell \d+% of the variance of motion \(mean_fd; worth a look above 5%\)", t) for t in told
    )
    assert re.match("its scans are not cut into parts .*0 subjects are seen twice", found.missing["parts"])


def test_quality__sees_subjects_with_two_scans_again(warehouse):
    table_of(warehouse, rows_of(range(20), runs=2))
    found = measured(warehouse)
    assert found.values["n_subjects_scans"] == 20
    assert found.values["identification_scans"] == 1
    assert found.values["icc_consistency_median_scans"] > 0.9
    # the second run is the first, shifted: consistent, and a little less in agreement
    assert found.values["icc_agreement_median_scans"] < found.values["icc_consistency_median_scans"]


def test_quality__without_sites_and_motion_says_so(warehouse):
    rows = [row | {"site": None, "mean_fd": None} for row in in_parts(range(8))]
    table_of(warehouse, rows)
    found = measured(warehouse)
    assert found.missing["site"] == "cannot be looked for: fewer than two sites have five subjects"
    assert found.missing["motion"].startswith("cannot be looked for: fewer than ten subjects")
    assert found.missing["identification within sites, 2 parts of one scan"] == "the table has no sites"


def test_quality__compares_with_the_version_before(warehouse):
    table_of(warehouse, in_parts(range(50)))
    table_of(warehouse, in_parts())
    grown = measured(warehouse)
    assert grown.against.label == "toy@1"
    assert grown.values["debiased_cka"] == pytest.approx(1)
    assert grown.values["n_rows_compared"] == 100


def test_quality__says_when_the_same_model_gives_other_vectors(warehouse):
    table_of(warehouse, in_parts())
    table_of(
        warehouse,
        in_parts(change=lambda i, part, v: np.random.default_rng([i, part]).normal(size=D).astype("f4")),
        name="other",
    )
    table_of(
        warehouse,
        in_parts(change=lambda i, part, v: np.random.default_rng([i, part]).normal(size=D).astype("f4")),
        name="foreign",
        model="m1",
    )
    found = measured(warehouse, "other", against="toy")
    assert abs(found.values["debiased_cka"]) < 0.2
    assert any(
        re.match(r"the same scans lie otherwise than in toy@1 \(debiased CKA .* same model made both", t)
        for t in texts(found)
    )
    assert not any("the same scans lie otherwise" in t for t in texts(measured(warehouse, "foreign", against="toy")))
    table_of(warehouse, rows_of(range(N)), name="whole")
    apart = measured(warehouse, "whole", against="toy")
    assert apart.missing["debiased CKA"] == "0 of the rows measured are in toy@1 too, under the same key"


def test_quality__of_an_adjusted_table_looks_at_its_source(warehouse, tmp_path):
    table_of(warehouse, rows_of(range(N)))
    strategy = tmp_path / "toy_adjusted_v1.yaml"
    strategy.write_text(STRATEGY)
    known = {"table": "toy", "strategy": str(strategy), "warehouse": warehouse.uri}
    adjust_table(AdjustConfig(output="adjusted", **known))
    found = measured(warehouse, "adjusted", against="toy")
    values = found.values
    assert found.source.label == "toy@1"
    assert values["site_balanced_accuracy_before"] > 0.9 > values["site_balanced_accuracy"]
    assert values["mean_fd_r2_before"] > 0.2 > values["mean_fd_r2"]
    nuisance = open_table("adjusted", warehouse.uri).manifest.content["nuisance"]
    assert values["site_balanced_accuracy_new_after"] == nuisance["site_balanced_accuracy_after"]
    assert values["mean_fd_r2_new_before"] == nuisance["mean_fd_r2_before"]
    assert not any("lie otherwise" in t for t in texts(found))
    adjust_table(AdjustConfig(output="unmeasured", measured_rows=0, **known))
    assert measured(warehouse, "unmeasured").missing["site and motion in scans that the adjustment has not learnt from"]


@pytest.mark.parametrize(("after", "alarms"), [(0.62, 1), (0.55, 0)])
def test_findings__of_an_adjustment_that_adds_sites(after, alarms):
    rows = pd.DataFrame({"row_key": ["a", "b"]})
    sample = Sample(None, rows, np.eye(2), 2, 2, 2, 0)
    values = {"n_dims": 2.0, "dead_dimensions": 0.0, "rankme_centred": 2.0, "debiased_cka": 1.0}
    values |= {"site_balanced_accuracy_new_before": 0.5, "site_balanced_accuracy_new_after": after}
    told = findings(Quality(QualityConfig(table="t"), sample, values))
    assert len(told) == alarms
    if alarms:
        assert told[0].text.endswith("0.50 before, 0.62 after (alarming at 0.1 more)")


def test_sample__is_of_whole_subjects_and_the_same_every_time(warehouse):
    table_of(warehouse, in_parts())
    version = find_embeddings("toy", warehouse.uri)
    first, again, other = (draw_sample(version, 31, seed) for seed in (0, 0, 1))
    assert first.rows.equals(again.rows)
    assert first.rows["row_key"].tolist() != other.rows["row_key"].tolist()
    assert first.rows.groupby("subject").size().eq(2).all()
    assert (len(first.rows), first.n_rows, first.n_subjects, first.is_whole) == (30, 2 * N, N, False)
    stored = open_table("toy", warehouse.uri)
    place = stored.rows()["row_key"].tolist()
    wanted = stored.vectors()[[place.index(key) for key in first.rows["row_key"]]]
    np.testing.assert_array_equal(first.vectors, wanted.astype(np.float64))
    found = measured(warehouse, max_rows=31, seed=1)
    assert scope(found).startswith(
        f"30 of {2 * N} rows are measured: those of subjects drawn at random, of {N} (seed 1"
    )


def test_sample__of_too_few_rows(warehouse):
    table_of(warehouse, rows_of(range(3)))
    with pytest.raises(EmbeddingsError, match=r"table toy@1: 3 rows; at least 4 are needed to measure anything"):
        measured(warehouse)
    table_of(warehouse, in_parts(range(4), change=lambda i, part, v: v * (np.nan if i < 3 else 1)), name="bad")
    with pytest.raises(EmbeddingsError, match=r"bad@1: 8 rows, of which 6 are not finite or all zero; at least 4"):
        measured(warehouse, "bad")
    with pytest.raises(EmbeddingsError, match=r"bad@1: 2 of 8 rows drawn.*; at least 4"):
        measured(warehouse, "bad", max_rows=3)


def test_sample__of_vectors_of_several_widths(warehouse):
    table_of(warehouse, in_parts(change=lambda i, part, v: v[: D - (i == 2)]))
    with pytest.raises(EmbeddingsError, match=r"toy@1 has vectors of \[11, 12\] dimensions; it is not whole"):
        measured(warehouse)


def test_views__take_one_scan_a_subject_and_only_whole_ones(warehouse):
    rows = in_parts(range(5))
    again = [
        row
        | {name: row[name].replace("run-0", "run-1") for name in ("scan_key", "row_key")}
        | {"embedding": row["embedding"] + 1, "vector_sha256": f"{i:064d}"}
        for i, row in enumerate(rows[:4])
    ]
    table_of(warehouse, [*rows[1:], *again])  # of the first subject's first scan a half is missing
    views, missing = find_views(draw_sample(find_embeddings("toy", warehouse.uri), 100, 0))
    (parts,) = views
    assert parts.vectors.shape == (2, 5, D)
    assert parts.name == "parts"
    np.testing.assert_array_equal(parts.vectors[:, 0], [row["embedding"] for row in again[:2]])
    np.testing.assert_array_equal(parts.vectors[:, 1], [row["embedding"] for row in rows[2:4]])
    assert "2 subjects are seen twice, at least 3 are needed" in missing["scans"]
    flat, of = parts.flat()
    np.testing.assert_array_equal(flat[of == 4], parts.vectors[:, 4])


def register(tmp_path, tags=(), metrics=()):
    """A model version as the pretrain room registers it."""
    folder = tmp_path / "model"
    folder.mkdir(exist_ok=True)
    (folder / "README.md").write_text(str(metrics))
    with job_run("pretrain", "toy-model", QualityConfig(table="t")) as run:
        run.log_metrics(dict(metrics))
        return register_model(folder, name="toy-model", run_identity="0", run=run, tags=dict(tags), params={})


@pytest.mark.parametrize(
    ("tags", "metrics", "told"),
    [
        ({"trained_steps": "9"}, {"collapse/sensitivity_phase": 0.2, "collapse/sensitivity_zero": 0.5}, ""),
        ({"origin": "imported"}, {}, r"not known: models:/toy-model/\d+ was trained elsewhere"),
        ({"trained_steps": "0"}, {}, r"not known: models:/toy-model/\d+ was not trained"),
        ({"trained_steps": "9"}, {}, r"not known: the run that trained models:/toy-model/\d+ has logged none"),
    ],
)
def test_sensitivity__is_read_from_the_run_that_trained(warehouse, tmp_path, tags, metrics, told):
    ref = register(tmp_path, tags, metrics)
    table_of(warehouse, in_parts(range(8)))
    version = find_embeddings("toy", warehouse.uri)
    content = version.manifest.content | {"model": ref.pointer, "model_digest": ref.digest}
    version = dataclasses.replace(version, manifest=version.manifest.model_copy(update={"content": content}))
    values, why, alarm = input_sensitivity(version)
    assert {f"collapse/{name}": value for name, value in values.items()} == metrics
    assert re.match(told, why)
    assert alarm == ""


def test_sensitivity__of_another_or_no_model_is_not_known(warehouse, tmp_path):
    ref = register(tmp_path, {"collapse": "rankme_centred 1.0 is below 2"}, {"collapse/sensitivity_zero": 1e-5})
    table_of(warehouse, in_parts(range(8)))
    version = find_embeddings("toy", warehouse.uri)
    for model, digest, told in (
        (ref.pointer, "other", "not known: model: .* has sha256 .* in the registry at .*, not other"),
        ("models:/nowhere/1", "0", "not known: model: .* is not in the registry"),
        ("models:/toy-model@champion", "0", "not known: the table names no model version"),
    ):
        content = version.manifest.content | {"model": model, "model_digest": digest}
        changed = dataclasses.replace(version, manifest=version.manifest.model_copy(update={"content": content}))
        assert re.match(told, input_sensitivity(changed)[1])


def test_findings__pass_on_what_pretraining_said(warehouse):
    table_of(warehouse, in_parts())
    found = measured(warehouse)
    found.alarm, found.values["sensitivity_zero"] = "rankme_centred 1.0 is below 2", 1e-5
    told = texts(found)
    assert "!pretraining of the encoder ended with a collapse alarm: rankme_centred 1.0 is below 2" in told
    assert (
        "!the encoder hardly tells scans from an empty scan: 1e-05 of a vector's length (alarming below 0.001)" in told
    )


def test_command__writes_a_page_and_logs_it(warehouse, tmp_path):
    table_of(warehouse, in_parts())
    words = ["quality", "toy", "--warehouse", warehouse.uri, "--output", "page"]
    said = run_tables(words)
    assert said.startswith("toy@1: nothing is alarming")
    assert f"page: {tmp_path / 'page' / 'index.html'}" in said
    page = (tmp_path / "page" / "index.html").read_text()
    assert not re.search(r"""(src|href)=["']https?:|url\(|@import""", page)
    numbers = json.loads((tmp_path / "page" / "quality.json").read_text())
    for line in lines(measured(warehouse)):
        assert f'<td class="number">{line.value}</td>' in page
    assert numbers["headline"] in page
    run = mlflow.search_runs(search_all_experiments=True, output_format="list", max_results=1)[0]
    assert run.info.run_name == "quality toy@1"
    assert run.data.tags["parent.table"] == numbers["table"]["pointer"]
    logged = {name.removeprefix("quality/"): value for name, value in run.data.metrics.items()}
    assert logged.items() >= {name: pytest.approx(v) for name, v in numbers["values"].items()}.items()
    files = mlflow.MlflowClient().list_artifacts(run.info.run_id, "quality")
    assert [file.path for file in files] == [
        f"quality/{name}" for name in ("index.html", "quality.json", "quality.png")
    ]
    assert run_tables(words) == said  # an earlier page is replaced


def test_command__refuses_what_it_cannot_use(warehouse, tmp_path):
    table_of(warehouse, in_parts())
    room = ["--warehouse", warehouse.uri]
    with pytest.raises(
        ArtifactError,
        match=r"no table 'tyo' in warehouse .* \(there: embeddings/toy, cohorts/toy\); did you mean 'toy'\?",
    ):
        run_tables(["quality", "tyo", *room])
    with pytest.raises(ArtifactError, match=r"no table 'tyo' in warehouse"):
        run_tables(["quality", "toy", "--against", "tyo", *room])
    with pytest.raises(EmbeddingsError, match=r"'toy' is a cohort; this works on embedding tables"):
        run_tables(["quality", "cohorts/toy", *room])
    with pytest.raises(ConfigError, match=r"command line: max_rows: .* got 0"):
        run_tables(["quality", "toy", "--max-rows", "0", *room])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(OutputExistsError, match=r"--output: .*mine exists and is no page of a table's quality"):
        run_tables(["quality", "toy", "--output", "mine", *room])

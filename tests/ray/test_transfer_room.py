"""Zero-shot transfer through the probe room's door: the same table's other site, and another cohort's table."""

from types import SimpleNamespace

import mlflow
import pytest

from boldstream.artifacts.embeddings import open_table
from boldstream.artifacts.results import open_results
from boldstream.errors import ConfigError, OutputExistsError, ResultsError
from boldstream.ingest import IngestConfig, ingest_cohort
from boldstream.probe import ProbeConfig, probe_table
from probeable import plant_table

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("cluster")]

N_ROIS = 8


@pytest.fixture(scope="module")
def people(cluster, tmp_path_factory):
    """Three made-up studies with the same names of subjects, age planted in the vectors of all."""
    warehouse = str(tmp_path_factory.mktemp("transfer") / "w")
    for seed, (name, n_subjects, n_sites) in enumerate((("home", 60, 3), ("abroad", 24, 1), ("third", 24, 2))):
        synthetic = {
            "seed": seed,
            "n_subjects": n_subjects,
            "n_sessions": 1,
            "n_sites": n_sites,
            "n_rois": N_ROIS,
            "n_timepoints": 40,
        }
        known = {"output": name, "source": {"kind": "synthetic"}, "atlas": "toy", "t_r": 2.0, "warehouse": warehouse}
        cohort = ingest_cohort(IngestConfig.model_validate(known | {"synthetic": synthetic, "shard_size": 32}))
        plant_table(cohort, warehouse, f"{name}-planted", 1.5)
        plant_table(cohort, warehouse, f"{name}-other", 1.5, model="m1")
    return SimpleNamespace(warehouse=warehouse)


@pytest.fixture
def config(people):
    def make(**values):
        known = {
            "output": "transferred",
            "tables": {"planted": "home-planted"},
            "targets": ["age", "sex"],
            "baselines": ["mean", "fc", "fc_reduced", "moments"],
            "folds": {"n_folds": 3, "n_inner": 3, "n_repeats": 1},
            "bootstrap": 100,
            "warehouse": people.warehouse,
        }
        return ProbeConfig.from_mapping(known | values, where="run.yaml")

    return make


def test_transfer__to_a_site_that_was_not_seen(config, people):
    sites = sorted(open_table("home-planted", people.warehouse).rows()["site"].unique())
    made = config(transfer={"target": [{"column": "site", "values": [sites[-1]]}]})
    ref = probe_table(made)
    found = open_results(ref.pointer, "")
    assert found.manifest.kind == "transfer"
    scores = found.scores()
    r2 = scores[(scores["target"] == "age") & (scores["metric"] == "r2")].set_index("representation")
    assert set(r2.index) == {"planted", "mean", "fc", "fc_reduced", "moments"}
    assert r2.loc["planted", "value"] > 0.3
    assert r2.loc["mean", "value"] < 0.05
    contests = found.contests().set_index(["target", "first", "second"])
    assert contests.loc[("age", "planted", "mean"), "verdict"] == "better"
    assert ("age", "fc", "fc, learnt there") in contests.index
    content = found.manifest.content
    assert content["headline"].startswith("Learnt from ")
    assert content["transfer"]["target_is"] == [f"site {sites[-1]}"]
    assert content["transfer"]["shift"]["planted"]["told_apart"] < 0.9
    assert any(one["name"] == "site" and one["outside"] == 1 for one in content["transfer"]["overlap"])
    seen = set(found.predictions()["scan_key"])
    assert len(seen) == content["targets"]["age"]["n_scans"]
    run = mlflow.search_runs(filter_string="tags.`mlflow.runName` = 'probe transferred'", output_format="list")[0]
    files = {file.path for file in mlflow.MlflowClient().list_artifacts(run.info.run_id, "comparison")}
    assert {"comparison/transfer.png", "comparison/forest.png", "comparison/comparison.html"} <= files
    assert probe_table(made) == ref  # made already


def test_transfer__to_another_cohort(config):
    asked = {"tables": {"planted": "abroad-planted"}}
    with pytest.raises(ResultsError, match=r"target 'age': 24 subject name\(s\) are in both cohorts"):
        probe_table(config(output="abroad", transfer=asked, baselines=["mean"]))
    ref = probe_table(config(output="abroad", transfer=asked | {"other_people": True}))
    found = open_results(ref.pointer, "")
    scores = found.scores()
    assert scores.query("target == 'age' and metric == 'r2' and representation == 'planted'")["value"].item() > 0.3
    assert [parent.role for parent in found.manifest.parents] == ["table", "table", "cohort", "cohort"]
    assert found.manifest.content["transfer"]["unseen_cohort"] != found.manifest.content["cohort"]
    with pytest.raises(ConfigError, match=r"transfer.tables.planted: abroad-other@1 has vectors of model"):
        probe_table(config(output="x", transfer={"tables": {"planted": "abroad-other"}}))
    with pytest.raises(ConfigError, match=r"transfer: the tables have no column 'agee' \(did you mean 'age'"):
        probe_table(config(output="x", transfer={"target": [{"column": "agee", "low": 1}]}))


def test_transfer__from_two_cohorts_to_a_third(config):
    asked = {"sources": [{"planted": "third-planted"}], "tables": {"planted": "abroad-planted"}}
    with pytest.raises(ResultsError, match=r"24 subject name\(s\) are in cohorts home@1 and third@1"):
        probe_table(config(output="both", transfer=asked))
    fewer = {"output": "both", "targets": ["age"], "baselines": ["mean", "fc", "moments"]}
    made = config(transfer=asked | {"other_people": True}, **fewer)
    found = open_results(probe_table(made).pointer, "")
    roles = [(parent.role, parent.uri.rpartition("/")[2]) for parent in found.manifest.parents]
    names = ("home", "third", "abroad")
    assert roles == [*(("table", f"{name}-planted") for name in names), *(("cohort", name) for name in names)]
    content = found.manifest.content
    assert content["headline"].startswith("Learnt from 84 subjects of 2 cohorts and applied unchanged to 24 others")
    pointers = [one["tables"]["planted"]["pointer"] for one in content["transfer"]["sources"]]
    assert [one.rpartition("/")[2] for one in pointers] == ["home-planted@1", "third-planted@1"]
    assert content["transfer"]["source"]["age"]["n_sites"] == 5
    assert content["transfer"]["source"]["age"]["n_subjects"] == 84
    scores = found.scores().query("target == 'age' and metric == 'r2'").set_index("representation")["value"]
    assert scores["planted"] > 0.3
    assert set(scores.index) == {"planted", "mean", "fc", "moments"}
    run = mlflow.search_runs(filter_string="tags.`mlflow.runName` = 'probe both'", output_format="list")[0]
    inputs = " ".join(str(one.dataset.name) for one in run.inputs.dataset_inputs)
    assert all(name in inputs for name in names)
    assert probe_table(made).digest == found.ref.digest
    other = config(transfer={"tables": asked["tables"], "other_people": True}, **fewer)
    with pytest.raises(OutputExistsError, match=r"config.transfer.sources: \[\{'planted': .* -> None"):
        probe_table(other)

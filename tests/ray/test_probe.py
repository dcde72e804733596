import contextlib
import logging
import re
import signal
import threading
import time
from types import SimpleNamespace

import mlflow
import numpy as np
import psutil
import pytest

from boldstream.artifacts.results import open_results
from boldstream.errors import OutputExistsError, ResultsError
from boldstream.ingest import IngestConfig, ingest_cohort
from boldstream.probe import ProbeConfig, probe_table
from boldstream.storage import local_path
from probeable import N_DIMS, plant_table

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("cluster")]

N_SUBJECTS, N_ROIS = 36, 6
BASELINES = ("mean", "confounds", "fc", "fc_kernel", "fc_reduced", "tangent", "moments")


@pytest.fixture(scope="module")
def people(cluster, tmp_path_factory):
    """People scanned twice, and two tables of them in halves: age is planted in one and not in the other."""
    warehouse = str(tmp_path_factory.mktemp("probe") / "w")
    synthetic = {"n_subjects": N_SUBJECTS, "n_sessions": 2, "n_sites": 2, "n_rois": N_ROIS, "n_timepoints": 40}
    known = {"output": "people", "source": {"kind": "synthetic"}, "atlas": "toy", "t_r": 2.0, "warehouse": warehouse}
    cohort = ingest_cohort(IngestConfig.model_validate(known | {"synthetic": synthetic, "shard_size": 16}))
    plant_table(cohort, warehouse, "planted", 1.5)
    plant_table(cohort, warehouse, "noise", 0.0)
    return SimpleNamespace(warehouse=warehouse, cohort=cohort)


def known_values(people):
    return {
        "output": "probes",
        "tables": {"planted": "planted", "noise": "noise"},
        "targets": ["age", "sex"],
        "folds": {"n_folds": 3, "n_inner": 3, "n_repeats": 2},
        "bootstrap": 100,
        "permutations": 19,
        "warehouse": people.warehouse,
    }


@pytest.fixture
def config(people):
    return lambda **values: ProbeConfig.model_validate(known_values(people) | values)


def children_of(name):
    """The runs nested in the newest run of a name, by their names."""
    newest = mlflow.search_runs(filter_string=f"tags.`mlflow.runName` = '{name}'", output_format="list")[0]
    found = mlflow.search_runs(
        filter_string=f"tags.`mlflow.parentRunId` = '{newest.info.run_id}'", output_format="list"
    )
    return newest, {run.info.run_name: run for run in found}


@pytest.fixture(scope="module")
def probed(people):
    """Results of both tables and all baselines, two trials at a time."""
    config = ProbeConfig.model_validate(known_values(people) | {"tune": {"max_concurrent": 2}})
    return SimpleNamespace(config=config, ref=probe_table(config))


def test_probe__finds_what_is_planted_beside_all_baselines(config, people, probed):
    found = open_results(probed.ref.pointer, "")
    scores = found.scores().set_index(["target", "representation", "metric"])
    assert set(scores.index.get_level_values("representation")) == {"planted", "noise", *BASELINES}
    age = scores.xs("r2", level="metric").loc["age"]
    assert age.loc["planted", "low"] > 0.3
    assert age.loc["noise", "high"] < 0.3
    assert age.loc["planted", "p"] == pytest.approx(1 / 20)
    assert age.loc["planted", "p_adjusted"] == pytest.approx(1 / 20)
    assert np.isnan(age.loc["confounds", "p"])
    assert (age["n_scans"] == 2 * N_SUBJECTS).all()
    assert age["n_dims"].to_dict() == {
        "planted": N_DIMS,
        "noise": N_DIMS,
        "mean": 1,
        "confounds": 3,
        "fc": N_ROIS * (N_ROIS - 1) // 2,
        "fc_kernel": N_ROIS * (N_ROIS - 1) // 2,
        "fc_reduced": N_DIMS,
        "tangent": N_ROIS * (N_ROIS + 1) // 2,
        "moments": 2 * N_ROIS,
    }
    assert age.loc["mean", "value"] == 0

    contests = found.contests().set_index(["target", "first", "second"])["verdict"]
    assert contests["age", "planted", "noise"] == "better"
    assert contests["age", "planted", "mean"] == "better"
    assert len(contests) == 2 * (1 + 2 * len(BASELINES))

    # out of fold: whoever predicts a scan was not fitted on any scan of its subject
    predictions = found.predictions()
    one = predictions[(predictions["target"] == "age") & (predictions["representation"] == "planted")]
    assert len(one) == 2 * N_SUBJECTS * 2
    assert (one.groupby(["repeat", "subject"])["fold"].nunique() == 1).all()

    content = found.manifest.content
    assert content["headline"].endswith(f"{N_SUBJECTS} subjects are too few for a claim.")
    assert content["targets"]["sex"]["classes"] == ["F", "M"]
    assert "planted: the 2 parts of every scan are averaged." in content["sentences"]
    assert [parent.role for parent in found.manifest.parents] == ["table", "table", "cohort"]

    run, children = children_of("probe probes")
    assert len(children) == 2 * (2 + len(BASELINES))
    child = children["age from planted by ridge"]
    assert child.data.metrics["r2"] == pytest.approx(age.loc["planted", "value"])
    assert child.data.params["front"] == "standardised"
    assert run.data.metrics["r2/age/planted/ridge"] == pytest.approx(age.loc["planted", "value"])
    artifacts = {file.path for file in mlflow.MlflowClient().list_artifacts(run.info.run_id, "comparison")}
    assert artifacts == {f"comparison/{n}" for n in ("comparison.html", "comparison.csv", "contests.csv", "forest.png")}

    # the same command again gives the version that is there
    assert probe_table(probed.config) == probed.ref
    assert not (local_path(probed.ref.uri) / "trials").exists()
    with pytest.raises(OutputExistsError, match=r"results 'probes' exists .*config.permutations: 19 -> 9"):
        probe_table(config(permutations=9))


@pytest.fixture(scope="module")
def whole(people):
    """Results of 8 trials, two at a time, that nothing has stopped."""
    values = {"output": "whole", "tune": {"max_concurrent": 2}, "baselines": ["mean", "confounds"]}
    return open_results(probe_table(ProbeConfig.model_validate(known_values(people) | values)).pointer, "")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_probe__that_is_stopped_goes_on_with_the_trials_that_are_left(config, job, caplog, whole, how):
    name = f"stopped-{how.name}"
    made = config(output=name, tune={"max_concurrent": 1}, baselines=["mean", "confounds"])
    trials = local_path(f"{made.warehouse}/results/{name}/trials")
    process = job("probe", made)
    deadline = time.monotonic() + 120
    while len(list(trials.glob("*.npz"))) < 2:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(how)
    _, err = process.communicate(timeout=60)
    if how == signal.SIGINT:
        assert process.returncode == 130, err
        assert "interrupted; the same command again goes on from what is there" in err
    done = len(list(trials.glob("*.npz")))
    assert 2 <= done < 8
    with caplog.at_level(logging.INFO, "boldstream"):
        found = open_results(probe_table(made).pointer, "")
    left = int(re.search(r"probe: (\d+) of 8 trials to run", caplog.text)[1])
    # one that ran when its job was killed may have ended all the same
    assert left in (8 - done, 7 - done)
    told = rf"probe: {left} trials computed for [\d.]+ s within [\d.]+ s, 1 at a time: [\d.]+ s a trial for Tune"
    assert re.search(told, caplog.text)
    assert re.search(rf"probe: {left} trials in [\d.]+ s \([\d.]+/s\), 0 failed, [\d.]+ s a trial", caplog.text)
    # one at a time and in two goes, they are what two at a time have given
    assert found.ref.digest == whole.ref.digest
    assert not trials.exists()
    assert len(children_of(f"probe {name}")[1]) == 8


def test_trial__whose_worker_is_killed_is_run_again_and_told_as_failed(config, caplog, whole):
    made = config(output="bereft", tune={"max_concurrent": 1}, baselines=["mean", "confounds"])
    trials = local_path(f"{made.warehouse}/results/bereft/trials")
    killed = []

    def kill():
        deadline = time.monotonic() + 120
        while not killed and time.monotonic() < deadline:
            time.sleep(0.02)
            if len(list(trials.glob("*.npz"))) < 2:
                continue
            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                    if not killed and re.match(r"ray::\w+\.train", " ".join(process.cmdline())):
                        process.kill()
                        killed.append(process.pid)

    killer = threading.Thread(target=kill)
    killer.start()
    with caplog.at_level(logging.INFO, "boldstream"):
        found = open_results(probe_table(made).pointer, "")
    killer.join(1)
    assert killed
    assert re.search(r"probe: 8 trials in [\d.]+ s \([\d.]+/s\), 1 failed, [\d.]+ s a trial", caplog.text)
    assert found.ref.digest == whole.ref.digest


def test_attention__is_probed_beside_the_mean(config):
    made = config(output="pooled", attention=True, tables={"planted": "planted"}, targets=["age"], baselines=["mean"])
    found = open_results(probe_table(made).pointer, "")
    r2 = found.scores()[found.scores()["primary"]].set_index("representation")
    assert r2["head"].to_dict() == {"planted": "ridge", "planted_attention": "attention", "mean": "mean"}
    # all regions have the same signal, so there is nothing to gain
    assert r2.loc["planted_attention", "value"] > 0.3
    assert np.isnan(r2.loc["planted_attention", "p"])
    assert ("planted", "planted_attention") in set(
        found.contests()[["first", "second"]].itertuples(index=False, name=None)
    )


def test_trial__that_cannot_be_fitted_is_told_in_one_line(config, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    steps = [{"step": "harmonize", "keep": [], "min_per_site": 500}]
    recipe.write_text(f"id: recipe\nwindow: {{length: 32, stride: 14}}\nadjust: {steps}\n")
    bad = config(output="bad", adjust=str(recipe), baselines=[], tables={"planted": "planted"}, targets=["age"])
    with pytest.raises(ResultsError, match=r"age from planted by ridge: 2 of 2 sites have less than 500"):
        probe_table(bad)

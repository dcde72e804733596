"""What two jobs write to one MLflow store at the same moment."""

import json
import threading

import mlflow
import pytest
from mlflow.exceptions import MlflowException

from boldstream.config import Config
from boldstream.errors import ConfigError
from boldstream.refs import CohortRef, ModelRef
from boldstream.registry import set_alias
from boldstream.tracking import job_run, open_experiment, settled

ROUNDS = 20


class Nothing(Config):
    """A job without settings."""


def at_once(work):
    """Do the same twice at once, round by round; return what went wrong."""
    barrier, wrong = threading.Barrier(2), []

    def run():
        for number in range(ROUNDS):
            barrier.wait(60)
            try:
                work(number)
            except MlflowException as error:
                wrong.append(error)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    return wrong


@pytest.fixture
def client(tracking):
    return mlflow.MlflowClient()


def test_parents__of_two_runs_at_once_are_logged(client):
    runs = []

    def work(number):
        with job_run("embed", "table", Nothing()) as run:
            run.log_parent(CohortRef("file:///w/cohorts/study", str(number + 1), f"{number:064d}"), 10)
            runs.append(run.run_id)

    assert at_once(work) == []
    assert len(runs) == 2 * ROUNDS
    assert all(len(client.get_run(run_id).inputs.dataset_inputs) == 1 for run_id in runs)


def test_alias__set_by_two_at_once_is_set(client):
    client.create_registered_model("raced")
    client.create_model_version("raced", "s3://bucket/raced")
    ref = ModelRef("models:/raced", "1", "0" * 64)
    # MLflow's own fails here, in some rounds
    assert at_once(lambda number: set_alias(ref, f"alias{number}")) == []
    assert len(client.get_registered_model("raced").aliases) == ROUNDS


def test_experiment__opened_by_two_at_once_is_one(tracking, monkeypatch):
    found = []
    for number in range(3):
        monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", f"new{number}")
        threads = [threading.Thread(target=lambda: found.append(open_experiment())) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert len(found) == 6
    assert len(set(found)) == 3


def test_settled__raises_what_is_no_race(client):
    with pytest.raises(MlflowException, match="Registered Model with name=none not found"):
        settled(client.get_registered_model, "none")


def test_experiment__in_a_folder_that_goes_with_the_job_is_refused(tracking, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    job = {"runtime_env": {"working_dir": "gcs://_ray_pkg_1.zip"}}
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps(job))
    assert open_experiment()  # it is kept elsewhere
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    try:
        with pytest.raises(ConfigError, match="MLFLOW_TRACKING_URI is not set on the cluster, and this job's folder"):
            open_experiment()
        monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps({"runtime_env": None}))
        assert open_experiment()
    finally:
        mlflow.set_tracking_uri(tracking)

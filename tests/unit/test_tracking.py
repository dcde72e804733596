"""What two jobs write to one MLflow store at the same moment."""

import json
import re
import shutil
import threading

import mlflow
import pytest
from mlflow.exceptions import MlflowException

from boldstream.config import Config
from boldstream.errors import ConfigError
from boldstream.progress import Progress
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


def note_of(run_id):
    return mlflow.get_run(run_id).data.tags["mlflow.note.content"]


def test_page__says_what_ran_on_what_how_fast_and_how_it_ended(tracking):
    with job_run("embed", "table", Nothing()) as run:
        run.log_parent(CohortRef("file:///w/cohorts/study", "3", "ab" * 32), 10)
        progress = Progress(run, "embed", 10)
        progress.add(10, quarantined=2, failed=1)
        progress.close()
    first, reads, did, last = note_of(run.run_id).splitlines()
    assert first.startswith("- Ran `embed`, code ")
    assert reads == "- Reads cohort `file:///w/cohorts/study@3` (sha256 `abababababab`, 10 rows)"
    assert re.fullmatch(r"- Did 10 scans in \d+\.\d s \(\d+\.\d/s\), 2 quarantined, 1 failed", did)
    assert re.fullmatch(r"- After \d+\.\d s: Done", last)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ConfigError("no\nhost at s3://key:secret@host/b"), "**Failed**: ConfigError: no\\nhost at s3://host/b"),
        (ValueError("sub-01"), "**Failed**: see the job's log"),
        (KeyboardInterrupt(), "Interrupted"),
    ],
)
def test_page__says_what_failed(tracking, error, told):
    with pytest.raises(type(error)), job_run("embed", "table", Nothing()) as run:
        raise error
    last = note_of(run.run_id).splitlines()[-1]
    assert re.fullmatch(rf"- After \d+\.\d s: {re.escape(told)}", last)


class Cost:
    """A meter that always says the same."""

    def text(self):
        return "2.5 s each"

    def numbers(self):
        return {"seconds_each": 2.5}


def test_progress__of_what_knows_no_quarantine_tells_failures(tracking, caplog):
    with job_run("probe", "p", Nothing()) as run, caplog.at_level("INFO", "boldstream"):
        progress = Progress(run, "probe", 3, "trials", Cost(), quarantines=False)
        progress.add(3)
        progress.close()
        progress.add(0, failed=1)
        progress.close()
    said = [line for line in caplog.messages if line.startswith("probe: 3")]
    assert [line.partition("), ")[2] for line in said] == ["0 failed, 2.5 s each", "1 failed, 2.5 s each"]
    metrics = mlflow.get_run(run.run_id).data.metrics
    told = {name.removeprefix("progress/") for name in metrics if name.startswith("progress/")}
    assert told == {"trials", "failed", "trials_per_s", "seconds_left", "seconds_each"}


def test_page__is_not_flooded(tracking):
    with job_run("embed", "table", Nothing()) as run:
        run.tell("x" * 10_000)
    assert len(note_of(run.run_id)) < 700


def test_child__is_a_nested_run_with_numbers_of_its_own(client):
    with job_run("probe", "results", Nothing()) as run:
        run.log_child("age from trained by ridge", {"head": "ridge"}, {"r2": 0.5}, seconds=2.0)
    (child,) = mlflow.search_runs(filter_string=f"tags.`mlflow.parentRunId` = '{run.run_id}'", output_format="list")
    assert (child.info.run_name, child.info.status) == ("age from trained by ridge", "FINISHED")
    assert (child.data.params, child.data.metrics) == ({"head": "ridge"}, {"r2": 0.5})
    assert child.info.end_time - child.info.start_time >= 2000
    assert "r2" not in client.get_run(run.run_id).data.metrics


@pytest.mark.parametrize(
    ("error", "status"), [(ConfigError("the error itself"), "FAILED"), (KeyboardInterrupt(), "KILLED")]
)
def test_run__that_ends_badly_beside_a_broken_store_ends_with_its_own_error(tracking, tmp_path, caplog, error, status):
    store = tmp_path / "mlflow.db"
    open_experiment()
    shutil.copy(tracking.removeprefix("sqlite:///"), store)
    mlflow.set_tracking_uri(f"sqlite:///{store}")
    try:
        with pytest.raises(type(error)) as found, job_run("embed", "table", Nothing()) as run:
            store.write_bytes(b"no database any more" * 1000)
            raise error
    finally:
        mlflow.set_tracking_uri(tracking)
    assert found.value is error
    assert f"MLflow was not told that run {run.run_id} has {status}" in caplog.text
    assert mlflow.active_run() is None

"""The probe room with tables, cohort, trials and results on S3, beside the same on disk."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

from boldstream.artifacts.results import CONTESTS, PREDICTIONS, SCORES, open_results
from boldstream.listing import list_files
from boldstream.probe import ProbeConfig, probe_table
from probeable import plant_table
from reported import make_cohort

ROOT = Path(__file__).parents[2]
N_SUBJECTS, N_TRIALS = 24, 6
SOON_S = 120

pytestmark = [
    pytest.mark.ray,
    pytest.mark.s3,
    # mlflow's and pyiceberg's own use of sqlalchemy
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
]


@pytest.fixture
def config(tmp_path, monkeypatch):
    """Return a function that plants a table in a warehouse and makes the configuration that probes it."""
    monkeypatch.setenv("BOLDSTREAM_CATALOG_URI", f"sqlite:///{tmp_path}/catalog.db")

    def make(warehouse):
        known = {"n_subjects": N_SUBJECTS, "people": lambda subject: {"age": 20.0 + subject, "sex": "FM"[subject % 2]}}
        cohort, _ = make_cohort(warehouse, "people", bad_roi=False, **known)
        plant_table(cohort, warehouse, "planted", 1.5)
        values = {
            "output": "probes",
            "tables": {"planted": "planted"},
            "targets": ["age", "sex"],
            "baselines": ["fc", "moments"],
            "folds": {"n_folds": 3, "n_inner": 2, "n_repeats": 2},
            "bootstrap": 100,
            "permutations": 19,
            "tune": {"max_concurrent": 1},
            "warehouse": warehouse,
        }
        return ProbeConfig.model_validate(values)

    return make


@pytest.fixture
def start(cluster, tmp_path):
    """Return a function that starts the job as a process of its own on the tests' Ray."""
    import ray

    started = []

    def run(config):
        path = tmp_path / "probe.yaml"
        path.write_text(yaml.safe_dump(config.model_dump(mode="json")))
        paths = [str(ROOT / "tests"), *filter(None, [os.environ.get("PYTHONPATH")])]
        env = os.environ | {"RAY_ADDRESS": ray.get_runtime_context().gcs_address, "PYTHONPATH": os.pathsep.join(paths)}
        command = [sys.executable, "tests/s3/probe_job.py", "--config", path]
        process = subprocess.Popen(
            command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate(timeout=30)


def outcomes(config):
    """Names of the trials that have left their outcome on S3."""
    prefix = f"results/{config.output}/trials/"
    return [path for path in list_files(config.warehouse).paths if path.startswith(prefix)]


def test_probe_on_s3__that_is_killed_goes_on_and_has_the_numbers_of_one_on_disk(s3, config, start, tmp_path):
    made = config(f"{s3}/probing")
    first = start(made)
    deadline = time.monotonic() + SOON_S
    while len(outcomes(made)) < 2:
        assert first.poll() is None, first.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.wait(30)
    done = len(outcomes(made))
    assert 2 <= done < N_TRIALS

    again = start(made)
    out, err = again.communicate(timeout=SOON_S)
    assert again.returncode == 0, err
    assert out.startswith(f"results: {s3}/probing/results/probes@1  # sha256 ")
    left = int(re.search(rf"probe: (\d+) of {N_TRIALS} trials to run", err)[1])
    # one that ran when its job was killed may have ended all the same
    assert N_TRIALS - done - 1 <= left <= N_TRIALS - done
    assert f"probe: {left} trials computed for" in err
    assert not outcomes(made)

    found = open_results("probes", made.warehouse)
    alone = open_results(probe_table(config(str(tmp_path / "w"))).pointer, "")
    for name in (SCORES, CONTESTS, PREDICTIONS):
        pd.testing.assert_frame_equal(found.tables[name], alone.tables[name])
    assert found.manifest.content["sentences"] == alone.manifest.content["sentences"]
    assert found.scores().query("representation == 'planted' and metric == 'r2'")["value"].item() > 0.3

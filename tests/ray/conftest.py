"""A small study with a cohort, a gradient and an untrained model, made once."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from synthetic import ingest_config, write_study

ROOT = Path(__file__).parents[2]
N_TIMEPOINTS = 32


@pytest.fixture(scope="session")
def study(cluster, tmp_path_factory):
    """Ten scans of 60 timepoints (the last has 20, less than a window), a gradient, and a model of no step."""
    from boldstream.gradients import GradientConfig, fit_gradient
    from boldstream.ingest import ingest_cohort
    from boldstream.pretrain import PretrainConfig, pretrain
    from synthetic import series, write_scan

    root = tmp_path_factory.mktemp("study")
    subjects = [f"{i:02d}" for i in range(10)]
    write_study(root, subjects)
    write_scan(root / "scans", "09", series(9, n_timepoints=20))
    warehouse = str(root / "warehouse")
    cohort = ingest_cohort(ingest_config(root))
    gradient = fit_gradient(GradientConfig(output="g", cohort="study", n_components=3, warehouse=warehouse))
    values = {
        "output": "toy",
        "cohort": cohort.pointer,
        "gradient": gradient.pointer,
        "size": "tiny",
        "n_timepoints": N_TIMEPOINTS,
        "patch_size": 8,
        "scaling": "zscore",
        "steps": 0,
        "warehouse": warehouse,
    }
    model = pretrain(PretrainConfig(**values))
    return SimpleNamespace(
        root=root, warehouse=warehouse, cohort=cohort, gradient=gradient, model=model, pretrain=values
    )


@pytest.fixture
def strategy(tmp_path):
    """Return a function that writes a strategy and gives its path."""

    def write(name="toy_v1", window=None, **values):
        window = {"length": N_TIMEPOINTS, "stride": 14} | (window or {})
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump({"id": name, "window": window, "project_dim": None, **values}))
        return str(path)

    return write


@pytest.fixture
def job(cluster, tmp_path):
    """Return a function that starts a job as a process of its own on the tests' Ray."""
    import ray

    started = []

    def start(name, config):
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(config.model_dump(mode="json")))
        env = os.environ | {"RAY_ADDRESS": ray.get_runtime_context().gcs_address}
        process = subprocess.Popen(
            [sys.executable, f"jobs/{name}.py", "--config", path],
            cwd=ROOT,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate(timeout=30)

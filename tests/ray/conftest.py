"""A small study with a cohort, a gradient and an untrained model, made once."""

import contextlib
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from boldstream.storage import local_path
from synthetic import ingest_config, write_study

ROOT = Path(__file__).parents[2]
N_TIMEPOINTS = 32
NOT_YET = sqlite3.OperationalError  # its tables are not made yet


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
        "holdout": 0,
        "warehouse": warehouse,
    }
    model = pretrain(PretrainConfig(**values))
    return SimpleNamespace(
        root=root, warehouse=warehouse, cohort=cohort, gradient=gradient, model=model, pretrain=values
    )


@pytest.fixture(scope="session")
def wait_for_a_commit():
    """Return a function that waits until a job has committed its first shards."""
    return _wait_for_a_commit


def _wait_for_a_commit(table, process):
    """Wait until the first shards of a table are committed, looking into the catalog's own file."""
    catalog = local_path(table.warehouse.uri) / "catalog.db"
    first = "SELECT 1 FROM iceberg_tables WHERE table_namespace = ? AND table_name = ? AND metadata_location GLOB ?"
    deadline = time.monotonic() + 240
    while True:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.005)
        if not catalog.is_file():
            continue
        with contextlib.closing(sqlite3.connect(catalog, timeout=10)) as database, contextlib.suppress(NOT_YET):
            if database.execute(first, (table.kind, table.name, "*/00001-*.metadata.json")).fetchone():
                return


@pytest.fixture
def strategy(tmp_path):
    """Return a function that writes a strategy and gives its path."""

    def write(name="toy_v1", window=None, **values):
        window = {"length": N_TIMEPOINTS, "stride": 14} | (window or {})
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump({"id": name, "window": window, **values}))
        return str(path)

    return write


@pytest.fixture
def embed_config(study, strategy, tmp_path):
    """Return a function that makes configurations of embedding tables in a warehouse of the test's own."""
    from boldstream.embed import EmbedConfig

    def make(**values):
        known = {
            "output": "table",
            "cohort": study.cohort.pointer,
            "model": study.model.pointer,
            "strategy": values.pop("strategy", None) or strategy(),
            "warehouse": str(tmp_path / "w"),
        }
        return EmbedConfig.model_validate(known | values)

    return make


@pytest.fixture
def job(cluster, tmp_path):
    """Return a function that starts a job as a process of its own on the tests' Ray."""
    import ray

    started = []

    def start(name, config, script=None):
        path = tmp_path / f"{name}-{len(started)}.yaml"
        path.write_text(yaml.safe_dump(config.model_dump(mode="json")))
        paths = [str(ROOT / "tests"), *filter(None, [os.environ.get("PYTHONPATH")])]
        env = os.environ | {"RAY_ADDRESS": ray.get_runtime_context().gcs_address, "PYTHONPATH": os.pathsep.join(paths)}
        process = subprocess.Popen(
            [sys.executable, script or f"jobs/{name}.py", "--config", path],
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

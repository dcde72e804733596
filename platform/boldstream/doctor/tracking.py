"""MLflow: whether it answers, takes who asks, and is of this version."""

import base64
import contextlib
import importlib.metadata
import os
from collections.abc import Iterator
from pathlib import Path

from boldstream.doctor.clock import judge_clock
from boldstream.doctor.finding import NOTE, OK, WRONG, Finding
from boldstream.errors import first_line
from boldstream.logs import hide_password
from boldstream.remote.answer import ask
from boldstream.tracking import SQLITE, tracking_address

ASK_S = 30.0
UNAUTHORIZED = 401
URI_VARIABLE = "MLFLOW_TRACKING_URI"
SET_URI = f"set {URI_VARIABLE} to the server, such as http://mlflow:5000"
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": f"{ASK_S:.0f}"}
"""MLflow's own asks seven times, for minutes."""


def check_tracking(where: str, *, on_cluster: bool) -> list[Finding]:
    """Check the tracking store of this machine's environment."""
    uri = tracking_address()
    shown = hide_password(uri)
    if on_cluster and URI_VARIABLE not in os.environ:
        found = f"{URI_VARIABLE} is not set on this node: a job's runs would vanish with its folder"
        return [Finding("mlflow", where, WRONG, found, f"{SET_URI}, where the node is started or by --env")]
    if uri.startswith(SQLITE):
        return [_check_file(where, Path(uri.removeprefix(SQLITE)))]
    if not uri.startswith(("http://", "https://")):
        return [_check_store(where, shown)]
    try:
        health = ask(f"{shown.rstrip('/')}/health", ASK_S)
    except OSError as error:
        mend = f"start the server, or {SET_URI}"
        return [Finding("mlflow", where, WRONG, f"nobody answers at {shown} ({error})", mend)]
    if health.text.strip() != "OK":
        found = f"what answers at {shown} is no MLflow server (/health: status {health.status})"
        return [Finding("mlflow", where, WRONG, found, SET_URI)]
    store = _check_store(where, shown)
    return [store, *_check_version(where, shown, store), judge_clock("MLflow", where, health.skew_s)]


def _check_file(where: str, path: Path) -> Finding:
    if not path.exists():
        return Finding("mlflow", where, NOTE, f"{path} is not there yet: the first job makes it", SET_URI)
    return _check_store(where, str(path))


def _check_store(where: str, shown: str) -> Finding:
    """Ask the store for an experiment, with the credentials of the environment."""
    import mlflow
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with _patience():
            mlflow.MlflowClient().search_experiments(max_results=1)
    except (MlflowException, SQLAlchemyError, OSError) as error:
        found = f"{shown} refuses: {hide_password(first_line(error))}"
        if str(UNAUTHORIZED) in found:
            mend = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD where the job runs"
            return Finding("mlflow", where, WRONG, f"{shown} does not take the credentials", mend)
        return Finding("mlflow", where, WRONG, found, "look into the server's log; `mlflow db upgrade` after an update")
    return Finding("mlflow", where, OK, f"{shown} answers")


@contextlib.contextmanager
def _patience() -> Iterator[None]:
    """Let MLflow be as patient as a doctor, unless the environment says otherwise."""
    ours = {name: value for name, value in PATIENCE.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            del os.environ[name]


def _credentials() -> dict[str, str]:
    """Return the HTTP header that MLflow's client would show."""
    name, password = (os.environ.get(f"MLFLOW_TRACKING_{word}") for word in ("USERNAME", "PASSWORD"))
    if name and password:
        return {"Authorization": f"Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}"}
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    return {"Authorization": f"Bearer {token}"} if token else {}


def _check_version(where: str, uri: str, store: Finding) -> list[Finding]:
    """Compare the server's version with this machine's, as far as the server tells it."""
    if store.state != OK:
        return []
    try:
        told = ask(f"{uri.rstrip('/')}/version", ASK_S, _credentials())
    except OSError as error:
        return [Finding("mlflow", where, NOTE, f"its version cannot be asked for ({error})", "is it overloaded?")]
    ours = importlib.metadata.version("mlflow")
    if told.status != 200:
        return []
    theirs = told.text.strip()
    if theirs.split(".")[:2] == ours.split(".")[:2]:
        return [Finding("mlflow", where, OK, f"server {theirs}, client {ours}")]
    mend = "bring both to one version; upgrade the server's database with `mlflow db upgrade`"
    return [Finding("mlflow", where, NOTE, f"server {theirs}, client {ours}", mend)]

"""A real run with credentials in its environment: none of them is in what it leaves behind."""

import logging

import mlflow
import pytest

from adjustable import STRATEGY, make_cohort, make_table, rows_of
from boldstream.adjust import AdjustConfig, adjust_table
from boldstream.cli import clean_exit
from boldstream.errors import EmbeddingsError, StorageError
from boldstream.logs import JsonLines, TextLines
from boldstream.storage import Warehouse

SECRETS = {
    name: f"{name.lower().replace('_', '-')}-0f1e2d3c4b5a69788796a5b4c3d2e1f0"
    for name in (
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "BOLDSTREAM_SUBJECT_SALT",
        "MLFLOW_FLASK_SERVER_SECRET_KEY",
        "MLFLOW_TRACKING_PASSWORD",
        "MLFLOW_TRACKING_TOKEN",
        "PGPASSWORD",
        "RAY_AUTH_TOKEN",
    )
}

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder that holds all that a run writes: warehouse, MLflow's store and artifacts, logs in both forms."""
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    root, handlers = logging.getLogger(), []
    loggers = (root, logging.getLogger("boldstream"))  # its level may be another test's
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
    for name, form in (("log.txt", TextLines()), ("log.jsonl", JsonLines())):
        handlers.append(logging.FileHandler(tmp_path / name))
        handlers[-1].setFormatter(form)
        root.addHandler(handlers[-1])
    yield tmp_path
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
    for handler in handlers:
        root.removeHandler(handler)
        handler.close()
    mlflow.set_tracking_uri(before)


def secrets_in(root, *more):
    """Return which secrets are in files below a folder, in their names, or in texts."""
    files = [path for path in root.rglob("*") if path.is_file()]
    held = [data for path in files for data in (path.read_bytes(), str(path).encode())]
    held += [text.encode() for text in more]
    return sorted(name for name, value in SECRETS.items() if any(value.encode() in data for data in held))


def run(root, **values):
    (root / "toy_adjusted_v1.yaml").write_text(STRATEGY)
    warehouse = Warehouse.at(str(root / "w"))
    cohort, _ = make_cohort(warehouse, range(60))
    make_table(warehouse, rows_of(range(60)), cohort)
    known = {"output": "adjusted", "table": "toy", "strategy": str(root / "toy_adjusted_v1.yaml"), "measured_rows": 0}
    try:
        return adjust_table(AdjustConfig(**known | values, warehouse=warehouse.uri))
    finally:
        warehouse.catalog.close()


def test_run__leaves_no_secret_in_tables_manifests_mlflow_and_logs(place):
    run(place)
    assert secrets_in(place) == []
    names = {path.name for path in place.rglob("*")}
    assert {"mlflow.db", "catalog.db", "log.txt", "log.jsonl", "config.yaml"} <= names
    assert (place / "log.jsonl").stat().st_size > 1000
    # the search finds what there is to find, wherever a careless line would put it
    logging.getLogger("boldstream").debug("%s", SECRETS["PGPASSWORD"])
    with mlflow.start_run():
        mlflow.log_param("token", SECRETS["RAY_AUTH_TOKEN"])
        mlflow.log_dict({"key": SECRETS["AWS_SESSION_TOKEN"]}, "config.yaml")
    assert secrets_in(place) == ["AWS_SESSION_TOKEN", "PGPASSWORD", "RAY_AUTH_TOKEN"]


def test_run__that_fails_leaves_no_secret(place, capsys, monkeypatch):
    with pytest.raises(EmbeddingsError):
        run(place, table="toy@7")
    password = SECRETS["PGPASSWORD"]
    with pytest.raises(SystemExit), clean_exit():
        raise StorageError(f"catalog postgresql+psycopg2://me:{password}@db/catalog cannot be opened")
    said = capsys.readouterr().err
    assert said.strip() == "StorageError: catalog postgresql+psycopg2://db/catalog cannot be opened"
    assert secrets_in(place, said) == []

"""An Iceberg catalog on a real PostgreSQL that is restarted, or gone, while a table is read and written."""

import os
import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest

from boldstream.artifacts.tables import VersionedTable
from boldstream.errors import ArtifactError, LabError, StorageError
from boldstream.lab.postgres import find_programs, make_databases, postgres
from boldstream.lab.service import free_ports
from boldstream.storage import Warehouse

ROOT = Path(__file__).parents[2]
SCHEMA = pa.schema([pa.field("scan_key", pa.string(), nullable=False)])
AWAY_S = 4


@pytest.fixture
def database(monkeypatch):
    """Start a server with the lab's databases, and let warehouses have their catalogs on it."""
    try:
        find_programs()
    except LabError as error:
        pytest.skip(str(error))
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    folder.chmod(0o711)
    port = free_ports(["postgres"])["postgres"]
    service = postgres(folder / "postgres", port, "letmein", dict(os.environ), folder / "log")
    service.start()
    service.wait()
    make_databases(ROOT / "deploy" / "lab" / "databases.sql", port, "letmein")
    make_databases(ROOT / "deploy" / "lab" / "databases.sql", port, "letmein")  # they are there: nothing happens
    settings = {"PGHOST": "127.0.0.1", "PGPORT": str(port), "PGUSER": "boldstream", "PGPASSWORD": "letmein"}
    for name, value in (settings | {"BOLDSTREAM_CATALOG_URI": "postgresql+psycopg2:///catalog"}).items():
        monkeypatch.setenv(name, value)
    yield service
    service.stop()
    shutil.rmtree(folder)


def while_away(service, seconds, act):
    """Begin an act while the server is stopped; start it again from here, because it ends with the thread it is of."""
    service.stop()
    with ThreadPoolExecutor() as pool:
        done = pool.submit(act)
        time.sleep(seconds)
        assert not done.done()
        service.start()
        return done.result(60)


def test_catalog__outlasts_a_restart_of_its_server(database, tmp_path):
    warehouse = Warehouse.at(str(tmp_path / "w"))
    table = VersionedTable(warehouse, "cohorts", "study", ArtifactError)
    table.begin(SCHEMA, {"a": 1})
    assert while_away(database, AWAY_S, lambda: table.exists)
    while_away(database, AWAY_S, lambda: table.set_properties({"boldstream.note": "written"}))
    again = VersionedTable(Warehouse.at(str(tmp_path / "w")), "cohorts", "study", ArtifactError)
    assert while_away(database, AWAY_S, lambda: again.schema.names) == ["scan_key"]
    assert table.iceberg.refresh().properties["boldstream.note"] == "written"


def test_catalog__gives_up_a_server_that_stays_away(database, tmp_path):
    warehouse = Warehouse(Warehouse.at(str(tmp_path / "w")).uri, lock_wait_s="1")
    table = VersionedTable(warehouse, "cohorts", "study", ArtifactError)
    table.begin(SCHEMA, {"a": 1})
    database.stop()
    with pytest.raises(StorageError, match=r"the catalog's server is away, and has been for 1 s .*refused.*; what is"):
        _ = table.exists
    with pytest.raises(StorageError, match=r"the catalog's server is away, and has been for 1 s"):
        _ = Warehouse(warehouse.uri, lock_wait_s="1").catalog


def test_catalog__does_not_wait_where_the_password_is_wrong(database, tmp_path, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", "guess")
    started = time.monotonic()
    with pytest.raises(StorageError, match=r"catalog of warehouse .* cannot be opened: .*password authentication fail"):
        _ = Warehouse.at(str(tmp_path / "w")).catalog
    assert time.monotonic() - started < 10

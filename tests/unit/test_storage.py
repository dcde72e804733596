import gzip
import re
import subprocess
import sys

import pytest

from boldstream.errors import StorageError
from boldstream.listing import list_files
from boldstream.storage import (
    Warehouse,
    absolute_uri,
    exists,
    filesystem,
    is_local,
    local_path,
    publish_bytes,
    publish_folder,
    read_bytes,
    remove_files,
    sha256_of_folder,
)

NAMES = ["plain", "with space", "jösé", "per%20cent", "a+b"]


def test_absolute_uri__of_paths_and_uris(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert absolute_uri("w") == f"file://{tmp_path}/w"
    assert absolute_uri("w/../v/") == f"file://{tmp_path}/v"
    assert absolute_uri("s3://bucket/w/") == "s3://bucket/w"
    assert absolute_uri("~").startswith("file:///")
    assert "~" not in absolute_uri("~/w")
    assert [is_local(uri) for uri in ("w", "file:///w", "s3://b/w")] == [True, True, False]


@pytest.mark.parametrize("name", [*NAMES, "sharp#", "why?"])
def test_files__of_any_name_are_written_listed_and_read(tmp_path, name):
    uri = f"{absolute_uri(str(tmp_path))}/{name}/{name}.bin"
    publish_bytes(uri, b"bytes")
    assert [path.rpartition("/")[2] for path in list_files(str(tmp_path)).paths] == [f"{name}.bin"]
    assert read_bytes(uri) == b"bytes"
    assert exists(uri)
    assert not exists(uri + "x")
    assert local_path(uri).read_bytes() == b"bytes"


@pytest.mark.parametrize("name", NAMES)
def test_warehouse__of_any_name_keeps_catalog_and_tables_in_its_folder(tmp_path, name):
    import pyarrow as pa

    warehouse = Warehouse.at(str(tmp_path / name))
    warehouse.catalog.create_namespace("cohorts")
    table = warehouse.catalog.create_table(
        ("cohorts", "a"), pa.schema([pa.field("x", pa.int32())]), location=warehouse.location("cohorts", "a")
    )
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name / "catalog.db").is_file()
    assert table.location() == f"file://{tmp_path}/{name}/cohorts/a"
    warehouse.catalog.close()


@pytest.mark.parametrize("name", ["a#b", "a?b"])
def test_warehouse__refuses_what_iceberg_cannot_spell(tmp_path, name):
    with pytest.raises(StorageError, match=r"has [#?] in its path; choose another folder"):
        Warehouse.at(str(tmp_path / name))


def test_warehouse__elsewhere_needs_a_catalog():
    with pytest.raises(StorageError, match="is not on a local disk: set BOLDSTREAM_CATALOG_URI to its catalog"):
        _ = Warehouse.at("s3://bucket/w").catalog


def test_warehouse__with_a_catalog_that_cannot_be_opened(tmp_path, monkeypatch):
    monkeypatch.setenv("BOLDSTREAM_CATALOG_URI", f"sqlite:///{tmp_path}/none/catalog.db")
    with pytest.raises(StorageError, match=r"catalog of warehouse 's3://bucket/w' cannot be opened: .*unable"):
        _ = Warehouse.at("s3://bucket/w").catalog


def test_filesystem__refuses_what_pyarrow_does_not_know(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # else pyarrow asks Amazon for the region
    with pytest.raises(StorageError, match=r"ftp://host/x: no filesystem for it .*; use a local path, s3:// or gs://"):
        filesystem("ftp://host/x")
    with pytest.raises(StorageError, match="is not on this machine; a local path is needed here"):
        local_path("s3://bucket/x")


def test_read_bytes__refuses_what_is_no_file(tmp_path):
    with pytest.raises(StorageError, match="none: no such file"):
        read_bytes(str(tmp_path / "none"))
    with pytest.raises(StorageError, match="cannot be read"):
        read_bytes(str(tmp_path))


def test_publish_bytes__replaces_whole_files_and_leaves_no_drafts(tmp_path):
    publish_bytes(str(tmp_path / "a" / "x"), b"old and longer")
    publish_bytes(str(tmp_path / "a" / "x"), b"new")
    assert [path.read_bytes() for path in (tmp_path / "a").iterdir()] == [b"new"]
    with pytest.raises(StorageError, match="x/y: cannot be written"):
        publish_bytes(str(tmp_path / "a" / "x" / "y"), b"")


def test_publish_folder__appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "report"
    with publish_folder(target) as draft:
        (draft / "index.html").write_text("one")
        assert not target.exists()
    with pytest.raises(RuntimeError, match="half-way"), publish_folder(target) as draft:
        (draft / "index.html").write_text("two")
        raise RuntimeError("half-way")
    assert (target / "index.html").read_text() == "one"
    with publish_folder(target) as draft:
        (draft / "other.html").write_text("three")
    assert [path.name for path in target.iterdir()] == ["other.html"]
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


def test_sha256_of_folder__goes_by_names_and_contents(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_text("1")
    first = sha256_of_folder(tmp_path)
    (tmp_path / "a" / "x").rename(tmp_path / "a" / "y")
    assert sha256_of_folder(tmp_path) != first
    (tmp_path / "a" / "y").rename(tmp_path / "a" / "x")
    assert sha256_of_folder(tmp_path) == first
    (tmp_path / "a" / "x").write_text("2")
    assert sha256_of_folder(tmp_path) != first
    remove_files(str(tmp_path / "a"))
    remove_files(str(tmp_path / "a"))
    assert not (tmp_path / "a").exists()


def test_read_bytes__leaves_packed_files_packed(tmp_path):
    packed = gzip.compress(b"1,2\n")
    (tmp_path / "scan.csv.gz").write_bytes(packed)
    assert read_bytes(str(tmp_path / "scan.csv.gz")) == packed


FULL_DISK = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))  # what a full disk is, without one
from boldstream.errors import StorageError
from boldstream.storage import publish_bytes
publish_bytes(sys.argv[1], b"x" * 900_000)
try:
    publish_bytes(sys.argv[1], b"y" * 2_000_000)
except StorageError as error:
    print(error)
"""


def test_publish__on_a_full_disk_leaves_what_was_there(tmp_path):
    target = tmp_path / "scan.parquet"
    found = subprocess.run([sys.executable, "-c", FULL_DISK, target], capture_output=True, text=True, check=True)
    assert re.fullmatch(rf"{target}: cannot be written: .*(too large|space).*\n", found.stdout, re.IGNORECASE)
    assert target.read_bytes() == b"x" * 900_000
    assert list(tmp_path.iterdir()) == [target]

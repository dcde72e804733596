import os

import pytest

from boldstream.errors import StorageError
from boldstream.listing import list_files
from boldstream.storage import publish_bytes


def test_list_files__goes_down_and_sorts(tmp_path):
    for name in ("b.csv", "a/2.csv", "a/1.csv"):
        publish_bytes(str(tmp_path / name), b"")
    assert list_files(str(tmp_path)).paths == list_files(f"{tmp_path}/").paths == ["a/1.csv", "a/2.csv", "b.csv"]


def test_list_files__follows_links_once_and_keeps_those_to_nowhere(tmp_path):
    for name in ("data/sub-1/a.csv", "elsewhere/sub-2/b.csv"):
        publish_bytes(str(tmp_path / name), b"")
    (tmp_path / "data/sub-1/not-fetched.csv").symlink_to(tmp_path / "annex" / "x")
    (tmp_path / "data/sub-2").symlink_to(tmp_path / "elsewhere/sub-2")
    (tmp_path / "data/sub-2b").symlink_to(tmp_path / "elsewhere/sub-2")
    (tmp_path / "data/sub-1/up").symlink_to(tmp_path / "data")
    found = list_files(str(tmp_path / "data")).paths
    assert [path for path in found if path.startswith("sub-1/")] == ["sub-1/a.csv", "sub-1/not-fetched.csv"]
    assert len([path for path in found if path.endswith("b.csv")]) == 1
    (tmp_path / "root").symlink_to(tmp_path / "data")
    assert list_files(str(tmp_path / "root")).paths == found


def test_list_files__refuses_what_is_no_folder(tmp_path):
    with pytest.raises(StorageError, match="none: no such folder"):
        list_files(str(tmp_path / "none"))
    (tmp_path / "scan.csv").touch()
    with pytest.raises(StorageError, match=r"scan.csv: is a file; name the folder that holds the scans"):
        list_files(str(tmp_path / "scan.csv"))


def test_state__is_size_and_time_of_the_file_behind_a_link(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "real").write_bytes(b"123")
    (tmp_path / "data" / "link").symlink_to(tmp_path / "real")
    (tmp_path / "data" / "nowhere").symlink_to(tmp_path / "none")
    listing = list_files(str(tmp_path / "data"))
    os.utime(tmp_path / "real", ns=(1, 12345))
    assert listing.state("link") == (3, 12345)
    assert listing.state("nowhere") is None

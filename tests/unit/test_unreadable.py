"""Files that are there and cannot be read: their scan goes to quarantine, and the others do not suffer."""

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from boldstream.errors import ScanError
from boldstream.ingest.read import ScanFiles


def files_of(path):
    return ScanFiles({"series": f"file://{path}"})


def test_read__of_what_is_no_file_or_was_taken_away_says_so(tmp_path):
    with socket.socket(socket.AF_UNIX) as found:
        found.bind(str(tmp_path / "a.csv"))
        with pytest.raises(ScanError, match=r"^unreadable: file://.*/a.csv: cannot be read: .*No such device"):
            files_of(tmp_path / "a.csv").read("series")
    (tmp_path / "b.csv").mkdir()
    (tmp_path / "c.csv").symlink_to(tmp_path / "annex")
    with pytest.raises(ScanError, match=r"^unreadable: file://.*/b.csv: cannot be read: "):
        files_of(tmp_path / "b.csv").open("series")
    with pytest.raises(ScanError, match=r"^unreadable: file://.*/c.csv: no such file$"):
        files_of(tmp_path / "c.csv").read("series")


AS_NOBODY = """
import os, sys
from boldstream.errors import ScanError, StorageError
from boldstream.ingest.read import ScanFiles
from boldstream.listing import list_files
import boldstream.ingest.prepare, pyarrow.fs

if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
folder = sys.argv[1]
print(list_files(folder).paths)
for name in ("mine.csv", "theirs.csv"):
    try:
        print(ScanFiles({"series": f"file://{folder}/{name}"}).read("series"))
    except ScanError as error:
        print(error)
try:
    list_files(os.path.dirname(folder))
except StorageError as error:
    print(error)
"""


def test_read__without_permission_is_a_scans_own_problem_and_without_its_folder_everybodys():
    with tempfile.TemporaryDirectory() as outside:  # pytest's own folders are closed to others altogether
        folder = Path(outside, "scans")
        (folder / "closed").mkdir(parents=True)
        Path(outside, "closed").mkdir()
        (folder / "mine.csv").write_text("1,2")
        (folder / "theirs.csv").write_text("3,4")
        for path, mode in ((folder / "theirs.csv", 0), (Path(outside, "closed"), 0), (Path(outside), 0o755)):
            path.chmod(mode)
        done = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, folder], capture_output=True, text=True, check=False, env=os.environ
        )
        Path(outside, "closed").chmod(0o755)
    assert done.returncode == 0, done.stderr
    listed, mine, theirs, everybodys = done.stdout.splitlines()
    assert (listed, mine) == ("['mine.csv', 'theirs.csv']", "b'1,2'")
    assert theirs.startswith(f"unreadable: file://{folder}/theirs.csv: cannot be read: ")
    assert "Permission denied" in theirs
    assert everybodys.startswith(f"{outside}: cannot be listed: ")
    assert "Permission denied" in everybodys

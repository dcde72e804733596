"""A cohort under hashed subject ids, and everything that is left behind by making it."""

import logging
from pathlib import Path

import mlflow
import pytest

from boldstream.artifacts.cohort import open_cohort
from boldstream.errors import OutputExistsError
from boldstream.ingest import ingest_cohort
from boldstream.pseudonyms import pseudonym
from synthetic import ingest_config, series, write_participants, write_scan, write_study

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("cluster")]

SALT = "0123456789abcdef" * 2
SUBJECTS = [f"Person{i}" for i in range(9)]


def left_behind(root):
    """Return the bytes of all files below a folder, what MLflow holds, and the files' names."""
    paths = [path for path in root.rglob("*") if path.is_file()]
    return b"".join(str(path.relative_to(root)).encode() + path.read_bytes() for path in paths)


def test_hashed_cohort__knows_nobody_and_follows_its_source(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setenv("BOLDSTREAM_SUBJECT_SALT", SALT)
    write_study(tmp_path, SUBJECTS)
    (tmp_path / "scans" / "sub-Person0.csv").write_text("no,numbers\n")
    write_participants(tmp_path, [*SUBJECTS, "Nobody1"])
    config = ingest_config(tmp_path, subject_ids="hash", max_removed=0.5)
    ref = ingest_cohort(config)
    write_scan(tmp_path / "scans", "Nobody1", series(50))
    (tmp_path / "scans" / "sub-Person1.csv").unlink()
    again = ingest_cohort(config)
    assert (ref.version, again.version) == ("1", "2")
    assert "2 to read" not in caplog.text
    assert "1 to read" in caplog.text

    content = open_cohort(again.pointer, "").manifest.content
    assert content["changes"]["added"] == [f"sub-{pseudonym('Nobody1', SALT)}"]
    assert content["changes"]["removed"] == [f"sub-{pseudonym('Person1', SALT)}"]
    assert content["participants_without_scan"] == [pseudonym("Person1", SALT)]

    subjects = open_cohort(again.pointer, "").table.column(["subject", "source_uri"])
    assert subjects["subject"].to_pylist()[0] in {pseudonym(subject, SALT) for subject in [*SUBJECTS, "Nobody1"]}
    assert all(uri.startswith("hashed:") for uri in subjects["source_uri"].to_pylist())
    written = left_behind(tmp_path / "warehouse")
    store = Path(mlflow.get_tracking_uri().removeprefix("sqlite:///")).parent
    for name in (b"Person", b"Nobody"):
        assert name not in written
        assert name not in left_behind(store)
        assert name.decode() not in caplog.text
    assert SALT.encode() not in written + left_behind(store)

    monkeypatch.setenv("BOLDSTREAM_SUBJECT_SALT", SALT[::-1])
    with pytest.raises(OutputExistsError, match="subject_salt: "):
        ingest_cohort(config)

"""Subject ids: none that could be a path, and, on demand, hashes instead of them wherever something is written."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from boldstream.artifacts.cohort import cohort_schema, cohort_tables
from boldstream.errors import ConfigError, SourceError
from boldstream.ingest.plan import plan_scans
from boldstream.ingest.regions import load_regions
from boldstream.ingest.shard import IngestTask, ingest_shard
from boldstream.pseudonyms import pseudonym
from boldstream.storage import Warehouse, local_path
from synthetic import ingest_config, series, write_participants, write_study

SALT = "0123456789abcdef" * 2
SUBJECTS = ["Meier07", "Zoe4711", "903118274"]


@pytest.fixture
def salt(monkeypatch):
    monkeypatch.setenv("BOLDSTREAM_SUBJECT_SALT", SALT)


@pytest.fixture
def study(tmp_path):
    write_study(tmp_path, SUBJECTS)
    return tmp_path


def hashed(root, **values):
    return ingest_config(root, subject_ids="hash", **values)


@pytest.mark.parametrize(
    "label",
    ["../../etc/passwd", "..", "/etc/passwd", "a/b", "a\\b", "a\nb", "a\x00b", "a\x1b[2J", "", " ", "x" * 65, "é"],
)
def test_subject__of_the_table_that_could_do_harm_ends_the_run_in_one_line(tmp_path, label):
    write_study(tmp_path, ["01"])
    table = tmp_path / "participants.csv"
    quoted = label.replace('"', '""')
    table.write_text(f'file_id,participant_id\n01,"sub-{quoted}"\n')
    columns = {"site": None, "age": None, "sex": None, "mean_fd": None}
    source = {"root": str(tmp_path / "scans"), "files": "sub-{file_id}.csv"}
    values = {"participants": str(table), "participants_key": "file_id", "columns": columns, "source": source}
    with pytest.raises(SourceError, match=r"sub-01.csv: subject .* is no BIDS label .letters, digits") as caught:
        plan_scans(ingest_config(tmp_path, **values))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("entity", ["subject", "session", "task", "run"])
@pytest.mark.parametrize("label", ["..", "a\nb", "a\x1b[2J", "x" * 65, "a b"])
def test_label__of_a_file_name_that_could_do_harm_ends_the_run_in_one_line(tmp_path, entity, label):
    labels = dict.fromkeys(["subject", "session", "task", "run"], "1") | {entity: label}
    name = "sub-{subject}_ses-{session}_task-{task}_run-{run}.csv"
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / name.format(**labels)).touch()
    source = {"root": str(tmp_path / "scans"), "files": name}
    with pytest.raises(SourceError, match=f"{entity} .* is no BIDS label"):
        plan_scans(ingest_config(tmp_path, participants=None, source=source))


def test_subject__does_not_lead_out_of_the_sessions_folder(tmp_path):
    write_study(tmp_path, ["01"])
    (tmp_path / "secret.tsv").write_text("session_id\tage\n1\t1\n")
    (tmp_path / "participants.tsv").write_text("file_id\tparticipant_id\n01\t../../secret\n")
    values = {"participants_key": "file_id", "columns": {"site": None, "age": None, "sex": None, "mean_fd": None}}
    values["source"] = {"root": str(tmp_path / "scans"), "files": "sub-{file_id}.csv"}
    with pytest.raises(SourceError, match=r"subject '../../secret' is no BIDS label"):
        plan_scans(ingest_config(tmp_path, sessions=str(tmp_path / "tables" / "{subject}.tsv"), **values))


def test_hash__is_the_same_for_the_same_salt_and_joins_the_same_rows(study, salt, monkeypatch):
    plain, first, again = plan_scans(ingest_config(study)), plan_scans(hashed(study)), plan_scans(hashed(study))
    assert first == again
    by_subject = {scan.values["subject"]: scan for scan in first.scans}
    assert set(by_subject) == {pseudonym(subject, SALT) for subject in SUBJECTS}
    for scan in plain.scans:
        twin = by_subject[pseudonym(scan.values["subject"], SALT)]
        assert twin.scan_key == f"sub-{twin.values['subject']}"
        assert twin.files == scan.files
        assert {**twin.values, "subject": 0} == {**scan.values, "subject": 0}
        assert twin.stamp != scan.stamp
    monkeypatch.setenv("BOLDSTREAM_SUBJECT_SALT", SALT[::-1])
    assert not {scan.scan_key for scan in plan_scans(hashed(study)).scans} & {scan.scan_key for scan in first.scans}


def test_hash__follows_a_source_that_grows_and_changes(study, salt):
    before = {scan.scan_key: scan.stamp for scan in plan_scans(hashed(study)).scans}
    write_study(study, [*SUBJECTS, "new1"])
    np.savetxt(study / "scans" / f"sub-{SUBJECTS[0]}.csv", np.zeros((9, 8)), delimiter=",")
    after = {scan.scan_key: scan.stamp for scan in plan_scans(hashed(study)).scans}
    assert after.keys() - before.keys() == {f"sub-{pseudonym('new1', SALT)}"}
    changed = {key for key in before if before[key] != after[key]}
    assert f"sub-{pseudonym(SUBJECTS[0], SALT)}" in changed


def everything_written(root):
    """Return what is in all files below a folder, names included."""
    found = b""
    for path in root.rglob("*"):
        found += str(path.relative_to(root)).encode()
        if path.suffix == ".parquet":  # its pages are packed
            names = [name for name in pq.read_schema(path).names if name != "timeseries"]
            found += json.dumps(pq.read_table(path, columns=names).to_pylist()).encode()
        if path.is_file():
            found += path.read_bytes()
    return found


def ingested(root, config):
    """Read all scans in this process and return what the two tables hold on disk."""
    plan = plan_scans(config)
    cohort, quarantine = cohort_tables(Warehouse.at(config.warehouse), config.output)
    task = IngestTask(
        config, load_regions(config, plan.scans), cohort_schema(plan.phenotypes), cohort.uri, quarantine.uri
    )
    receipt = ingest_shard({"scans": json.dumps([scan.as_dict() for scan in plan.scans])}, task=task)
    assert receipt["stopped"] == ""
    return receipt, everything_written(local_path(Warehouse.at(config.warehouse).uri))


def names_in(written):
    return [subject for subject in SUBJECTS if subject.encode() in written]


def test_hash__leaves_no_id_in_cohort_and_quarantine(study, salt):
    (study / "scans" / f"sub-{SUBJECTS[0]}.csv").write_text("a,b\n1,oops\n")
    (study / "scans" / f"sub-{SUBJECTS[1]}.csv").unlink()
    (study / "scans" / f"sub-{SUBJECTS[1]}.csv").mkdir()
    write_study(study / "more", ["Stranger1"])
    (study / "more" / "scans" / "sub-Stranger1.csv").rename(study / "scans" / "sub-Stranger1.csv")
    receipt, plain = ingested(study, ingest_config(study))
    assert names_in(plain)  # or the test would prove nothing
    assert b"Stranger1" in plain
    receipt, written = ingested(study, hashed(study, warehouse=str(study / "hashed")))
    assert (receipt["rows"], json.loads(receipt["reasons"])) == (1, {"unreadable": 1, "no_participants_row": 1})
    assert names_in(written) == []
    assert b"Stranger1" not in written
    assert b"text 'oops' among the numbers" in written
    assert b"left out, because it names the subject" in written
    assert str(study / "scans").encode() not in written


def test_hash__of_participants_without_a_scan(study, salt):
    (study / "scans" / f"sub-{SUBJECTS[0]}.csv").unlink()
    assert plan_scans(hashed(study)).without_scan == [pseudonym(SUBJECTS[0], SALT)]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("file", [f"{subject}_a.nii" for subject in SUBJECTS]),
        ("alias", ["x", "", "old Meier07"]),
        ("number", ["1", "2", "903118274"]),
        ("code", ["Meier", "Zoe", "903"]),
    ],
)
def test_hash__refuses_a_column_with_ids(study, salt, name, values):
    rows = (study / "participants.tsv").read_text().splitlines()
    told = [f"{row}\t{value}" for row, value in zip(rows, [name, *values], strict=True)]
    (study / "participants.tsv").write_text("\n".join(told) + "\n")
    if name in ("number", "code"):  # a number that is an id by chance; parts of ids
        assert plan_scans(hashed(study)).phenotypes.keys() == {"iq", "diagnosis", name}
        return
    with pytest.raises(SourceError, match=f"column {name} of the .* tables? holds subjects' ids") as caught:
        plan_scans(hashed(study))
    assert not any(subject in str(caught.value) for subject in SUBJECTS)


def test_hash__drops_the_column_that_joins(study, salt):
    text = (study / "participants.tsv").read_text().replace("participant_id", "code").replace("sub-", "")
    (study / "participants.tsv").write_text(text)
    source = {"root": str(study / "scans"), "files": "sub-{code}.csv"}
    assert "code" in plan_scans(ingest_config(study, source=source, participants_key="code")).phenotypes
    plan = plan_scans(hashed(study, source=source, participants_key="code"))
    assert plan.phenotypes.keys() == {"iq", "diagnosis"}
    assert "code" not in plan.scans[0].values
    assert [scan.values["iq"] for scan in plan.scans] != [None] * 3


def test_hash__refuses_a_root_that_is_a_subject(tmp_path, salt):
    write_study(tmp_path / "sub-903118274", ["903118274"])
    with pytest.raises(SourceError, match=r"source.root is the folder of one subject"):
        plan_scans(hashed(tmp_path / "sub-903118274"))


def test_hash__leaves_names_out_of_what_a_source_is_refused_for(study, salt):
    with (study / "participants.tsv").open("a") as table:
        table.write("sub-Meier07\tsite1\t20\tM\t0.1\t100\tasd\n")
    with pytest.raises(SourceError, match=r"has more than one row for participant_id … .subject_ids: hash") as caught:
        plan_scans(hashed(study))
    assert "Meier07" not in str(caught.value)


def test_hash__needs_a_salt(study, monkeypatch):
    monkeypatch.delenv("BOLDSTREAM_SUBJECT_SALT", raising=False)
    with pytest.raises(ConfigError, match="BOLDSTREAM_SUBJECT_SALT is not set; make one with `openssl rand -hex 32`"):
        plan_scans(hashed(study))
    monkeypatch.setenv("BOLDSTREAM_SUBJECT_SALT", "short")
    with pytest.raises(ConfigError, match="has 5 characters; make one"):
        plan_scans(hashed(study))


def test_salt__is_no_setting(study):
    with pytest.raises(ValueError, match="salt"):
        ingest_config(study, salt=SALT)
    assert "subject_ids" not in ingest_config(study).identity()
    assert hashed(study).identity()["subject_ids"] == "hash"


def test_hash__leaves_no_id_in_notes_that_name_files(tmp_path, salt):
    folder = tmp_path / "scans" / "sub-Meier07" / "func"
    folder.mkdir(parents=True)
    stem = folder / "sub-Meier07_task-rest_space-MNI152NLin6Asym_atlas-toy_timeseries"
    text = "\t".join(f"R{i + 1}" for i in range(8)) + "\n" + "\n".join("\t".join(map(str, row)) for row in series(1))
    stem.with_suffix(".tsv").write_text(text)
    stem.with_suffix(".json").write_text('{"RepetitionTime": 3.0}')
    write_participants(tmp_path, ["Meier07"])
    (tmp_path / "rois.txt").write_text("\n".join(f"R{i + 1}" for i in range(8)))
    source = {"kind": "xcpd", "root": str(tmp_path / "scans")}
    receipt, plain = ingested(tmp_path, ingest_config(tmp_path, source=source))
    assert b"sub-Meier07_task-rest_space-MNI152NLin6Asym_atlas-toy_timeseries.json says 3 s, taken is 2 s" in plain
    receipt, written = ingested(tmp_path, hashed(tmp_path, source=source, warehouse=str(tmp_path / "hashed")))
    assert receipt["rows"] == 1
    assert names_in(written) == []
    assert b" says 3 s, taken is 2 s" in written

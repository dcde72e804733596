import os

import pytest

from boldstream.ingest.plan import plan_scans
from synthetic import ingest_config, write_participants, write_scan, write_study
from trees import write_fmriprep


def stamps(config):
    return {scan.scan_key: scan.stamp for scan in plan_scans(config).scans}


def changed(before, after):
    return {key for key in before.keys() & after.keys() if before[key] != after[key]}


@pytest.fixture
def study(tmp_path):
    write_study(tmp_path / "a", ["1", "2", "3"])
    return tmp_path / "a"


def test_stamps__are_the_same_as_long_as_nothing_changes(study):
    config = ingest_config(study)
    before = stamps(config)
    assert len(set(before.values())) == 3
    (study / "scans" / "sub-2.csv").open().close()  # read, not changed
    write_scan(study / "scans", "4", [[0.0] * 8])
    assert changed(before, stamps(config)) == set()


def test_stamps__change_with_size_time_and_rows_of_the_tables(study):
    config = ingest_config(study)
    before = stamps(config)
    path = study / "scans" / "sub-1.csv"
    found = path.stat()
    path.write_bytes(path.read_bytes() + b"\n")
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert changed(before, stamps(config)) == {"sub-1"}

    before = stamps(config)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns + 1))
    assert changed(before, stamps(config)) == {"sub-1"}

    before = stamps(config)
    table = study / "participants.tsv"
    table.write_text(table.read_text().replace("\t21\t", "\t31\t"))  # the age of 2
    assert changed(before, stamps(config)) == {"sub-2"}

    before = stamps(config)
    write_participants(study, ["1", "2"])  # 3 has no row any more, 2 is 21 again
    assert changed(before, stamps(config)) == {"sub-2", "sub-3"}


def test_stamps__do_not_depend_on_where_the_source_is(study, tmp_path):
    before = stamps(ingest_config(study, participants=None))
    study.rename(tmp_path / "b")
    assert stamps(ingest_config(tmp_path / "b", participants=None)) == before


def test_stamps__notice_a_file_that_comes_beside_and_a_link_that_is_fetched(tmp_path):
    write_fmriprep(tmp_path / "source", ["1", "2"])
    (confounds,) = (tmp_path / "source").rglob("sub-1*_desc-confounds_timeseries.tsv")
    away = tmp_path / confounds.name
    confounds.rename(away)
    config = ingest_config(tmp_path, source={"kind": "fmriprep", "root": str(tmp_path / "source")}, participants=None)
    before = stamps(config)
    confounds.symlink_to(tmp_path / "annex")
    linked = stamps(config)
    assert changed(before, linked) == {"sub-1_task-rest"}
    away.rename(tmp_path / "annex")
    assert changed(linked, stamps(config)) == {"sub-1_task-rest"}

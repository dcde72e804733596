"""Ingest run again over a source that has grown, changed and shrunk: as a fresh run, reading what is new."""

import os
import time

import pytest

from boldstream.artifacts.cohort import cohort_tables, open_cohort
from boldstream.errors import SourceError
from boldstream.ingest import ingest_cohort
from boldstream.storage import Warehouse, local_path
from boldstream.tables import run_tables
from synthetic import ingest_config, series, write_scan, write_study

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("cluster")]

N = 24


def config_of(root, output="study", **values):
    known = {"quality": {"duplicates": "quarantine"}, "min_timepoints": 20, "shard_size": 4}
    return ingest_config(root, output=output, **known | values)


def held(config):
    """Return digest by key of the cohort, and reason by key of the quarantine."""
    cohort, quarantine = cohort_tables(Warehouse.at(config.warehouse), config.output)
    rows, refused = cohort.column(["scan_key", "row_digest"]), quarantine.column(["scan_key", "reason"])
    return (
        dict(zip(rows["scan_key"].to_pylist(), rows["row_digest"].to_pylist(), strict=True)),
        dict(zip(refused["scan_key"].to_pylist(), refused["reason"].to_pylist(), strict=True)),
    )


def files_of(ref, config):
    """Return the bytes of a version's data files by name."""
    found = {file.uri: local_path(file.uri).read_bytes() for file in open_cohort(ref.pointer, config.warehouse).files}
    return {uri.rpartition("/")[2]: data for uri, data in found.items()}


def assert_as_fresh(root, config, ref):
    """The tables hold what a first run over the same source makes."""
    other = config_of(root, output=f"fresh{time.monotonic_ns()}", shard_size=7)
    assert ingest_cohort(other).digest == ref.digest
    assert held(other) == held(config)


def test_ingest__again_follows_its_source_and_reads_nothing_twice(tmp_path, caplog):
    caplog.set_level("INFO", "boldstream")
    subjects = [f"{i:02d}" for i in range(N)]
    write_study(tmp_path, subjects)
    scans = tmp_path / "scans"
    write_scan(scans, "05", series(5, n_timepoints=10))  # too short
    (scans / "sub-20.csv").write_bytes((scans / "sub-03.csv").read_bytes())  # a copy: both are set aside
    config = config_of(tmp_path)
    first = ingest_cohort(config)
    assert held(config)[1] == {"sub-05": "too_short", "sub-03": "cohort_quality", "sub-20": "cohort_quality"}

    caplog.clear()
    assert ingest_cohort(config) == first
    assert "24 scans in" in caplog.text
    assert "0 to read" in caplog.text

    # one file touched, one rewritten, one repaired, one new, one gone, one copy gone, one age corrected
    os.utime(scans / "sub-01.csv", ns=(1, 1))
    write_scan(scans, "02", series(200))
    write_scan(scans, "05", series(5))
    write_scan(scans, "30", series(30))
    (scans / "sub-07.csv").unlink()
    (scans / "sub-20.csv").unlink()
    table = (tmp_path / "participants.tsv").read_text()
    row = table.splitlines()[5].replace("sub-04", "sub-30")
    (tmp_path / "participants.tsv").write_text(table.replace("site1\t29\t", "site1\t30\t") + f"{row}\n")
    caplog.clear()
    second = ingest_cohort(config)
    assert "5 to read" in caplog.text  # 01, 02, 05, 09, 30; 03, set aside because of its copy, comes back unread
    assert "2 scans are not in the source any more and go" in caplog.text
    assert "sub-" not in caplog.text
    assert open_cohort(second.pointer, config.warehouse).manifest.content["changes"] == {
        "since": "1",
        "added": ["sub-03", "sub-05", "sub-30"],
        "changed": ["sub-02", "sub-09"],
        "removed": ["sub-07", "sub-20"],
        "quarantined": [],
    }
    page = (local_path(second.uri) / "versions" / "v2-qc.html").read_text()
    assert "3 scans added since version 1: sub-03, sub-05, sub-30." in page
    assert_as_fresh(tmp_path, config, second)
    assert len(held(config)[0]) == N - 2 + 1

    told = run_tables(["diff", "study@1", "study", "--warehouse", config.warehouse], cohorts=True)
    assert told.splitlines() == [
        "study@1 -> study@2",
        "scans added: 3 (sub-03, sub-05, sub-30)",
        "scans removed: 1 (sub-07)",
        "scans changed: 2 (sub-02, sub-09)",
        "changed in: timeseries (1), age (1)",
        "scans the same: 18",
    ]

    # the version before is still what it was, and files in which nothing changed are the same files
    before, after = files_of(first, config), files_of(second, config)
    same = before.keys() & after.keys()
    assert same
    assert all(before[name] == after[name] for name in same)
    table, _ = cohort_tables(Warehouse.at(config.warehouse), "study")
    assert "sub-07" in table.column(["scan_key"], "1")["scan_key"].to_pylist()

    # a file that was only touched is no other version, and is not read every night
    os.utime(scans / "sub-01.csv", ns=(2, 2))
    assert ingest_cohort(config) == second
    page = (local_path(second.uri) / "versions" / "v2-qc.html").read_text()
    assert "3 scans added since version 1: sub-03, sub-05, sub-30." in page
    caplog.clear()
    assert ingest_cohort(config) == second
    assert "0 to read" in caplog.text

    # most of the source is not there
    for subject in subjects[10:20]:
        (scans / f"sub-{subject}.csv").rename(tmp_path / f"sub-{subject}.csv")
    with pytest.raises(SourceError, match=r"10 of the 23 scans of cohort 'study' are not in .*any more \(sub-10, "):
        ingest_cohort(config)
    assert len(held(config)[0]) == N - 2 + 1
    third = ingest_cohort(config.model_copy(update={"max_removed": 0.5}))
    assert_as_fresh(tmp_path, config, third)

    # withdrawn: the files that hold them go
    def expire(*words):
        return run_tables(["expire", "study", "--keep", "1", "--warehouse", config.warehouse, *words], cohorts=True)

    assert "study: versions would go: 1, 2; kept: 3" in expire("--dry-run")
    assert "study: versions gone: 1, 2; kept: 3" in expire("--grace-hours", "0")
    folder = local_path(third.uri)
    assert sorted(path.name[:3] for path in (folder / "versions").iterdir()) == ["v3-"] * 3  # with page, statistics
    assert {path.name for path in (folder / "data").iterdir()} == set(files_of(third, config))
    assert ingest_cohort(config) == third
    assert run_tables(["list", "--warehouse", config.warehouse], cohorts=True).count("\ncohort") >= 3


def test_ingest__interrupted_while_it_follows_goes_on(tmp_path, monkeypatch):
    write_study(tmp_path, [f"{i:02d}" for i in range(8)])
    config = config_of(tmp_path)
    first = ingest_cohort(config)
    write_scan(tmp_path / "scans", "02", series(77))
    (tmp_path / "scans" / "sub-03.csv").unlink()
    from boldstream.ingest import run

    for stage in ("judge_cohort", "set_aside", "changes_of"):
        with monkeypatch.context() as patch:
            patch.setattr(run, stage, interrupted)
            with pytest.raises(KeyboardInterrupt):
                ingest_cohort(config)
        assert open_cohort("study", config.warehouse).ref == first
    assert_as_fresh(tmp_path, config, ingest_cohort(config))


def interrupted(*_):
    raise KeyboardInterrupt

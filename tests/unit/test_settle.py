"""Runs over sources that change, without Ray: the tables end as those of a fresh run, wherever a run was killed.

With BOLDSTREAM_FAULTS=1 runs are killed before every one of their commits instead of some.
"""

import json
import os
import shutil

import pytest

from boldstream.artifacts.cohort import COHORT_QUARANTINE_SCHEMA, cohort_schema, cohort_tables, set_aside_table
from boldstream.artifacts.receipts import begin_run
from boldstream.config import digest_json
from boldstream.errors import SourceError
from boldstream.ingest.again import Held, set_aside
from boldstream.ingest.cohort_quality import judge_cohort
from boldstream.ingest.plan import plan_scans
from boldstream.ingest.regions import load_regions
from boldstream.ingest.shard import IngestTask, ingest_shard
from boldstream.storage import Warehouse, local_path
from synthetic import ingest_config, series, write_participants, write_scan, write_study

SUBJECTS = [f"{i:02d}" for i in range(8)]
RULES = {"duplicates": "quarantine"}


class KilledError(Exception):
    pass


class Killer:
    """Raises at the n-th commit of a run, before it."""

    def __init__(self, survives=None):
        self.left = survives

    def __call__(self):
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise KilledError


def run(config, killer=None):
    """Do what `ingest_cohort` does with its tables; return the keys that were read, and the tables."""
    plan = plan_scans(config)
    regions, schema = load_regions(config, plan.scans), cohort_schema(plan.phenotypes)
    place = Warehouse.at(config.warehouse)
    cohort, quarantine = cohort_tables(place, config.output)
    aside = set_aside_table(place, config.output)
    begin_run(cohort, quarantine, schema, {}, quarantine_schema=COHORT_QUARANTINE_SCHEMA, beside=[(aside, schema)])
    tables = Held(cohort, quarantine, aside)
    for one in vars(tables).values():
        one.guard = killer
    difference = tables.compare(plan.scans)
    difference.check_removals(config)
    task = IngestTask(config, regions, schema, cohort.uri, quarantine.uri)
    todo = difference.new
    for i in range(0, len(todo), config.shard_size):
        scans = json.dumps([scan.as_dict() for scan in todo[i : i + config.shard_size]])
        receipt = ingest_shard({"scans": scans}, task=task)
        for field, sink in (("shard", tables.cohort), ("quarantine", tables.quarantine)):
            sink.commit([receipt[field]] if receipt[field] else [])
    stands = cohort.versions and cohort.manifest().digest == digest(cohort)
    if todo or not stands or not difference.is_settled:
        tables.settle(plan.scans)
        set_aside(judge_cohort([cohort, aside], config.quality), tables)
        told = {"config": {}, "config_hash": "", "parents": [], "content": {}, "mlflow_run_id": None}
        cohort.publish(rows=1, digest=digest(cohort), **told)
    place.catalog.close()
    return [scan.scan_key for scan in todo], tables


def digest(cohort):
    return digest_json(sorted(zip(*cohort.column(["scan_key", "row_digest"]).to_pydict().values(), strict=True)))


def held(tables):
    """Return all that the tables hold, but where the files are."""
    return {
        name: sorted(one.table.iceberg.refresh().scan().to_arrow().to_pylist(), key=lambda row: row["scan_key"])
        for name, one in tables_of(tables)
    }


def tables_of(tables):
    return [(name, one.index) for name, one in vars(tables).items()]


def keys(tables, name):
    return [row["scan_key"] for row in held(tables)[name]]


@pytest.fixture
def study(tmp_path):
    write_study(tmp_path, SUBJECTS, n_timepoints=30)
    write_scan(tmp_path / "scans", "07", series(3, n_timepoints=30))  # 03 again
    (tmp_path / "scans" / "sub-05.csv").write_text("not a number\n")
    return ingest_config(tmp_path, quality=RULES, max_removed=0.5, shard_size=3)


@pytest.fixture
def fresh(study, tmp_path_factory):
    """Return a function that gives what a fresh run over the source makes."""

    def make():
        return held(run(study.model_copy(update={"warehouse": str(tmp_path_factory.mktemp("fresh"))}))[1])

    return make


def change(root):
    """Add, change, repair, break, correct and remove scans; 03 is withdrawn, so 07 is nobody's copy any more."""
    scans = root / "scans"
    write_scan(scans, "08", series(8, n_timepoints=30))
    write_scan(scans, "09", series(1, n_timepoints=30))  # 01 again
    write_scan(scans, "00", series(20, n_timepoints=30))
    write_scan(scans, "05", series(5, n_timepoints=30))
    (scans / "sub-04.csv").write_text("broken\n")
    (scans / "sub-03.csv").unlink()
    os.utime(scans / "sub-06.csv", (1, 1))
    write_participants(root, [*SUBJECTS, "08", "09"])
    table = root / "participants.tsv"
    table.write_text(table.read_text().replace("\t22\t", "\t72\t"))  # the age of 02
    return {"sub-08", "sub-09", "sub-00", "sub-05", "sub-04", "sub-06", "sub-02"}


def snapshots(tables):
    return [one.table.iceberg.refresh().current_snapshot() for _, one in tables_of(tables)]


def test_second_run__over_an_unchanged_source_reads_and_commits_nothing(study, fresh):
    read, tables = run(study)
    assert len(read) == 8
    assert keys(tables, "quarantine") == ["sub-03", "sub-05", "sub-07"]
    assert keys(tables, "aside") == ["sub-03", "sub-07"]
    assert len(keys(tables, "cohort")) == 5
    assert held(tables) == fresh()
    before = snapshots(tables)
    read, again = run(study)
    assert read == []
    assert snapshots(again) == before


def test_second_run__over_a_changed_source_ends_like_a_fresh_one(study, fresh, tmp_path):
    run(study)
    expected = change(tmp_path)
    read, tables = run(study)
    assert set(read) == expected  # 07, set aside because of 03, is not among them
    assert held(tables) == fresh()
    assert keys(tables, "quarantine") == ["sub-01", "sub-04", "sub-09"]
    assert keys(tables, "aside") == ["sub-01", "sub-09"]
    assert run(study)[0] == []


def test_scan_set_aside__that_changes_or_is_withdrawn_is_let_go_everywhere(study, fresh, tmp_path):
    run(study)
    write_scan(tmp_path / "scans", "03", series(33, n_timepoints=30))
    _, tables = run(study)
    assert keys(tables, "aside") == []
    assert held(tables) == fresh()
    write_scan(tmp_path / "scans", "03", series(3, n_timepoints=30))
    run(study)
    (tmp_path / "scans" / "sub-03.csv").unlink()
    (tmp_path / "scans" / "sub-07.csv").unlink()
    assert held(run(study)[1]) == fresh()


ALL = bool(os.environ.get("BOLDSTREAM_FAULTS"))


@pytest.mark.parametrize(
    ("case", "survived"),
    [("all", range(40) if ALL else (3, 9, 15)), ("only-broken", range(40) if ALL else (1, 2))],
    ids=["all", "only-broken"],
)
def test_second_run__killed_before_a_commit_is_finished_by_the_next(study, fresh, tmp_path, case, survived):
    run(study)
    warehouse, kept = local_path(study.warehouse), tmp_path / "kept"
    shutil.copytree(warehouse, kept)
    if case == "all":
        change(tmp_path)
    else:  # nothing to add or to judge: all that is left to do is to take a scan out
        (tmp_path / "scans" / "sub-04.csv").write_text("broken\n")
    expected = fresh()
    n_killed = 0
    for survives in survived:
        shutil.rmtree(warehouse)
        shutil.copytree(kept, warehouse)
        try:
            run(study, Killer(survives))
        except KilledError:
            n_killed += 1
            assert held(run(study)[1]) == expected, survives
    assert n_killed >= 2


def test_gone__in_numbers_that_look_like_an_accident_is_refused(study, tmp_path):
    _, tables = run(study)
    before = held(tables)
    for subject in SUBJECTS[:3]:
        (tmp_path / "scans" / f"sub-{subject}.csv").unlink()
    strict = study.model_copy(update={"max_removed": 0.2})
    with pytest.raises(
        SourceError, match=r"3 of the 8 scans of cohort 'study' are not in .*/scans any more \(sub-00, "
    ):
        run(strict)
    assert held(tables) == before
    _, tables = run(study.model_copy(update={"max_removed": 0.38}))
    assert keys(tables, "cohort") == ["sub-04", "sub-06"]

"""Runs over sources that change, without Ray: the tables end as those of a fresh run, wherever a run was killed."""

import os
import shutil

import numpy as np
import pytest

from boldstream.artifacts.cohort import cohort_schema
from boldstream.errors import CohortError, SourceError
from boldstream.ingest.outputs import Outputs
from boldstream.ingest.plan import plan_scans
from boldstream.ingest.regions import load_regions
from boldstream.ingest.settle import forget_removed, settle
from boldstream.ingest.shard import IngestTask, ingest_shard, shard_of
from boldstream.ingest.todo import check_removed, compare
from boldstream.storage import local_path
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
    """Do what `ingest_cohort` does with its tables; return the keys that were read, and the outputs."""
    plan = plan_scans(config)
    regions, schema = load_regions(config, plan.scans), cohort_schema(plan.phenotypes)
    outputs = Outputs.open(config.warehouse, config.output, schema, {})
    if killer:
        for one in vars(outputs).values():
            one.guard = killer
    todo = compare(plan, outputs)
    check_removed(todo, config, len(outputs.known))
    task = IngestTask(config, regions, schema, *outputs.uris)
    for i in range(0, len(todo.scans), config.shard_size):
        receipt = ingest_shard(shard_of(todo.scans[i : i + config.shard_size], todo.held), task=task)
        for field, sink in outputs.sinks.items():
            sink.commit([receipt[field]] if receipt[field] else [])
    settle(plan, outputs, config.quality)
    forget_removed(plan, outputs)
    return [scan.scan_key for scan in todo.scans], outputs


def held(outputs):
    """Return all that the tables hold, but where the files are."""
    return {
        name: sorted(one.table.iceberg.refresh().scan().to_arrow().to_pylist(), key=lambda row: row["scan_key"])
        for name, one in vars(outputs).items()
    }


def keys(outputs, name):
    return [row["scan_key"] for row in held(outputs)[name]]


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


def test_second_run__over_an_unchanged_source_reads_and_commits_nothing(study, fresh):
    read, outputs = run(study)
    assert len(read) == 8
    assert keys(outputs, "quarantine") == ["sub-03", "sub-05", "sub-07"]
    assert keys(outputs, "set_aside") == ["sub-03", "sub-07"]
    assert len(keys(outputs, "cohort")) == 5
    assert held(outputs) == fresh()
    before = [one.table.iceberg.refresh().current_snapshot() for one in vars(outputs).values()]
    read, again = run(study)
    assert read == []
    assert [one.table.iceberg.refresh().current_snapshot() for one in vars(again).values()] == before


def test_second_run__over_a_changed_source_ends_like_a_fresh_one(study, fresh, tmp_path):
    _, outputs = run(study)
    files = {uri: local_path(uri).read_bytes() for uri in outputs.cohort.table.current_files()}
    expected = change(tmp_path)
    read, outputs = run(study)
    assert set(read) == expected
    assert held(outputs) == fresh()
    assert keys(outputs, "quarantine") == ["sub-01", "sub-04", "sub-09"]
    assert keys(outputs, "set_aside") == ["sub-01", "sub-09"]
    assert "sub-03" not in keys(outputs, "stamps")
    now = outputs.cohort.table.current_files()
    assert {local_path(uri).read_bytes() == data for uri, data in files.items() if uri in now} == {True}
    assert run(study)[0] == []


def test_touched_files__are_read_once_and_change_nothing_but_their_stamps(study):
    _, outputs = run(study)
    before, files = held(outputs), outputs.cohort.table.current_files().keys()
    for path in local_path(study.source.root).iterdir():
        os.utime(path, (1, 1))
    read, outputs = run(study)
    assert len(read) == 8
    after = held(outputs)
    assert before.pop("stamps") != after.pop("stamps")
    assert after == before
    assert outputs.cohort.table.current_files().keys() == files
    assert run(study)[0] == []


def test_same_series_in_other_bytes__is_a_new_state_of_the_row(study, fresh, tmp_path):
    run(study)
    path = tmp_path / "scans" / "sub-01.csv"
    np.savetxt(path, np.loadtxt(path, delimiter=","), fmt="%.6f", delimiter=",")
    read, outputs = run(study)
    assert read == ["sub-01"]
    assert held(outputs) == fresh()


@pytest.mark.parametrize("first", [True, False], ids=["first-run", "second-run"])
def test_run__killed_before_any_of_its_commits_is_finished_by_the_next(study, fresh, tmp_path, first):
    warehouses = tmp_path / "warehouses"
    start = study.model_copy(update={"warehouse": str(warehouses / "start")})
    if not first:
        run(start)
        change(tmp_path)
    expected = fresh()
    for survives in range(60):
        # Iceberg's tables cannot be copied: every try makes its own
        config = study.model_copy(update={"warehouse": str(warehouses / str(survives))})
        if not first:
            shutil.copytree(tmp_path / "scans", tmp_path / "kept", copy_function=shutil.copy2)
        try:
            run(config, Killer(survives))
        except KilledError:
            pass
        else:
            break
        assert held(run(config)[1]) == expected
    assert survives > 4


def test_gone__in_numbers_that_look_like_an_accident_is_refused(study, tmp_path):
    _, outputs = run(study)
    before = held(outputs)
    for subject in SUBJECTS[:3]:
        (tmp_path / "scans" / f"sub-{subject}.csv").unlink()
    strict = study.model_copy(update={"max_removed": 0.2})
    with pytest.raises(
        SourceError,
        match=r"3 of the 8 scans that cohort 'study' was made of are gone from .*/scans \(sub-00, sub-01, sub-02\), more "
        r"than max_removed \(0.2\) of them: .* Nothing is changed; .* allow it once: --max-removed 0.38$",
    ):
        run(strict)
    assert held(outputs) == before
    _, outputs = run(study.model_copy(update={"max_removed": 0.38}))
    assert keys(outputs, "cohort") == ["sub-04", "sub-06"]
    # what has gone does not count the next time
    (tmp_path / "scans" / "sub-06.csv").unlink()
    assert keys(run(strict)[1], "cohort") == ["sub-04"]


def test_settle__refuses_to_go_on_without_a_scan(study):
    plan = plan_scans(study)
    _, outputs = run(study)
    outputs.stamps.remove(lambda rows: rows["scan_key"].is_valid())
    with pytest.raises(CohortError, match=r"8 of 8 scans are not in exactly one of cohort 'study' and its quarantine, fo"):
        settle(plan, outputs, study.quality)

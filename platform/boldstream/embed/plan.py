"""The plan of an embed run: the scans of the cohort version minus what the tables hold, from key columns alone."""

import json
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from boldstream.artifacts.cohort import Cohort
from boldstream.artifacts.embeddings import row_key
from boldstream.artifacts.keys import FILE, pairs, read_columns, rows_in
from boldstream.embed.outputs import ROW, Outputs
from boldstream.embed.task import DIGEST
from boldstream.errors import CohortError

KEYS = [pa.field("scan_key", pa.string()), pa.field(DIGEST, pa.string())]


@dataclass(frozen=True)
class EmbedPlan:
    """What a run has to do.

    Attributes
    ----------
    expected : pyarrow.Table
        ``row_key`` and ``scan_digest`` of every row that a complete table has, with ``scan_key`` and ``file``.
    units : list of str
        JSON, one a cohort file with scans to embed: ``file`` (URI) and ``attempts``: of every scan to embed how often
        it was tried before, or null where all of the file's scans are to be embedded for the first time.
    n_rows : int
        Rows to make.
    n_left : int
        Rows that failed too often and are not tried again.
    """

    expected: pa.Table
    units: list[str]
    n_rows: int
    n_left: int


def plan_rows(cohort: Cohort, outputs: Outputs, parts: int, max_attempts: int) -> EmbedPlan:
    """Compare a cohort version with the tables, and say what is left to embed.

    Reads the key and digest columns of both sides, no time series and no vectors.
    """
    expected = expected_rows(cohort, parts)
    outputs.refresh()
    lacking = expected.filter(pc.invert(rows_in(expected, outputs.done, ROW, ROW)))
    failed = outputs.failures.index.rows
    known = pc.index_in(pairs(lacking, ROW), value_set=pairs(failed, ROW).combine_chunks())
    attempts = pc.fill_null(failed["attempt"].take(known), 0)
    lacking = lacking.append_column("attempts", attempts)
    todo = lacking.filter(pc.less(attempts, max_attempts))
    return EmbedPlan(expected, _units(cohort, expected, todo), todo.num_rows, lacking.num_rows - todo.num_rows)


def expected_rows(cohort: Cohort, parts: int) -> pa.Table:
    """Return key and digest of every row that a complete table of the cohort version has."""
    scans = read_columns([file.uri for file in cohort.files], KEYS, CohortError)
    found = []
    for part in range(parts):
        ending = row_key("", part, parts)
        keys = pc.binary_join_element_wise(scans["scan_key"], ending, "") if ending else scans["scan_key"]
        columns = {"row_key": keys, "scan_digest": scans[DIGEST], "scan_key": scans["scan_key"], FILE: scans[FILE]}
        found.append(pa.table(columns))
    return pa.concat_tables(found)


def _units(cohort: Cohort, expected: pa.Table, todo: pa.Table) -> list[str]:
    """Return the units of work, in the order of the cohort's files."""
    whole = np.bincount(expected[FILE].to_numpy(), minlength=len(cohort.files))
    fresh = todo.filter(pc.equal(todo["attempts"], 0))
    counted = np.bincount(fresh[FILE].to_numpy(), minlength=len(cohort.files))
    sorted_todo = todo.sort_by(FILE)
    files = sorted_todo[FILE].to_numpy()
    units = []
    for place in np.unique(files):
        attempts = None
        if counted[place] < whole[place]:
            first, last = np.searchsorted(files, [place, place + 1])
            rows = sorted_todo.slice(first, last - first)
            attempts = dict(zip(rows["scan_key"].to_pylist(), rows["attempts"].to_pylist(), strict=True))
        units.append(json.dumps({"file": cohort.files[place].uri, "attempts": attempts}))
    return units

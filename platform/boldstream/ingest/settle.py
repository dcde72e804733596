"""Bring the tables of an ingest run to what a fresh run over the same source would have made."""

import pyarrow as pa
import pyarrow.compute as pc

from boldstream.artifacts.changes import states
from boldstream.artifacts.cohort import QUARANTINE_SCHEMA
from boldstream.artifacts.keys import rows_in
from boldstream.errors import CohortError, ScanError
from boldstream.ingest.cohort_quality import CohortQuality, judge_cohort
from boldstream.ingest.outputs import KEY, ROW, Outputs, is_refused, keys_of
from boldstream.ingest.plan import CohortPlan
from boldstream.ingest.shard import quarantine_row
from boldstream.parcellation.qc_rules import QualityRules


def settle(plan: CohortPlan, outputs: Outputs, rules: QualityRules) -> CohortQuality:
    """Take out what the source does not have any more, judge all scans beside each other, and sort them anew.

    Every step looks at the tables as they are and can be done again: what an interrupted run left undone, the next one
    finishes. Scans that rules over the cohort set aside are judged with the others every time, and come back where
    nothing speaks against them any more.

    Raises
    ------
    CohortError
        If a scan of the source is in neither cohort nor quarantine after that, or in both.
    """
    keys = pa.array([scan.scan_key for scan in plan.scans], pa.string())
    rows = outputs.stamps.refresh()
    expected = rows.filter(pc.is_in(rows[KEY], value_set=keys))
    for one in (outputs.cohort, outputs.set_aside):
        one.remove(lambda held: pc.invert(rows_in(held, expected, ROW, ROW)))
    quality = judge_cohort([outputs.cohort.index.table, outputs.set_aside.index.table], rules)
    _set_aside(quality, outputs)
    refused = {key for key, state in states(expected).items() if is_refused(state)}
    out = pa.array(sorted(refused | quality.set_aside.keys()), pa.string())
    outputs.quarantine.remove(lambda held: pc.invert(pc.is_in(held[KEY], value_set=out)))
    _check_whole(outputs, set(keys.to_pylist()))
    return quality


def forget_removed(plan: CohortPlan, outputs: Outputs) -> None:
    """Take scans that are gone out of the stamps: the last step, until which every run lists them as removed."""
    keys = pa.array([scan.scan_key for scan in plan.scans], pa.string())
    outputs.stamps.remove(lambda held: pc.invert(pc.is_in(held[KEY], value_set=keys)))


def _set_aside(quality: CohortQuality, outputs: Outputs) -> None:
    """Move scans that a rule over the cohort quarantines out of it, and those that none does any more back.

    A row is written where it goes before it is taken out where it was: whoever is interrupted in between finds it in
    both, in the same state.
    """
    out = quality.set_aside
    uris = dict(zip(quality.rows[KEY], quality.rows["source_uri"], strict=True))
    told = [quarantine_row(key, ScanError("quality", found.message), uris[key]) for key, found in sorted(out.items())]
    outputs.quarantine.add_rows(pa.Table.from_pylist(told, QUARANTINE_SCHEMA))
    for from_, to, moved in (
        (outputs.cohort, outputs.set_aside, sorted(keys_of(outputs.cohort) & out.keys())),
        (outputs.set_aside, outputs.cohort, sorted(keys_of(outputs.set_aside) - out.keys())),
    ):
        gone = pa.array(moved, pa.string())
        from_.copy_rows(moved, to)
        from_.remove(lambda held, gone=gone: pc.is_in(held[KEY], value_set=gone))


def _check_whole(outputs: Outputs, planned: set[str]) -> None:
    """Refuse to go on where a scan is lost or doubled.

    Raises
    ------
    CohortError
    """
    kept, refused = keys_of(outputs.cohort), keys_of(outputs.quarantine)
    if wrong := sorted((planned ^ (kept | refused)) | (kept & refused)):
        name = outputs.cohort.index.table.name
        raise CohortError(
            f"{len(wrong)} of {len(planned)} scans are not in exactly one of cohort {name!r} and its quarantine, for "
            f"example {wrong[0]}: another run may be changing it; nothing is published, run the same command again"
        )

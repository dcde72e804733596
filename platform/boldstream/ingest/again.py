"""What an ingest finds done already, and how its tables come to hold just what the source holds now."""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from boldstream.artifacts.cohort import COHORT_QUARANTINE_SCHEMA
from boldstream.artifacts.commit import Committer
from boldstream.artifacts.keys import rows_in
from boldstream.artifacts.tables import VersionedTable
from boldstream.errors import ScanError, SourceError, few_of
from boldstream.ingest.cohort_quality import AMONG_OTHERS, CohortQuality
from boldstream.ingest.config import IngestConfig
from boldstream.ingest.plan import ScanPlan
from boldstream.ingest.shard import quarantine_row

STATE = ["scan_key", "source_stamp"]
SHOWN = 5


class Held:
    """The scans that a cohort and its quarantine hold, by key and stamp.

    Parameters
    ----------
    cohort, quarantine : VersionedTable
    aside : VersionedTable
        Scans of the quarantine that only rules over the whole cohort set aside, with their series: they are judged
        with the others again, without being read, and may come back.
    """

    def __init__(self, cohort: VersionedTable, quarantine: VersionedTable, aside: VersionedTable) -> None:
        self.cohort = Committer(cohort, "scan_key", ["source_stamp"], ["row_digest"])
        self.quarantine = Committer(quarantine, "scan_key", ["source_stamp", "reason", "message"])
        self.aside = Committer(aside, "scan_key", ["source_stamp"])

    def compare(self, scans: list[ScanPlan]) -> "Difference":
        """Look at the tables as they are now, beside what the source holds."""
        return Difference(scans, self.cohort.refresh(), self.quarantine.refresh(), self.aside.refresh())

    def settle(self, scans: list[ScanPlan]) -> None:
        """Take out what the source does not hold, or no longer so, and what stands in both tables.

        A scan in both was read again, or was being set aside by a rule over the cohort when the run ended; the rules
        look at all scans next, those set aside before included.
        """
        wanted = wanted_states(scans)
        for one in (self.cohort, self.aside):
            one.remove(lambda rows: pc.invert(rows_in(rows, wanted, STATE, STATE)))
        kept = _keys(self.cohort.index.rows)
        self.quarantine.remove(
            lambda rows: pc.or_(
                pc.invert(rows_in(rows, wanted, STATE, STATE)), pc.is_in(rows["scan_key"], value_set=kept)
            )
        )


def wanted_states(scans: list[ScanPlan]) -> pa.Table:
    """Return key and stamp of every scan of a source."""
    return pa.table([[scan.scan_key for scan in scans], [scan.stamp for scan in scans]], names=STATE)


def set_aside(quality: CohortQuality, held: Held) -> None:
    """Move scans that a rule over the cohort quarantines out of it, and those that none does any more back into it.

    A row is written where it goes before it is taken out where it was: whoever is interrupted in between finds it in
    both, and the same command takes it out.
    """
    out = quality.set_aside
    files = quality.rows.set_index("scan_key")[["source_uri", "source_stamp"]].to_dict("index")
    told = [
        quarantine_row(
            key, ScanError(AMONG_OTHERS, found.message), files[key]["source_uri"], files[key]["source_stamp"]
        )
        for key, found in sorted(out.items())
    ]
    held.quarantine.add_rows(pa.Table.from_pylist(told, COHORT_QUARANTINE_SCHEMA))
    _move(held.cohort, held.aside, set(_keys(held.cohort.refresh()).to_pylist()) & out.keys())
    _move(held.aside, held.cohort, set(_keys(held.aside.refresh()).to_pylist()) - out.keys())
    back = pa.array([key for key in quality.decisions if key not in out], pa.string())
    held.quarantine.remove(lambda rows: pc.is_in(rows["scan_key"], value_set=back))


def _move(source: Committer, target: Committer, keys: set[str]) -> None:
    moved = sorted(keys)
    source.copy_rows(moved, target)
    source.remove(lambda rows: pc.is_in(rows["scan_key"], value_set=pa.array(moved, pa.string())))


def _keys(rows: pa.Table) -> pa.Array:
    return rows["scan_key"].combine_chunks()


@dataclass(frozen=True)
class Difference:
    """What a source holds beside what a cohort's tables hold.

    Attributes
    ----------
    scans : list of ScanPlan
        Of the source.
    cohort, quarantine, aside : pyarrow.Table
        Index of the tables: ``scan_key``, ``source_stamp``, and ``reason`` in quarantine.
    """

    scans: list[ScanPlan]
    cohort: pa.Table
    quarantine: pa.Table
    aside: pa.Table

    @cached_property
    def _stamps(self) -> dict[str, set[str]]:
        """Stamps of the scans whose outcome is there, by key: a row in one of the tables, or a reason of their own."""
        own = self.quarantine.filter(pc.not_equal(self.quarantine["reason"], AMONG_OTHERS))
        found: dict[str, set[str]] = {}
        for rows in (self.cohort, own, self.aside):
            for key, stamp in zip(rows["scan_key"].to_pylist(), rows["source_stamp"].to_pylist(), strict=True):
                found.setdefault(key, set()).add(stamp)
        return found

    @cached_property
    def new(self) -> list[ScanPlan]:
        """Scans of which nothing is known, or something else."""
        return [scan for scan in self.scans if scan.stamp not in self._stamps.get(scan.scan_key, ())]

    @cached_property
    def known(self) -> set[str]:
        """Keys of all scans in any of the tables."""
        return {key for rows in (self.cohort, self.quarantine, self.aside) for key in rows["scan_key"].to_pylist()}

    @cached_property
    def gone(self) -> list[str]:
        """Keys that the source does not hold any more."""
        return sorted(self.known - {scan.scan_key for scan in self.scans})

    @property
    def is_settled(self) -> bool:
        """Whether every scan is in one table only, in the state it has now; a run that was killed may leave more."""
        wanted = wanted_states(self.scans)
        held = [self.cohort, self.quarantine]
        n_rows = sum(rows.num_rows for rows in held)
        aside = self.quarantine.filter(pc.equal(self.quarantine["reason"], AMONG_OTHERS))
        return (
            n_rows == len({key for rows in held for key in rows["scan_key"].to_pylist()})
            and all(pc.all(rows_in(rows, wanted, STATE, STATE)).as_py() is not False for rows in (*held, self.aside))
            and sorted(aside["scan_key"].to_pylist()) == sorted(self.aside["scan_key"].to_pylist())
        )

    def check_removals(self, config: IngestConfig) -> None:
        """Refuse to let most of a cohort go.

        Raises
        ------
        SourceError
            If a larger share of the scans than `max_removed` is gone.
        """
        if len(self.gone) > config.max_removed * len(self.known):
            raise SourceError(
                f"{len(self.gone)} of the {len(self.known)} scans of cohort {config.output!r} are not in "
                f"{config.source.root} any more ({few_of(self.gone, SHOWN)}); if they were withdrawn, --max-removed 1 "
                "lets them go; if not, look whether everything is mounted and nothing is renamed"
            )


def changes_of(
    cohort: VersionedTable, rows: pa.Table, gone: Collection[str], refused: Collection[str]
) -> dict[str, Any]:
    """Return which keys came, changed and went since the newest version, as the next one's manifest tells them.

    Parameters
    ----------
    cohort : VersionedTable
    rows : pyarrow.Table
        ``scan_key`` and ``row_digest`` of the next version.
    gone : collection of str
        Scans that are gone from the source; they may have been in quarantine only.
    refused : collection of str
        Scans that are in quarantine now: those of them that the newest version has are no withdrawals.
    """
    if not cohort.versions:
        return {}
    newest = cohort.newest()
    columns = ["scan_key", "row_digest"]
    before, now = (
        dict(zip(found["scan_key"].to_pylist(), found["row_digest"].to_pylist(), strict=True))
        for found in (cohort.column(columns, newest), rows)
    )
    return {
        "since": newest,
        "added": sorted(now.keys() - before.keys()),
        "changed": sorted(key for key in now.keys() & before.keys() if now[key] != before[key]),
        "removed": sorted(((before.keys() - now.keys()) | set(gone)) - set(refused)),
        "quarantined": sorted((before.keys() - now.keys()) & set(refused)),
    }


def tell_changes(changes: dict[str, Any]) -> list[str]:
    """Say in sentences what `changes_of` found, for the quality page; nothing of a first version."""
    return [f"{told}: {few_of(changes[verb], SHOWN)}." for verb, told in _changed(changes)]


def count_changes(changes: dict[str, Any]) -> list[str]:
    """Say the same without naming a scan, for the log and the run's page."""
    return [told for _, told in _changed(changes)]


def _changed(changes: dict[str, Any]) -> list[tuple[str, str]]:
    verbs = [verb for verb in ("added", "changed", "removed", "quarantined") if changes.get(verb)]
    return [(verb, f"{len(changes[verb])} scans {verb} since version {changes['since']}") for verb in verbs]

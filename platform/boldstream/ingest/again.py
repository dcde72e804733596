"""What an ingest finds done already, and how its two tables come to hold just what the source holds now."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from boldstream.artifacts.commit import Committer
from boldstream.artifacts.keys import rows_in
from boldstream.artifacts.tables import VersionedTable
from boldstream.errors import SourceError
from boldstream.ingest.cohort_quality import AMONG_OTHERS
from boldstream.ingest.config import IngestConfig
from boldstream.ingest.plan import ScanPlan

STATE = ["scan_key", "source_stamp"]
SHOWN = 5


class Held:
    """The scans that a cohort and its quarantine hold, by key and stamp.

    Parameters
    ----------
    cohort, quarantine : VersionedTable
    """

    def __init__(self, cohort: VersionedTable, quarantine: VersionedTable) -> None:
        self.cohort = Committer(cohort, "scan_key", ["source_stamp"], ["row_digest"])
        self.quarantine = Committer(quarantine, "scan_key", ["source_stamp"], ["reason"])

    def compare(self, scans: list[ScanPlan]) -> "Difference":
        """Look at the tables as they are now, beside what the source holds."""
        return Difference(scans, self.cohort.refresh(), self.quarantine.refresh())

    def settle(self, scans: list[ScanPlan]) -> None:
        """Take out what the source does not hold, or no longer so, and what stands in both tables.

        A scan in both was read again, or was being set aside by a rule over the cohort when the run ended; the rules
        look at all scans of the cohort next.
        """
        wanted = pa.table({name: [getattr(scan, field) for scan in scans] for name, field in FIELDS.items()})
        self.cohort.remove(lambda rows: pc.invert(rows_in(rows, wanted, STATE, STATE)))
        kept = self.cohort.refresh()["scan_key"].combine_chunks()
        self.quarantine.remove(
            lambda rows: pc.or_(
                pc.invert(rows_in(rows, wanted, STATE, STATE)), pc.is_in(rows["scan_key"], value_set=kept)
            )
        )


FIELDS = {"scan_key": "scan_key", "source_stamp": "stamp"}


@dataclass(frozen=True)
class Difference:
    """What a source holds beside what a cohort's two tables hold.

    Attributes
    ----------
    scans : list of ScanPlan
        Of the source.
    cohort, quarantine : pyarrow.Table
        Index of the tables: ``scan_key``, ``source_stamp``, and ``reason`` in quarantine.
    """

    scans: list[ScanPlan]
    cohort: pa.Table
    quarantine: pa.Table

    @cached_property
    def _stamps(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for rows in (self.cohort, self.quarantine):
            for key, stamp in zip(rows["scan_key"].to_pylist(), rows["source_stamp"].to_pylist(), strict=True):
                found.setdefault(key, set()).add(stamp)
        return found

    @cached_property
    def new(self) -> list[ScanPlan]:
        """Scans of which nothing is known, or something else."""
        return [scan for scan in self.scans if scan.stamp not in self._stamps.get(scan.scan_key, ())]

    @cached_property
    def gone(self) -> list[str]:
        """Keys that the source does not hold any more."""
        return sorted(self._stamps.keys() - {scan.scan_key for scan in self.scans})

    @property
    def set_aside(self) -> list[ScanPlan]:
        """Scans out of the cohort only because of how they compare with the others; among others they may stay."""
        rows = self.quarantine.filter(pc.equal(self.quarantine["reason"], AMONG_OTHERS))
        out = set(rows["scan_key"].to_pylist()) - set(self.cohort["scan_key"].to_pylist())
        read = {scan.scan_key for scan in self.new}
        return [scan for scan in self.scans if scan.scan_key in out - read]

    def check_removals(self, config: IngestConfig) -> None:
        """Refuse to let most of a cohort go.

        Raises
        ------
        SourceError
            If a larger share of the scans than `max_removed` is gone.
        """
        if len(self.gone) > config.max_removed * len(self._stamps):
            raise SourceError(
                f"{len(self.gone)} of the {len(self._stamps)} scans of cohort {config.output!r} are not in "
                f"{config.source.root} any more ({shown(self.gone)}); if they were withdrawn, --max-removed 1 lets "
                "them go; if not, look whether everything is mounted and nothing is renamed"
            )


def changes_of(cohort: VersionedTable, rows: pa.Table) -> dict[str, Any]:
    """Return which keys came, changed and went since the newest version, as the next one's manifest tells them."""
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
        "removed": sorted(before.keys() - now.keys()),
    }


def tell_changes(changes: dict[str, Any]) -> list[str]:
    """Say in sentences what `changes_of` found; nothing of a first version."""
    if not changes:
        return []
    return [
        f"{len(keys)} scans {verb} since version {changes['since']}: {shown(keys)}."
        for verb in ("added", "changed", "removed")
        if (keys := changes[verb])
    ]


def shown(keys: list[str]) -> str:
    """Return a few keys for a message, and how many more there are."""
    rest = len(keys) - SHOWN
    return ", ".join(keys[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")

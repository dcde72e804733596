"""The four tables of an ingest run: cohort, quarantine, scans set aside by rules over the cohort, and stamps."""

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from boldstream.artifacts.changes import states
from boldstream.artifacts.cohort import ROW_STATE, STAMPS_SCHEMA, cohort_tables, tables_beside
from boldstream.artifacts.commit import Committer
from boldstream.artifacts.receipts import begin_run
from boldstream.storage import Warehouse

KEY = "scan_key"
ROW = (KEY, *ROW_STATE)
REFUSED_STATE = ("reason", "message", "source_uri")


@dataclass(frozen=True)
class Outputs:
    """Where a run commits to.

    Whatever the cohort, the quarantine and the scans set aside hold, the stamps say of every scan which row it gave
    when it was last read, or that it gave none: what does not fit is what an interrupted run has left.

    Attributes
    ----------
    cohort, quarantine, set_aside, stamps : Committer
    """

    cohort: Committer
    quarantine: Committer
    set_aside: Committer
    stamps: Committer

    @classmethod
    def open(cls, warehouse: str, name: str, schema: pa.Schema, identity: dict[str, Any]) -> "Outputs":
        """Create the tables or go on with them.

        Raises
        ------
        OutputExistsError
            If they exist and were made with other settings.
        """
        place = Warehouse.at(warehouse)
        cohort, quarantine = cohort_tables(place, name)
        aside, stamps = tables_beside(place, name)
        begin_run(cohort, quarantine, schema, identity, beside=[(aside, schema), (stamps, STAMPS_SCHEMA)])
        return cls(
            Committer(cohort, KEY, ROW_STATE),
            Committer(quarantine, KEY, REFUSED_STATE),
            Committer(aside, KEY, ROW_STATE),
            Committer(stamps, KEY, ("stamp", *ROW_STATE)),
        )

    @property
    def sinks(self) -> dict[str, Committer]:
        """The tables by the receipts' fields. A scan is stamped last: a run that is killed before reads it again."""
        return {"shard": self.cohort, "quarantine": self.quarantine, "stamps": self.stamps}

    @property
    def uris(self) -> list[str]:
        """Where the sinks' tables live."""
        return [one.index.table.uri for one in self.sinks.values()]

    def refresh(self) -> None:
        """Look at the tables as they are now."""
        for one in (self.cohort, self.quarantine, self.set_aside, self.stamps):
            one.refresh()

    @property
    def known(self) -> set[str]:
        """Keys of all scans in any of the tables."""
        tables = (self.cohort, self.quarantine, self.set_aside, self.stamps)
        return {key for one in tables for key in keys_of(one)}

    def read_before(self) -> dict[str, tuple[str, tuple[str, ...]]]:
        """Return stamp and `ROW_STATE` of the scans whose outcome is where it should be."""
        rows = self.stamps.index.rows
        held = [states(one.index.rows) for one in (self.cohort, self.set_aside)]
        refused = keys_of(self.quarantine)
        stamps = dict(zip(rows[KEY].to_pylist(), rows["stamp"].to_pylist(), strict=True))
        return {
            key: (stamps[key], state)
            for key, state in states(rows).items()
            if any(table.get(key) == state for table in held) or (is_refused(state) and key in refused)
        }


def keys_of(one: Committer) -> set[str]:
    """Return the keys that a table holds."""
    return set(one.index.rows[KEY].to_pylist())


def is_refused(state: tuple[str, ...]) -> bool:
    """Say whether a stamped scan went to quarantine."""
    return not any(state)

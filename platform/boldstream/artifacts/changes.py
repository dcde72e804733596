"""What has changed between two versions of a cohort, scan by scan."""

from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from boldstream.artifacts.cohort import ROW_STATE
from boldstream.artifacts.tables import VersionedTable


@dataclass(frozen=True)
class CohortChanges:
    """Scans that came, changed and went since a version; keys, sorted.

    Attributes
    ----------
    version : str
        The version before.
    added, changed : tuple of str
    removed : tuple of str
        Gone from the source.
    quarantined : tuple of str
        Still in the source, but in quarantine now.
    """

    version: str
    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    quarantined: tuple[str, ...] = ()

    def as_content(self) -> dict[str, Any]:
        """Return JSON types, for a manifest."""
        return {name: list(found) if isinstance(found, tuple) else found for name, found in asdict(self).items()}

    @classmethod
    def from_content(cls, content: dict[str, Any]) -> "CohortChanges":
        """Return what `as_content` has written."""
        return cls(content["version"], *(tuple(content[name]) for name in FATES))

    def __str__(self) -> str:
        told = [f"{len(keys)} {fate}" for fate in FATES if (keys := getattr(self, fate))]
        return f"since version {self.version}: {', '.join(told) or 'nothing changed'}"


FATES = ("added", "changed", "removed", "quarantined")


def changes_since(
    cohort: VersionedTable, version: str, now: pa.Table, *, refused: Collection[str], withdrawn: Collection[str] = ()
) -> CohortChanges:
    """Compare a version of a cohort with rows of another one, by key and state.

    Parameters
    ----------
    cohort : VersionedTable
    version : str
        The version before.
    now : pyarrow.Table
        ``scan_key`` and `ROW_STATE` of the rows to compare with it.
    refused : collection of str
        Scans that are in quarantine.
    withdrawn : collection of str
        Scans known to be gone, perhaps from quarantine.
    """
    before, after = states(cohort.column(["scan_key", *ROW_STATE], version)), states(now)
    gone = before.keys() - after.keys()
    return CohortChanges(
        version,
        added=tuple(sorted(after.keys() - before.keys())),
        changed=tuple(sorted(key for key, state in after.items() if before.get(key, state) != state)),
        removed=tuple(sorted((gone | set(withdrawn)) - set(refused))),
        quarantined=tuple(sorted(gone & set(refused))),
    )


def states(rows: pa.Table) -> dict[str, tuple[str, ...]]:
    """Return the `ROW_STATE` of every row by its key."""
    columns = [rows[name].to_pylist() for name in ROW_STATE]
    return dict(zip(rows["scan_key"].to_pylist(), zip(*columns, strict=True), strict=True))

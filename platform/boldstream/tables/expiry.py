"""Let old versions of a table go, with the files that only they need."""

import datetime
from dataclasses import dataclass, field

from boldstream.artifacts import cohort, embeddings
from boldstream.artifacts.tables import VersionedTable
from boldstream.artifacts.versions import Expiry, StoredFile, expire, plan_expiry, table_names
from boldstream.errors import ConfigError, EmbeddingsError
from boldstream.table_registry import RegisteredTable, mark_expired, registered_table
from boldstream.tables.find import find_table
from boldstream.tables.limits import GRACE_HOURS
from boldstream.tracking import tracking_address


@dataclass(frozen=True)
class Expired:
    """What went, or would go, of a table, its quarantine and its failures.

    Attributes
    ----------
    name : str
    table : Expiry
    protected : dict of str to list of str
        Versions that an alias means, with these aliases.
    files : list of StoredFile
        Of all three.
    left : dict of str to int
        Of a cohort: versions of embedding tables (``name@version``) that hold scans which the cohort has let go, with
        their number.
    """

    name: str
    table: Expiry
    protected: dict[str, list[str]]
    files: list[StoredFile]
    is_dry: bool
    left: dict[str, int] = field(default_factory=dict)

    @property
    def n_bytes(self) -> int:
        """Bytes of the files."""
        return sum(file.size for file in self.files)


def expire_table(
    pointer: str, warehouse: str, keep: int, *, grace_hours: float = GRACE_HOURS, dry_run: bool = False
) -> Expired:
    """Let all versions go but the newest `keep` and those that an alias means, and remove the files only they need.

    What an unfinished run has written stays. Files that nothing refers to (a killed worker's shards) go once they
    are `grace_hours` old.

    Raises
    ------
    ArtifactError
        If there is no such table, it is not whole, or it is an embedding table whose registry (which knows the
        champion) is not this one.
    ConfigError
        If `keep` or `grace_hours` cannot be meant.
    StorageError
        If the table is being written to.
    """
    if keep < 1:
        raise ConfigError(f"--keep: the newest version always stays, so at least 1, got {keep}")
    if not grace_hours >= 0:
        raise ConfigError(f"--grace-hours: at least 0, got {grace_hours:g}")
    table, version = find_table(pointer, warehouse)
    if version is not None:
        raise ConfigError(f"expire: name the table without a version, got {pointer!r}")
    is_cohort = table.kind == cohort.KIND
    known = None if is_cohort else _registered(table)
    protected: dict[str, list[str]] = {}
    for alias, one in sorted(known.aliases.items()) if known else ():
        protected.setdefault(one.version, []).append(alias)
    grace = datetime.timedelta(hours=grace_hours)
    plan = plan_expiry(table, keep, protected, grace)
    kinds = [cohort.QUARANTINE_KIND] if is_cohort else [embeddings.QUARANTINE_KIND, embeddings.FAILURES_KIND]
    beside = [VersionedTable(table.warehouse, kind, table.name, table.error) for kind in kinds]
    plans = [(table, plan), *((one, plan_expiry(one, 1, plan.kept, grace)) for one in beside if one.exists)]
    left = _left_in_embeddings(table) if is_cohort else {}
    if dry_run:
        return Expired(table.name, plan, protected, [file for _, one in plans for file in one.files], True, left)
    manifests = {gone: table.manifest(gone) for gone in plan.versions}
    files = [file for owner, one in plans for file in expire(owner, one)]
    for gone, manifest in manifests.items():
        if known and (entry := known.find(gone, manifest.digest)):
            mark_expired(known, entry)
    return Expired(table.name, plan, protected, files, False, left)


def _left_in_embeddings(table: VersionedTable) -> dict[str, int]:
    """Count, in versions of embedding tables made of a cohort, the scans that its newest version does not have."""
    there = set(table.column(["scan_key"], table.newest())["scan_key"].to_pylist())
    left: dict[str, int] = {}
    for name in table_names(table.warehouse, embeddings.KIND):
        made = VersionedTable(table.warehouse, embeddings.KIND, name, EmbeddingsError)
        for version in made.versions:
            if table.uri in {parent.uri for parent in made.manifest(version).parents}:
                gone = set(made.column(["scan_key"], version)["scan_key"].to_pylist()) - there
                left |= {f"{name}@{version}": len(gone)} if gone else {}
    return left


def _registered(table: VersionedTable) -> RegisteredTable:
    """Return what the registry knows of a table; without it nobody can tell which version is the champion."""
    known = registered_table(table.uri)
    if known is None:
        raise EmbeddingsError(
            f"the registry at {tracking_address()} does not know table {table.name!r}, so nobody can tell its "
            "champion, and nothing expires; set MLFLOW_TRACKING_URI to the registry that its runs used, or "
            f"choose one with `boldstream tables promote {table.name}@{table.newest()}`"
        )
    return known

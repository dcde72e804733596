"""Let old versions of an embedding table go, with the files that only they need."""

import datetime
from dataclasses import dataclass

from boldstream.artifacts.embeddings import FAILURES_KIND, QUARANTINE_KIND
from boldstream.artifacts.tables import VersionedTable
from boldstream.artifacts.versions import Expiry, StoredFile, expire, plan_expiry
from boldstream.errors import ConfigError, EmbeddingsError
from boldstream.table_registry import RegisteredTable, mark_expired, registered_table
from boldstream.tables.find import check_embeddings, find_table
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
    """

    name: str
    table: Expiry
    protected: dict[str, list[str]]
    files: list[StoredFile]
    is_dry: bool

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
        If there is no such embedding table, it is not whole, or its registry (which knows the champion) is not
        this one.
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
    check_embeddings(table)
    if version is not None:
        raise ConfigError(f"expire: name the table without a version, got {pointer!r}")
    known = _registered(table)
    protected: dict[str, list[str]] = {}
    for alias, one in sorted(known.aliases.items()):
        protected.setdefault(one.version, []).append(alias)
    grace = datetime.timedelta(hours=grace_hours)
    plan = plan_expiry(table, keep, protected, grace)
    beside = [
        VersionedTable(table.warehouse, kind, table.name, EmbeddingsError) for kind in (QUARANTINE_KIND, FAILURES_KIND)
    ]
    plans = [(table, plan), *((one, plan_expiry(one, 1, plan.kept, grace)) for one in beside if one.exists)]
    if dry_run:
        return Expired(table.name, plan, protected, [file for _, one in plans for file in one.files], True)
    manifests = {gone: table.manifest(gone) for gone in plan.versions}
    files = [file for owner, one in plans for file in expire(owner, one)]
    for gone, manifest in manifests.items():
        if entry := known.find(gone, manifest.digest):
            mark_expired(known, entry)
    return Expired(table.name, plan, protected, files, False)


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

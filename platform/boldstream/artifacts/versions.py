"""Versions of tables: by alias, streamed whole, and expired together with the files that only they refer to."""

import datetime
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.fs as pafs

from boldstream.artifacts.tables import VersionedTable
from boldstream.errors import StorageError
from boldstream.storage import Warehouse, filesystem
from boldstream.table_registry import resolve_table_alias

if TYPE_CHECKING:
    from pyiceberg.table import Table
    from pyiceberg.table.snapshots import Snapshot

MANIFESTS = "versions/"
"""Folder of the versions' manifests, below the table; ``data/`` and ``metadata/`` are Iceberg's."""

BESIDE = re.compile(rf"{MANIFESTS}v(?P<version>\d+)-")


@dataclass(frozen=True)
class StoredFile:
    """A file below a table: path on its filesystem, path below the table, bytes, and when it was written (UTC)."""

    path: str
    name: str
    size: int
    written: datetime.datetime


@dataclass(frozen=True)
class Expiry:
    """What goes when versions of a table expire.

    Attributes
    ----------
    versions, kept : list of str
        Versions that go and that stay, oldest first.
    snapshots : list of int
        Iceberg snapshots that go: those of the versions, and those between versions.
    files : list of StoredFile
        Files that go: nothing that stays refers to them.
    young : list of StoredFile
        Files that nothing refers to, but so young that a run may be about to; they stay.
    """

    versions: list[str]
    kept: list[str]
    snapshots: list[int]
    files: list[StoredFile]
    young: list[StoredFile]


def table_names(warehouse: Warehouse, kind: str) -> list[str]:
    """List the tables of a kind that the catalog knows, sorted."""
    from pyiceberg.exceptions import NoSuchNamespaceError

    try:
        return sorted(identifier[-1] for identifier in warehouse.catalog.list_tables(kind))
    except NoSuchNamespaceError:
        return []


def resolve_version(table: VersionedTable, version: str | None) -> str:
    """Return the version that a number, an alias (``champion``) or None (the newest) means now.

    Raises
    ------
    ArtifactError
        If there is no such version or alias, or an alias means a version of another table that had this name.
    """
    if version is None:
        return table.newest()
    if version.isdigit():
        return table.manifest(version).version
    meant = resolve_table_alias(table.uri, version)
    found = table.manifest(meant.version)
    if found.digest != meant.digest:
        raise table.error(
            f"{table.name}@{version} is version {meant.version} with sha256 {meant.digest[:12]} in the registry, but "
            f"that version has {found.digest[:12]}: the table was made anew since; promote one of its versions "
            f"({', '.join(table.versions)})"
        )
    return meant.version


def iter_batches(table: VersionedTable, version: str, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Stream the rows of a version, all columns or some, never the whole table in memory."""
    snapshot = table.iceberg.snapshot_by_name(f"v{version}")
    if snapshot is None:
        raise table.error(f"{table.name!r} has no version {version!r}")
    fields = tuple(columns) if columns is not None else ("*",)
    yield from table.iceberg.scan(snapshot_id=snapshot.snapshot_id, selected_fields=fields).to_arrow_batch_reader()


def plan_expiry(table: VersionedTable, keep: int, protected: Collection[str], grace: datetime.timedelta) -> Expiry:
    """Find out what goes if only the newest `keep` versions stay, and those protected.

    What the table holds now stays in any case, so that a run that was interrupted can go on.

    Parameters
    ----------
    table : VersionedTable
    keep : int
        At least 1.
    protected : collection of str
        Versions that stay whatever their age.
    grace : timedelta
        Files that nothing refers to stay so long: a worker may have written them for a commit to come.

    Raises
    ------
    ArtifactError
        If files that stay are not where they should be: then nothing can be told, and nothing goes.
    """
    if keep < 1:
        raise ValueError(f"at least one version is kept, got keep={keep}")
    iceberg = table.iceberg.refresh()
    versions = table.versions
    kept = [version for version in versions if version in {*versions[-keep:], *protected}]
    gone = [version for version in versions if version not in kept]
    tags = {f"v{version}" for version in gone}
    heads = {ref.snapshot_id for name, ref in iceberg.metadata.refs.items() if name not in tags}
    living = [one for one in iceberg.metadata.snapshots if one.snapshot_id in heads]
    ending = [one for one in iceberg.metadata.snapshots if one.snapshot_id not in heads]
    needed = _paths(_referenced(iceberg, living) | _metadata_files(iceberg))
    stored = _stored_files(table)
    if missing := sorted(needed - {file.path for file in stored}):
        raise table.error(
            f"{table.kind.rstrip('s')} {table.name!r} is not whole ({missing[0]} is missing), so nothing is removed; "
            "restore the file or make the table again from its sources"
        )
    freed = _paths(_referenced(iceberg, ending))
    freed |= {file.path for file in stored if _belongs(file, table, gone)}
    needed |= {file.path for file in stored if _belongs(file, table, kept)}
    oldest = datetime.datetime.now(datetime.UTC) - grace
    unneeded = [file for file in stored if file.path not in needed]
    return Expiry(
        versions=gone,
        kept=kept,
        snapshots=[one.snapshot_id for one in ending],
        files=[file for file in unneeded if file.path in freed or file.written <= oldest],
        young=[file for file in unneeded if file.path not in freed and file.written > oldest],
    )


def expire(table: VersionedTable, plan: Expiry) -> list[StoredFile]:
    """Carry a plan out: take the tags away, then the snapshots, then the files; return the files that went.

    A file that has come into use since the plan was made stays. Stopped half-way, the same plan made again goes on.

    Raises
    ------
    StorageError
        If the table is written to at this moment.
    """
    from pyiceberg.exceptions import CommitFailedException

    iceberg = table.iceberg
    try:
        for version in plan.versions:
            iceberg.manage_snapshots().remove_tag(f"v{version}").commit()
        heads = {ref.snapshot_id for ref in iceberg.refresh().metadata.refs.values()}
        there = {one.snapshot_id for one in iceberg.metadata.snapshots}
        if ending := [one for one in plan.snapshots if one in there - heads]:
            iceberg.maintenance.expire_snapshots().by_ids(ending).commit()
    except CommitFailedException as error:
        raise StorageError(
            f"{table.kind.rstrip('s')} {table.name!r} is being written to ({error}); run the same command again when "
            "that run has ended"
        ) from None
    iceberg.refresh()
    needed = _paths(_referenced(iceberg, iceberg.metadata.snapshots) | _metadata_files(iceberg))
    removed = [file for file in plan.files if file.path not in needed]
    fs, _ = filesystem(table.uri)
    for file in removed:
        try:
            fs.delete_file(file.path)
        except FileNotFoundError:
            continue  # another expiry was faster
    return removed


def _referenced(iceberg: "Table", snapshots: Iterable["Snapshot"]) -> set[str]:
    """Return the URIs of all files that snapshots need: manifest lists, manifests, data."""
    found: set[str] = set()
    manifests: dict[str, Any] = {}
    for snapshot in snapshots:
        found.add(snapshot.manifest_list)
        manifests |= {manifest.manifest_path: manifest for manifest in snapshot.manifests(iceberg.io)}
    for path, manifest in manifests.items():
        found.add(path)
        found.update(entry.data_file.file_path for entry in manifest.fetch_manifest_entry(iceberg.io))
    return found


def _belongs(file: StoredFile, table: VersionedTable, versions: Collection[str]) -> bool:
    """Say whether a file is one of these versions' manifest, or lies beside it (a cohort's quality page)."""
    found = BESIDE.match(file.name)
    if found is None or found["version"] not in versions:
        return False
    return not file.name.endswith(".json") or f"{table.uri}/{file.name}" == table.manifest_uri(found["version"])


def _metadata_files(iceberg: "Table") -> set[str]:
    """Return the URI of the table's metadata; older ones are of no use to any reader that begins now."""
    return {iceberg.metadata_location}


def _paths(uris: Iterable[str]) -> set[str]:
    """Return the paths of URIs on their filesystem, all of which are one."""
    found = list(uris)
    if not found:
        return set()
    first = filesystem(found[0])[1]
    prefix = found[0].removesuffix(first)
    return {uri.removeprefix(prefix) if uri.startswith(prefix) else filesystem(uri)[1] for uri in found}


def _stored_files(table: VersionedTable) -> list[StoredFile]:
    """List what is below the table where boldstream and Iceberg write."""
    fs, root = filesystem(table.uri)
    try:
        infos = fs.get_file_info(pafs.FileSelector(root, recursive=True, allow_not_found=True))
    except OSError as error:
        raise StorageError(f"{table.uri}: cannot be listed: {error}") from None
    base = len(root.rstrip("/")) + 1
    files = [info for info in infos if info.type == pafs.FileType.File]
    found = [StoredFile(info.path, info.path[base:], info.size, info.mtime) for info in files]
    return sorted(
        (file for file in found if file.name.startswith(("data/", "metadata/", MANIFESTS))), key=lambda file: file.name
    )

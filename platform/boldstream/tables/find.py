"""What people write on the command line, and the table version that it means."""

from dataclasses import dataclass

from boldstream.artifacts import cohort, embeddings
from boldstream.artifacts.manifest import Manifest
from boldstream.artifacts.tables import VersionedTable
from boldstream.artifacts.versions import resolve_version, table_names
from boldstream.errors import ArtifactError, CohortError, ConfigError, EmbeddingsError, StorageError, did_you_mean
from boldstream.refs import CohortRef, EmbeddingTableRef, split_pointer
from boldstream.storage import Warehouse, exists, is_local

NEAR = 3
"""Names that are offered for one that is not there."""
KINDS: dict[str, type[ArtifactError]] = {embeddings.KIND: EmbeddingsError, cohort.KIND: CohortError}


@dataclass(frozen=True)
class Version:
    """One version of an embedding table or cohort."""

    table: VersionedTable
    manifest: Manifest

    @property
    def is_cohort(self) -> bool:
        """Whether it is a cohort's."""
        return self.table.kind == cohort.KIND

    @property
    def label(self) -> str:
        """Short name for messages: ``name@version``."""
        return f"{self.manifest.name}@{self.manifest.version}"

    @property
    def ref(self) -> CohortRef | EmbeddingTableRef:
        """Its reference."""
        kind = CohortRef if self.is_cohort else EmbeddingTableRef
        return kind(self.table.uri, self.manifest.version, self.manifest.digest)


def open_warehouse(location: str) -> Warehouse:
    """Return the warehouse at a path or URI, if there is one: looking must not make one.

    Raises
    ------
    StorageError
    """
    home = Warehouse.at(location)
    if is_local(home.uri) and not exists(home.uri):
        raise StorageError(f"there is no warehouse at {home.uri}; name yours with --warehouse")
    return home


def find_table(pointer: str, warehouse: str) -> tuple[VersionedTable, str | None]:
    """Return the table that a pointer names, and what it says of the version.

    ``name`` means an embedding table, or a cohort where no embedding table has the name; ``cohorts/name`` and
    ``embeddings/name`` say which; the full line that a job printed names the warehouse too.

    Raises
    ------
    ArtifactError
        If there is no such table.
    StorageError
        If there is no such warehouse.
    """
    uri, version = split_pointer(pointer, field="table")
    root, _, name = uri.rpartition("/")
    kind = root.rpartition("/")[2]
    if root in KINDS or not root:
        home = open_warehouse(warehouse)
    elif kind in KINDS:
        home = open_warehouse(root.removesuffix(kind).rstrip("/"))
    else:
        raise ConfigError(
            f"table: {pointer!r} names no table; write name, name@version, name@champion, cohorts/name, or the full "
            "line that the job printed"
        )
    candidates = [VersionedTable(home, one, name, KINDS[one]) for one in ([kind] if kind else KINDS)]
    found = next((table for table in candidates if table.exists), None)
    if found is None:
        there = [(one, known) for one in KINDS for known in table_names(home, one)]
        hint = did_you_mean(name, [known for _, known in there], NEAR)
        raise ArtifactError(
            f"no table {pointer!r} in warehouse {home.uri} (there: {', '.join(map('/'.join, there)) or 'none'})"
            + (f"; {hint}" if hint else "")
        )
    return found, version


def find_version(pointer: str, warehouse: str) -> Version:
    """Return the version that a pointer means: the one it names, by number or alias, or the newest.

    Raises
    ------
    ArtifactError
        If there is no such table, version or alias, or its manifest is gone.
    """
    table, version = find_table(pointer, warehouse)
    return Version(table, table.manifest(resolve_version(table, version)))


def find_embeddings(pointer: str, warehouse: str) -> Version:
    """Return the version of an embedding table that a pointer means.

    Raises
    ------
    ArtifactError
        As `find_version`, or if it is a cohort.
    """
    found = find_version(pointer, warehouse)
    check_embeddings(found.table)
    return found


def check_embeddings(table: VersionedTable) -> None:
    """Refuse a cohort where only embedding tables make sense.

    Raises
    ------
    EmbeddingsError
    """
    if table.kind == cohort.KIND:
        raise EmbeddingsError(
            f"{table.name!r} is a cohort; this works on embedding tables (cohorts: list, show, export, expire)"
        )

"""Versioned tables as their readers see them: published versions with their manifests, files and columns."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING, Self

import pyarrow as pa

from boldstream.artifacts.files import DataFile, file_problem
from boldstream.artifacts.manifest import Manifest
from boldstream.artifacts.settings import plain_schema
from boldstream.errors import ArtifactError
from boldstream.refs import split_pointer
from boldstream.storage import Warehouse, exists, read_bytes

if TYPE_CHECKING:
    from pyiceberg.table import FileScanTask, Table

MANIFEST_PROPERTY = "boldstream.manifest.v"
"""With a version's number: name of its manifest below ``versions/``, set in one commit with the version's tag."""


class TableReader:
    """One Iceberg table of the warehouse with published versions ``1``, ``2``, ….

    Parameters
    ----------
    warehouse : Warehouse
    kind : str
        Namespace of the table: ``cohorts``, ``embeddings``, or one of them with ``_quarantine``.
    name : str
    error : type
        Error class for a table that is not there or not whole.
    """

    def __init__(self, warehouse: Warehouse, kind: str, name: str, error: type[ArtifactError] = ArtifactError) -> None:
        self.warehouse, self.kind, self.name, self.error = warehouse, kind, name, error

    @classmethod
    def locate(
        cls,
        pointer: str,
        kind: str,
        warehouse: str,
        *,
        field: str,
        error: type[ArtifactError] = ArtifactError,
    ) -> tuple[Self, str | None]:
        """Return the table that ``name``, ``name@version`` or ``<warehouse>/<kind>/name@version`` points to.

        The version is None where the pointer leaves it open.
        """
        uri, version = split_pointer(pointer, field=field)
        root, slash, name = uri.rpartition("/")
        if not slash:
            return cls(Warehouse.at(warehouse), kind, name, error), version
        home, _, found_kind = root.rpartition("/")
        if found_kind != kind:
            raise error(
                f"{field}: {pointer!r} is not below a folder {kind!r} of a warehouse, so it has no manifest and is "
                f"none of boldstream's {kind}; make one with its job, or write name@version"
            )
        return cls(Warehouse.at(home), kind, name, error), version

    @property
    def uri(self) -> str:
        """Where the table lives."""
        return self.warehouse.location(self.kind, self.name)

    @property
    def exists(self) -> bool:
        """Whether the catalog knows the table."""
        return self.name in self._neighbours()

    @property
    def _identifier(self) -> tuple[str, str]:
        return (self.kind, self.name)

    @cached_property
    def iceberg(self) -> "Table":
        """The Iceberg table itself, for everything that pyiceberg can do with it."""
        from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError

        try:
            return self.warehouse.catalog.load_table(self._identifier)
        except FileNotFoundError as error:
            raise self.error(
                f"the catalog of warehouse {self.warehouse.uri} knows {self.kind.rstrip('s')} {self.name!r}, but its "
                f"files are gone ({error}); restore the folder, or choose another output name"
            ) from None
        except (NoSuchTableError, NoSuchNamespaceError):
            known = self._neighbours()
            raise self.error(
                f"no {self.kind.rstrip('s')} {self.name!r} in warehouse {self.warehouse.uri} "
                f"(there: {', '.join(known) or 'none'})"
            ) from None

    def _neighbours(self) -> list[str]:
        from pyiceberg.exceptions import NoSuchNamespaceError

        try:
            return sorted(name for _, name in self.warehouse.catalog.list_tables(self.kind))
        except NoSuchNamespaceError:
            return []

    @property
    def versions(self) -> list[str]:
        """Published versions, oldest first."""
        return sorted((tag[1:] for tag in self.iceberg.refs() if tag[0] == "v" and tag[1:].isdigit()), key=int)

    def newest(self) -> str:
        """Return the newest published version.

        Raises
        ------
        ArtifactError
            If nothing has been published yet.
        """
        if not self.versions:
            raise self.error(
                f"{self.kind.rstrip('s')} {self.name!r} has no published version: its run has not finished; "
                "run the same command again to go on"
            )
        return self.versions[-1]

    def manifest(self, version: str | None = None) -> Manifest:
        """Read the manifest of a version (None: the newest).

        Raises
        ------
        ArtifactError
            If there is no such version, or if its manifest is gone or broken.
        """
        version = version or self.newest()
        if version not in self.versions:
            raise self.error(
                f"{self.kind.rstrip('s')} {self.name!r} has no version {version!r} "
                f"(there: {', '.join(self.versions) or 'none'})"
            )
        uri = self.manifest_uri(version)
        if not exists(uri):
            raise self.error(
                f"{self.kind.rstrip('s')} {self.name}@{version} has no manifest ({uri} is missing), so what it holds "
                "cannot be trusted; make it again from its sources"
            )
        return Manifest.from_json(read_bytes(uri), where=f"{self.name}@{version} ({uri})")

    def manifest_uri(self, version: str) -> str:
        """Return where the manifest of a version is (tables made by earlier releases have it at ``v<n>.json``)."""
        name = self.iceberg.properties.get(MANIFEST_PROPERTY + version, f"v{version}.json")
        return f"{self.uri}/versions/{name}"

    def beside(self, version: str, name: str) -> str:
        """Return the URI of a file that belongs to a version, and goes with it."""
        return f"{self.uri}/versions/v{version}-{name}"

    @property
    def schema(self) -> pa.Schema:
        """The table's columns, in Arrow's usual types."""
        return plain_schema(self.iceberg.schema().as_arrow())

    def current_files(self) -> dict[str, "FileScanTask"]:
        """Return the files of all rows appended so far, by URI; the table must have been refreshed."""
        tasks = {task.file.file_path: task for task in self.iceberg.scan().plan_files()}
        if any(task.delete_files for task in tasks.values()):
            raise self.error(
                f"{self.kind.rstrip('s')} {self.name!r} has delete files, which another program has written; rewrite "
                "its data files with that program before boldstream changes it"
            )
        return tasks

    def files(self, version: str) -> list[DataFile]:
        """List the Parquet files of a version, sorted by URI."""
        snapshot = self.iceberg.snapshot_by_name(f"v{version}")
        if snapshot is None:
            raise self.error(f"{self.name!r} has no version {version!r}")
        tasks = self.iceberg.scan(snapshot_id=snapshot.snapshot_id).plan_files()
        found = [DataFile(t.file.file_path, t.file.record_count, t.file.file_size_in_bytes) for t in tasks]
        return sorted(found, key=lambda file: file.uri)

    def check_files(self, version: str) -> list[DataFile]:
        """Read every Parquet footer of a version and compare it with the catalog's record.

        Raises
        ------
        ArtifactError
            Naming the first file that is missing, cut short, or not Parquet.
        """
        files = self.files(version)
        with ThreadPoolExecutor(max_workers=16) as pool:
            for problem in pool.map(file_problem, files):
                if problem:
                    raise self.error(
                        f"{self.kind.rstrip('s')} {self.name}@{version}: {problem}; restore the file or make the "
                        f"{self.kind.rstrip('s')} again from its sources"
                    )
        return files

    def column(self, names: Sequence[str], version: str | None = None) -> pa.Table:
        """Read small columns (keys, digests): of a version, or of all rows appended so far."""
        if version is None:
            if self.iceberg.refresh().current_snapshot() is None:
                schema = self.iceberg.schema().as_arrow()
                return pa.schema([schema.field(name) for name in names]).empty_table()
            return self.iceberg.scan(selected_fields=tuple(names)).to_arrow()
        snapshot = self.iceberg.snapshot_by_name(f"v{version}")
        return self.iceberg.scan(snapshot_id=snapshot.snapshot_id, selected_fields=tuple(names)).to_arrow()

    def values(self, name: str) -> set[str]:
        """Return the distinct values of a key column, over all rows appended so far."""
        return set(self.column([name])[name].to_pylist())

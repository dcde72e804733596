"""Versioned tables: Iceberg for the rows, a tag and a manifest for every published version.

Shards are appended as they come; they belong to no version until `VersionedTable.publish` writes the manifest and
then the tag. So a run that stops half-way has published nothing, and the same run again appends what is missing.
"""

import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from boldstream.artifacts.files import DataFile, file_problem
from boldstream.artifacts.manifest import Manifest, Parent
from boldstream.errors import ArtifactError, OutputExistsError
from boldstream.refs import split_pointer
from boldstream.storage import Warehouse, exists, publish_bytes, read_bytes, remove_files

if TYPE_CHECKING:
    from pyiceberg.table import Table

RUN_PROPERTY = "boldstream.run"


class VersionedTable:
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
    ) -> tuple["VersionedTable", str | None]:
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

    # ---- writing -------------------------------------------------------------------------------------------

    def begin(self, schema: pa.Schema, identity: dict[str, Any]) -> None:
        """Create the table for a run, or go on with the one that the same run began.

        Raises
        ------
        OutputExistsError
            If the table was made by a run of another configuration; the message names the keys that differ.
        """
        if not self.exists:
            self.warehouse.catalog.create_namespace_if_not_exists(self.kind)
            self.warehouse.catalog.create_table(
                self._identifier, schema, location=self.uri, properties={RUN_PROPERTY: json.dumps(identity)}
            )
            return
        if differing := self.differences(schema, identity):
            raise OutputExistsError(
                f"{self.kind.rstrip('s')} {self.name!r} exists in {self.warehouse.uri} and was made with other "
                f"settings ({'; '.join(differing)}); choose another output name, or the same settings to go on"
            )

    def differences(self, schema: pa.Schema, identity: dict[str, Any]) -> list[str]:
        """Say in which settings and columns the table differs from those of a run, as ``name: its -> the run's``."""
        theirs = json.loads(self.iceberg.properties.get(RUN_PROPERTY, "null")) or {}
        columns = differing_keys(_kinds(self.iceberg.schema().as_arrow()), _kinds(schema), "column ")
        return differing_keys(theirs, identity) + columns

    def drop(self) -> None:
        """Remove the table and its files, if there are any."""
        if self.exists:
            self.warehouse.catalog.drop_table(self._identifier)
        self.__dict__.pop("iceberg", None)
        remove_files(self.uri)

    def append(self, shards: Sequence[str]) -> None:
        """Commit finished Parquet files to the table in one transaction (readers of versions see none of them)."""
        if shards:
            self.iceberg.add_files(list(shards))

    def remove(self, column: str, values: Iterable[str]) -> None:
        """Take rows out of the table in one transaction; versions that have them keep them."""
        from pyiceberg.expressions import In

        if gone := sorted(set(values)):
            self.iceberg.delete(In(column, gone))

    def publish(
        self,
        *,
        config: dict[str, Any],
        config_hash: str,
        parents: Iterable[Parent],
        rows: int,
        digest: str,
        content: dict[str, Any],
        mlflow_run_id: str | None,
    ) -> Manifest:
        """Make the table's present rows its next version: the manifest first, the tag last."""
        snapshot = self.iceberg.refresh().current_snapshot()
        if snapshot is None:
            raise self.error(f"{self.name!r} has no rows, so there is nothing to publish")
        version = str(max((int(found) for found in self.versions), default=0) + 1)
        manifest = Manifest.create(
            kind=self.kind,
            name=self.name,
            version=version,
            config=config,
            config_hash=config_hash,
            parents=list(parents),
            rows=rows,
            digest=digest,
            mlflow_run_id=mlflow_run_id,
            content={**content, "iceberg_snapshot": str(snapshot.snapshot_id)},
        )
        publish_bytes(self._manifest_uri(version), manifest.model_dump_json(indent=1).encode())
        self.iceberg.manage_snapshots().create_tag(snapshot.snapshot_id, f"v{version}").commit()
        return manifest

    # ---- reading -------------------------------------------------------------------------------------------

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
        uri = self._manifest_uri(version)
        if not exists(uri):
            raise self.error(
                f"{self.kind.rstrip('s')} {self.name}@{version} has no manifest ({uri} is missing), so what it holds "
                "cannot be trusted; make it again from its sources"
            )
        return Manifest.from_json(read_bytes(uri), where=f"{self.name}@{version} ({uri})")

    def _manifest_uri(self, version: str) -> str:
        return f"{self.uri}/versions/v{version}.json"

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


def _kinds(schema: pa.Schema) -> dict[str, str]:
    """Return the kinds of columns by name, whether Arrow's usual or large types hold them."""
    return {
        field.name: "list" if "list" in str(field.type) else str(field.type).removeprefix("large_") for field in schema
    }


def differing_keys(theirs: dict[str, Any], ours: dict[str, Any], prefix: str = "") -> list[str]:
    """Say which settings differ between two resolved configurations, as ``key: theirs -> ours``."""
    found = []
    for key in sorted(theirs.keys() | ours.keys()):
        old, new = theirs.get(key), ours.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            found += differing_keys(old, new, f"{prefix}{key}.")
        elif old != new:
            found.append(f"{prefix}{key}: {_short(old)} -> {_short(new)}")
    return found


def _short(value: Any) -> str:
    """Return a value as it is printed in messages: digests and long lists are cut."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:20]}…"

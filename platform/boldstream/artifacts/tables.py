"""Versioned tables: Iceberg for the rows, a tag and a manifest for every published version.

Shards are appended as they come; they belong to no version until `VersionedTable.publish` writes the manifest and
then the tag. So a run that stops half-way has published nothing, and the same run again appends what is missing.
"""

import contextlib
import json
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from boldstream.artifacts.conflicts import NO_RETRIES, until_committed
from boldstream.artifacts.manifest import Manifest, Parent
from boldstream.artifacts.settings import differing_columns, differing_keys, without_retired
from boldstream.artifacts.table_reader import MANIFEST_PROPERTY, TableReader
from boldstream.errors import OutputExistsError
from boldstream.storage import publish_bytes, remove_files

RUN_PROPERTY = "boldstream.run"


class VersionedTable(TableReader):
    """One Iceberg table of the warehouse with published versions ``1``, ``2``, …, and how they come to be."""

    def begin(self, schema: pa.Schema, identity: dict[str, Any], properties: dict[str, str] | None = None) -> None:
        """Create the table for a run, with properties, or go on with the one that the same run began.

        Raises
        ------
        OutputExistsError
            If the table was made by a run of another configuration; the message names the keys that differ.
        """
        if not self.exists:
            self._create(schema, identity, properties or {})
        if differing := self.differences(schema, identity):
            raise OutputExistsError(
                f"{self.kind.rstrip('s')} {self.name!r} exists in {self.warehouse.uri} and was made with other "
                f"settings ({'; '.join(differing)}); choose another output name, or the same settings to go on"
            )
        if not NO_RETRIES.items() <= self.iceberg.properties.items():
            self.set_properties(NO_RETRIES)

    def _create(self, schema: pa.Schema, identity: dict[str, Any], properties: dict[str, str]) -> None:
        """Create the table, unless another run does at this moment."""
        from pyiceberg.exceptions import TableAlreadyExistsError
        from sqlalchemy.exc import IntegrityError

        catalog = self.warehouse.catalog
        # merged manifests keep planning fast where many commits have been made
        known = {
            **properties,
            RUN_PROPERTY: json.dumps(identity),
            "commit.manifest-merge.enabled": "true",
            **NO_RETRIES,
        }

        def act() -> None:
            with contextlib.suppress(IntegrityError):
                catalog.create_namespace_if_not_exists(self.kind)
            with contextlib.suppress(TableAlreadyExistsError):
                catalog.create_table(self._identifier, schema, location=self.uri, properties=known)

        until_committed(act, self)

    def differences(self, schema: pa.Schema, identity: dict[str, Any]) -> list[str]:
        """Say in which settings and columns the table differs from those of a run, as ``name: its -> the run's``."""
        return differing_keys(self.run_settings(), without_retired(identity)) + differing_columns(self.schema, schema)

    def run_settings(self) -> dict[str, Any]:
        """Return what the runs that write to the table have in common."""
        return without_retired(json.loads(self.iceberg.properties.get(RUN_PROPERTY, "null")) or {})

    def set_run_settings(self, identity: dict[str, Any], back_to: str | None = None) -> None:
        """Let runs of other settings write to the table; `back_to` takes up the rows of a published version again."""
        from pyiceberg.table.update.snapshot import ManageSnapshots

        def act() -> None:
            self.iceberg.refresh()
            with self.iceberg.transaction() as transaction:
                transaction.set_properties({RUN_PROPERTY: json.dumps(identity)})
                if back_to is not None:
                    ManageSnapshots(transaction).set_current_snapshot(ref_name=f"v{back_to}").commit()

        until_committed(act, self)

    def drop(self) -> None:
        """Remove the table and its files, if there are any."""
        if self.exists:
            self.warehouse.catalog.drop_table(self._identifier)
        self.__dict__.pop("iceberg", None)
        remove_files(self.uri)

    def set_properties(self, properties: dict[str, str], guard: Callable[[], None] | None = None) -> None:
        """Set properties of the table, beside whatever other writers do; `guard` may refuse by what they have set."""

        def act() -> None:
            self.iceberg.refresh()
            if guard is not None:
                guard()
            with self.iceberg.transaction() as transaction:
                transaction.set_properties(properties)

        until_committed(act, self)

    def append(self, shards: Sequence[str]) -> None:
        """Commit finished Parquet files to the table in one transaction (readers of versions see none of them).

        Nothing looks at the keys in them: runs that others may be beside use `Committer`.
        """
        if shards:
            until_committed(lambda: self.iceberg.refresh().add_files(list(shards)), self)

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
        snapshot_id: int | None = None,
        guard: Callable[[], None] | None = None,
        beside: Mapping[str, bytes] | None = None,
    ) -> Manifest:
        """Make a snapshot (None: the present one) the next version; if the newest has the digest, it stands.

        The manifest is written first, under a name of its own; one commit then sets the version's tag and says which
        manifest is its. Of several runs that publish at once one sets the tag, the others look again. Files `beside`
        (name to content, see `TableReader.beside`) are written before the manifest that names them; names follow from
        content, so that runs do not write over each other's.
        """

        def act() -> Manifest:
            snapshot = self.iceberg.refresh().current_snapshot()
            if snapshot is None:
                raise self.error(f"{self.name!r} has no rows, so there is nothing to publish")
            if guard is not None:
                guard()
            if self.versions and (newest := self.manifest()).digest == digest:
                return newest
            chosen = snapshot_id or snapshot.snapshot_id
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
                content={**content, "iceberg_snapshot": str(chosen)},
            )
            for name, data in (beside or {}).items():
                publish_bytes(self.beside(version, name), data)
            self._tag(manifest, chosen)
            return manifest

        return until_committed(act, self)

    def _tag(self, manifest: Manifest, snapshot_id: int) -> None:
        """Write a manifest and make it the one of a new tag."""
        from pyiceberg.table.update.snapshot import ManageSnapshots

        version = manifest.version
        name = f"v{version}-{uuid.uuid4().hex[:8]}.json"
        publish_bytes(f"{self.uri}/versions/{name}", manifest.model_dump_json(indent=1).encode())
        with self.iceberg.transaction() as transaction:
            transaction.set_properties({MANIFEST_PROPERTY + version: name})
            ManageSnapshots(transaction).create_tag(snapshot_id, f"v{version}").commit()

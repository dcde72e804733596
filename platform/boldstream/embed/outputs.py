"""The three tables of an embed run: vectors, refusals, failures; every scan of the cohort ends in exactly one."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from boldstream.artifacts.cohort import Cohort
from boldstream.artifacts.commit import Committer
from boldstream.artifacts.embeddings import (
    FAILURES_KIND,
    FAILURES_SCHEMA,
    REFUSALS_SCHEMA,
    embedding_tables,
    failures_table,
)
from boldstream.artifacts.keys import rows_in
from boldstream.artifacts.receipts import begin_run
from boldstream.artifacts.tables import VersionedTable
from boldstream.errors import EmbeddingsError, OutputExistsError
from boldstream.storage import Warehouse

COHORT_PROPERTY = "boldstream.cohort_version"
MODEL = ("model", "model_digest")
"""Of a table's identity, what another model version changes."""
ROW = ["row_key", "scan_digest"]
REFUSED = ["scan_key", "scan_digest"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outputs:
    """Where a run commits to.

    Attributes
    ----------
    vectors, refusals, failures : Committer
    cohort : Cohort
        The version that the tables are brought to.
    model_digest : str
        Of the model version that the vectors are to be of.
    """

    vectors: Committer
    refusals: Committer
    failures: Committer
    cohort: Cohort
    model_digest: str

    @classmethod
    def open(
        cls,
        warehouse: str,
        name: str,
        cohort: Cohort,
        schema: pa.Schema,
        identity: dict[str, Any],
        *,
        replace_model: bool = False,
    ) -> "Outputs":
        """Create the tables or go on with them, and mark them as following the cohort's version.

        Raises
        ------
        OutputExistsError
            If they exist and were made with another strategy or cohort, or, without `replace_model`, another model.
        EmbeddingsError
            If they follow a newer version of the cohort.
        """
        place = Warehouse.at(warehouse)
        table, quarantine = embedding_tables(place, name)
        failures = failures_table(place, name)
        version = {COHORT_PROPERTY: cohort.ref.version}
        if table.exists and table.versions:
            exchange_model([table, quarantine, failures], identity, allowed=replace_model)
        begin_run(
            table,
            quarantine,
            schema,
            identity,
            quarantine_schema=REFUSALS_SCHEMA,
            beside=[(failures, FAILURES_SCHEMA)],
            properties=version,
        )

        def guard() -> None:
            _check_newest(table, cohort)
            _check_model(table, identity)

        guard()
        if not version.items() <= table.iceberg.properties.items():
            table.set_properties(version, guard)
        return cls(
            Committer(table, "row_key", ["scan_digest", "model_digest"], ["vector_sha256"], guard),
            Committer(quarantine, "scan_key", ["scan_digest"], ["reason"]),
            Committer(failures, "row_key", ["scan_digest", "attempt"], ["error_class"]),
            cohort,
            identity["model_digest"],
        )

    def refresh(self) -> None:
        """Look at the tables as they are now; failures first, because rows move from there to the others."""
        self.failures.refresh()
        self.refusals.refresh()
        self.vectors.refresh()

    @property
    def done(self) -> pa.Table:
        """Key and digest of the rows that have a vector or a refusal."""
        refused = self.refusals.index.rows.select(REFUSED).rename_columns(ROW)
        rows = self.vectors.index.rows
        return pa.concat_tables([rows.select(ROW).filter(self._of_model(rows)), refused])

    def _of_model(self, rows: pa.Table) -> pa.ChunkedArray:
        return pc.equal(rows["model_digest"], self.model_digest)

    @property
    def open_failures(self) -> pa.Table:
        """The rows that failed and were not embedded since."""
        rows = self.failures.index.rows
        return rows.filter(pc.invert(rows_in(rows, self.done, ROW, ROW)))

    def settle(self, expected: pa.Table) -> None:
        """Take out rows of another model or of no scan of the cohort version, and failures that passed.

        Whatever an interrupted run left undone is done here by the next one.
        """
        self.refresh()
        self.vectors.remove(lambda rows: pc.invert(pc.and_(self._of_model(rows), rows_in(rows, expected, ROW, ROW))))
        self.refusals.remove(lambda rows: pc.invert(rows_in(rows, expected, REFUSED, ROW)))
        self.failures.remove(
            lambda rows: pc.or_(pc.invert(rows_in(rows, expected, ROW, ROW)), rows_in(rows, self.done, ROW, ROW))
        )
        self.refresh()


def exchange_model(tables: Sequence[VersionedTable], identity: dict[str, Any], *, allowed: bool) -> None:
    """Let tables that were made with another model version be of this one from now on, if nothing else differs.

    The newest published version of this model is taken up again where there is one; without it, the rows stay until
    vectors of this model replace them. Published versions stay as they are. Other differences are left to
    `VersionedTable.begin`.

    Raises
    ------
    OutputExistsError
        If the model differs and that is not `allowed`.
    """
    for place, table in enumerate(tables):
        held = table.run_settings() if table.exists else identity
        if {key for key in held.keys() | identity.keys() if held.get(key) != identity.get(key)} - {*MODEL}:
            return
        if held == identity:
            continue
        if not allowed:
            raise OutputExistsError(
                f"table {table.name!r} exists in {table.warehouse.uri} and is of {held['model']} (sha256 "
                f"{held['model_digest'][:12]}), not of {identity['model']} ({identity['model_digest'][:12]}); set "
                "replace_model: true to make its next version with that one (its versions stay), or choose another "
                "output name"
            )
        logger.info("embed: table %s was of %s and is now of %s", table.name, held["model"], identity["model"])
        table.set_run_settings(identity, back_to=None if place else _newest_of(table, identity["model_digest"]))
        if table.kind == FAILURES_KIND:
            Committer(table, "row_key").remove(lambda rows: pc.is_valid(rows["row_key"]))  # another model may not fail


def _newest_of(table: VersionedTable, model_digest: str) -> str | None:
    """Return the newest version whose vectors are of a model."""
    for version in reversed(table.versions):
        if table.manifest(version).content.get("model_digest") == model_digest:
            return version
    return None


def _check_model(table: VersionedTable, identity: dict[str, Any]) -> None:
    """Refuse to go on beside a run that gives the table another model.

    Raises
    ------
    EmbeddingsError
    """
    now = table.run_settings()
    if now.get("model_digest") != identity["model_digest"]:
        raise EmbeddingsError(
            f"table {table.name!r} was given to {now.get('model')} by another run while this one embedded with "
            f"{identity['model']}; nothing more is committed"
        )


def _check_newest(table: VersionedTable, cohort: Cohort) -> None:
    """Refuse to bring a table back to an older version of its cohort: that would remove scans.

    Raises
    ------
    EmbeddingsError
    """
    held = int(table.iceberg.properties.get(COHORT_PROPERTY, "0"))
    if held > int(cohort.ref.version):
        name = cohort.manifest.name
        raise EmbeddingsError(
            f"table {table.name!r} follows cohort {name}@{held}, which is newer than {cohort.label}: going back would "
            f"remove scans from it; name {name}@{held} or a newer version, or choose another output name"
        )

"""The three tables of an embed run: vectors, refusals, failures; every scan of the cohort ends in exactly one."""

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from boldstream.artifacts.cohort import Cohort
from boldstream.artifacts.commit import Committer
from boldstream.artifacts.embeddings import FAILURES_SCHEMA, REFUSALS_SCHEMA, embedding_tables, failures_table
from boldstream.artifacts.keys import rows_in
from boldstream.artifacts.receipts import begin_run
from boldstream.artifacts.tables import VersionedTable
from boldstream.errors import EmbeddingsError
from boldstream.storage import Warehouse

COHORT_PROPERTY = "boldstream.cohort_version"
ROW = ["row_key", "scan_digest"]
REFUSED = ["scan_key", "scan_digest"]


@dataclass(frozen=True)
class Outputs:
    """Where a run commits to.

    Attributes
    ----------
    vectors, refusals, failures : Committer
    cohort : Cohort
        The version that the tables are brought to.
    """

    vectors: Committer
    refusals: Committer
    failures: Committer
    cohort: Cohort

    @classmethod
    def open(cls, warehouse: str, name: str, cohort: Cohort, schema: pa.Schema, identity: dict[str, Any]) -> "Outputs":
        """Create the tables or go on with them, and mark them as following the cohort's version.

        Raises
        ------
        OutputExistsError
            If they exist and were made with another model, strategy or cohort.
        EmbeddingsError
            If they follow a newer version of the cohort.
        """
        place = Warehouse.at(warehouse)
        table, quarantine = embedding_tables(place, name)
        failures = failures_table(place, name)
        version = {COHORT_PROPERTY: cohort.ref.version}
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

        guard()
        if not version.items() <= table.iceberg.properties.items():
            table.set_properties(version, guard)
        return cls(
            Committer(table, "row_key", ["scan_digest"], ["vector_sha256"], guard),
            Committer(quarantine, "scan_key", ["scan_digest"], ["reason"]),
            Committer(failures, "row_key", ["scan_digest", "attempt"], ["error_class"]),
            cohort,
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
        return pa.concat_tables([self.vectors.index.rows.select(ROW), refused])

    @property
    def open_failures(self) -> pa.Table:
        """The rows that failed and were not embedded since."""
        rows = self.failures.index.rows
        return rows.filter(pc.invert(rows_in(rows, self.done, ROW, ROW)))

    def settle(self, expected: pa.Table) -> None:
        """Take out rows that the cohort version does not have, or has with other digests, and failures that passed.

        Whatever an interrupted run left undone is done here by the next one.
        """
        self.refresh()
        self.vectors.remove(lambda rows: pc.invert(rows_in(rows, expected, ROW, ROW)))
        self.refusals.remove(lambda rows: pc.invert(rows_in(rows, expected, REFUSED, ROW)))
        self.failures.remove(
            lambda rows: pc.or_(pc.invert(rows_in(rows, expected, ROW, ROW)), rows_in(rows, self.done, ROW, ROW))
        )
        self.refresh()


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

"""The two tables of an adjust run: adjusted vectors and refusals; every row of the source ends in exactly one."""

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from boldstream.adjust.config import AdjustConfig
from boldstream.adjust.fit import POOLING, Fitted
from boldstream.adjust.rows import digest_rows
from boldstream.artifacts.adjustment import StoredAdjustment
from boldstream.artifacts.commit import Committer
from boldstream.artifacts.embeddings import REFUSALS_SCHEMA, EmbeddingTable, adjusted_schema, embedding_tables
from boldstream.artifacts.keys import rows_in
from boldstream.artifacts.manifest import Parent
from boldstream.artifacts.receipts import begin_run
from boldstream.artifacts.tables import VersionedTable
from boldstream.config import digest_json
from boldstream.errors import EmbeddingsError
from boldstream.refs import EmbeddingTableRef
from boldstream.storage import Warehouse
from boldstream.table_registry import register_table_version
from boldstream.tracking import JobRun

SOURCE_PROPERTY = "boldstream.table_version"
REFUSED = ["scan_key", "scan_digest", "reason", "message"]
ADJUSTED = ["row_key", "scan_digest", "source_vector_sha256", "adjustment_digest"]
"""What tells an adjusted row, and all that its vector follows from."""


def expected_rows(rows: pa.Table, stored: StoredAdjustment) -> pa.Table:
    """Return the state that each row of the source has once it is adjusted."""
    digest = pa.chunked_array([pa.repeat(stored.ref.digest, rows.num_rows)])
    columns = [rows["row_key"], rows["scan_digest"], rows["vector_sha256"], digest]
    return pa.table(dict(zip(ADJUSTED, columns, strict=True)))


@dataclass(frozen=True)
class Outputs:
    """Where a run commits to.

    Attributes
    ----------
    vectors, refusals : Committer
    source : EmbeddingTable
        The version that the tables are brought to.
    identity : dict
        What the table is of.
    """

    vectors: Committer
    refusals: Committer
    source: EmbeddingTable
    identity: dict[str, Any]

    @classmethod
    def open(cls, config: AdjustConfig, source: EmbeddingTable, stored: StoredAdjustment) -> "Outputs":
        """Create the tables or go on with them, and mark them as following the source's version.

        Raises
        ------
        OutputExistsError
            If they exist and are of another table, adjustment or strategy.
        EmbeddingsError
            If they follow a newer version of the source.
        """
        identity = {
            "table": source.ref.uri,
            "adjustment": stored.ref.uri,
            "strategy": stored.manifest.content["strategy"],
            "unseen_site": config.unseen_site,
            "reference_site": config.reference_site,
        }
        table, quarantine = embedding_tables(Warehouse.at(config.warehouse), config.output)
        version = {SOURCE_PROPERTY: source.ref.version}
        schema = adjusted_schema(source.table.schema)
        begin_run(table, quarantine, schema, identity, quarantine_schema=REFUSALS_SCHEMA, properties=version)

        def guard() -> None:
            check_newest(table, source)

        guard()
        if not version.items() <= table.iceberg.properties.items():
            table.set_properties(version, guard)
        return cls(
            Committer(table, "row_key", ADJUSTED[1:], ["vector_sha256"], guard),
            Committer(quarantine, "scan_key", REFUSED[1:]),
            source,
            identity,
        )

    def settle(self, expected: pa.Table, refused: pa.Table) -> None:
        """Bring in the refusals, and take out what is not the source version's under this adjustment."""
        self.refusals.add_rows(refused)
        self.refusals.remove(lambda rows: pc.invert(rows_in(rows, refused, REFUSED, REFUSED)))
        self.vectors.remove(lambda rows: pc.invert(rows_in(rows, expected, ADJUSTED, ADJUSTED)))
        self.refusals.refresh()
        self.vectors.refresh()

    def publish(
        self, expected: pa.Table, stored: StoredAdjustment, fitted: Fitted, config: AdjustConfig, run: JobRun
    ) -> EmbeddingTableRef:
        """Make the settled table its next version, unless the newest holds the same.

        Raises
        ------
        EmbeddingsError
            If no row can be adjusted, or one is in neither table.
        """
        index = self.vectors.index
        lost = expected.num_rows - index.rows.num_rows
        if lost or not expected.num_rows:
            what = f"{lost} rows are in neither table" if lost else "every row is refused"
            raise EmbeddingsError(
                f"table {self.source.label}: {what}; nothing is published, run the same command again"
            )
        learnt, told = stored.manifest.content, self.source.manifest.content
        kept: dict[str, Any] = {
            name: told[name] for name in ("cohort", "model", "model_digest", "parts", "precision") if name in told
        }
        rows = index.rows.sort_by("row_key")
        manifest = index.table.publish(
            config=config.model_dump(mode="json"),
            config_hash=digest_json(self.identity),
            parents=[Parent.of(self.source.ref), Parent.of(stored.ref), *self.source.manifest.parents],
            rows=rows.num_rows,
            digest=digest_json([stored.ref.digest, digest_rows(rows, [*ADJUSTED, "vector_sha256"])]),
            mlflow_run_id=run.run_id,
            content={
                **self.identity,
                **kept,
                "quarantined": self.refusals.index.rows.num_rows,
                "failed": 0,
                "pending": learnt["pending"],
                "applied": [step.describe() for step in fitted.steps],
                **{name: learnt[name] for name in ("n_train", "n_train_subjects", "split", "notes", "nuisance")},
                **({POOLING: learnt[POOLING]} if POOLING in learnt else {}),
                **fitted.adjustment.dims(),
            },
            snapshot_id=index.snapshot_id,
            guard=self.vectors.guard,
        )
        ref = EmbeddingTableRef(index.table.uri, manifest.version, manifest.digest)
        run.log_output(ref, manifest)
        register_table_version(ref, manifest, run, first_champion=config.first_champion)
        return ref


def check_newest(table: VersionedTable, source: EmbeddingTable) -> None:
    """Refuse to bring a table back to an older version of its source: that would remove scans.

    Raises
    ------
    EmbeddingsError
    """
    held = int(table.iceberg.properties.get(SOURCE_PROPERTY, "0"))
    if held > int(source.ref.version):
        raise EmbeddingsError(
            f"table {table.name!r} follows {source.manifest.name}@{held}, which is newer than {source.label}: going "
            "back would remove scans; name the newer one, or choose another output name"
        )

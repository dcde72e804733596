"""The end of an embed run: settle the tables, check that no scan is lost, publish what is new."""

import logging
from collections import Counter
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from boldstream.artifacts.keys import rows_in
from boldstream.artifacts.manifest import Parent
from boldstream.artifacts.receipts import list_reasons
from boldstream.config import digest_json
from boldstream.embed.config import EmbedConfig
from boldstream.embed.outputs import ROW, Outputs
from boldstream.errors import EmbeddingsError
from boldstream.refs import EmbeddingTableRef, ModelRef
from boldstream.table_registry import register_table_version
from boldstream.tracking import JobRun

logger = logging.getLogger(__name__)


def publish_table(
    config: EmbedConfig,
    identity: dict[str, Any],
    model: ModelRef,
    outputs: Outputs,
    expected: pa.Table,
    pending: list[str],
    run: JobRun,
) -> EmbeddingTableRef:
    """Make the settled table its next version, unless the newest holds the same.

    Raises
    ------
    EmbeddingsError
        If there is no vector, or if a scan is in none of the three tables.
    """
    outputs.settle(expected)
    index = outputs.vectors.index
    failed = outputs.open_failures
    _check_complete(outputs, expected, failed)
    rows = index.rows.sort_by("row_key")
    columns = [rows[name].to_pylist() for name in ("row_key", "scan_digest", "vector_sha256")]
    n_refused = outputs.refusals.index.rows.num_rows
    manifest = index.table.publish(
        config=config.model_dump(mode="json"),
        config_hash=digest_json(identity),
        parents=[Parent.of(outputs.cohort.ref), Parent.of(model)],
        rows=rows.num_rows,
        digest=digest_json([identity["model_digest"], *columns]),
        mlflow_run_id=run.run_id,
        content={
            **identity,
            "quarantined": n_refused,
            "failed": failed.num_rows,
            "pending": pending,
        },
        snapshot_id=index.snapshot_id,
        guard=outputs.vectors.guard,
    )
    for step in manifest.content["pending"]:
        logger.info("embed: left to the adjust room by the strategy: %s", step)
    ref = EmbeddingTableRef(index.table.uri, manifest.version, manifest.digest)
    run.log_metrics({"vectors": rows.num_rows, "quarantined": n_refused, "failed": failed.num_rows})
    run.tell(f"{rows.num_rows} vectors, {n_refused} scans in quarantine, {failed.num_rows} failed")
    if failed.num_rows:
        run.tell(f"Failed: {describe_failures(outputs)}")
    run.log_output(ref, manifest)
    register_table_version(ref, manifest, run, first_champion=config.first_champion)
    return ref


def _check_complete(outputs: Outputs, expected: pa.Table, failed: pa.Table) -> None:
    """Refuse to publish a table without vectors, or one that has lost a scan."""
    label = outputs.cohort.label
    if not outputs.vectors.index.rows.num_rows:
        why = [list_reasons(outputs.refusals.index.table)] if outputs.refusals.index.rows.num_rows else []
        why += [describe_failures(outputs)] if failed.num_rows else []
        raise EmbeddingsError(
            f"none of the {expected.num_rows} scans of cohort {label} can be embedded ({'; '.join(why)})"
        )
    there = pa.concat_tables([outputs.done, failed.select(ROW)])
    lost = expected.filter(pc.invert(rows_in(expected, there, ROW, ROW)))
    if lost.num_rows:
        raise EmbeddingsError(
            f"{lost.num_rows} scans of cohort {label} have neither vector nor refusal nor failure, for example "
            f"{lost['row_key'][0].as_py()}; nothing is published, run the same command again"
        )


def describe_failures(outputs: Outputs) -> str:
    """Return the classes of the open failures with their counts, and where they are listed."""
    counted = Counter(outputs.open_failures["error_class"].to_pylist())
    told = ", ".join(f"{count} x {name}" for name, count in counted.most_common())
    return f"{told}, listed in {outputs.failures.index.table.uri}"


def describe_incomplete(ref: EmbeddingTableRef, outputs: Outputs, expected: pa.Table, max_attempts: int) -> str | None:
    """Say in one line what failed and what becomes of it, or None where nothing did."""
    failed = outputs.open_failures
    if not failed.num_rows:
        return None
    left = int(pc.sum(pc.greater_equal(failed["attempt"], max_attempts)).as_py())
    again = failed.num_rows - left
    fate = [f"the same command tries {again} again"] if again else []
    fate += [f"{left} failed in {max_attempts} attempts and are left (raise max_attempts to try again)"] if left else []
    name = f"{outputs.vectors.index.table.name}@{ref.version}"
    return (
        f"{failed.num_rows} of {expected.num_rows} scans failed and are not in table {name} "
        f"({describe_failures(outputs)}); {'; '.join(fate)}"
    )

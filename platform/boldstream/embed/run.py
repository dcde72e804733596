"""The embed room: read a cohort, window it, encode it on a pool of actors, publish one table version."""

import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from boldstream.artifacts.cohort import NOT_CARRIED, Cohort, open_cohort
from boldstream.artifacts.embeddings import embedding_schema, embedding_tables, row_key
from boldstream.artifacts.manifest import Manifest, Parent
from boldstream.artifacts.receipts import Receipts, begin_run, list_reasons
from boldstream.artifacts.tables import VersionedTable
from boldstream.cluster import connect, count_gpus
from boldstream.config import digest_json
from boldstream.embed.config import EmbedConfig, Strategy
from boldstream.embed.embedder import BrainEncoder, EmbedTask, write_rows
from boldstream.encoders.interface import Precision, read_description
from boldstream.errors import ConfigError, EmbeddingsError
from boldstream.parcellation.atlas import Atlas, check_same
from boldstream.progress import Progress
from boldstream.refs import EmbeddingTableRef, ModelRef
from boldstream.registry import download_model, resolve_model
from boldstream.storage import Warehouse
from boldstream.tracking import JobRun, job_run

if TYPE_CHECKING:
    import ray.data


logger = logging.getLogger(__name__)


def embed_cohort(config: EmbedConfig) -> EmbeddingTableRef:
    """Embed every scan of a cohort with a registered model version into a table version.

    Every scan (every part of it, with ``parts``) ends in exactly one of two tables: the embedding table
    (``embeddings/<output>``), or its quarantine (``embeddings_quarantine/<output>``) with the reason. Vectors do not
    depend on ``batch_size`` and ``actors`` beyond float32 rounding (1e-5 relative). The same command again goes on
    where a killed run stopped, and embeds scans that the cohort got since.

    Raises
    ------
    CohortError, ModelError, CheckpointError
        If the cohort or the model version is not there or not whole.
    AtlasError
        If the cohort's regions are not the model's, by name and order.
    ConfigError
        If the strategy's windows are not the model's.
    OutputExistsError
        If the table exists and was made with another model, strategy or cohort.
    EmbeddingsError
        If no scan can be embedded.
    """
    strategy = Strategy.from_yaml(config.strategy)
    cohort = open_cohort(config.cohort, config.warehouse)
    with job_run("embed", config.output, config) as run, tempfile.TemporaryDirectory() as scratch:
        model = resolve_model(config.model)
        folder = download_model(model, Path(scratch))
        check_fit(cohort, model, read_description(folder), strategy)
        run.log_parent(cohort.ref, cohort.manifest.rows)
        run.log_parent(model)
        connect(config.cluster)
        device, precision = _arithmetic(config)
        identity = {
            "cohort": cohort.ref.uri,
            "model": model.pointer,
            "model_digest": model.digest,
            "strategy": strategy.model_dump(mode="json"),
            "parts": config.parts,
            "precision": precision,
        }
        table, quarantine = embedding_tables(Warehouse.at(config.warehouse), config.output)
        schema = embedding_schema(_carried(cohort))
        begin_run(table, quarantine, schema, identity)
        task = EmbedTask(
            strategy=strategy,
            parts=config.parts,
            batch_size=config.batch_size,
            actors=config.actors,
            device=device,
            precision=precision,
            done=frozenset(table.values("row_key") | quarantine.values("scan_key")),
            stamp=_stamp(strategy, model, cohort),
            schema=schema,
            table_uri=table.uri,
            quarantine_uri=quarantine.uri,
            identity=digest_json(identity),
            model_files=_put_files(folder),
        )
        _embed(cohort, task, table, quarantine, run)
        return _publish(config, cohort, model, identity, table, quarantine, run)


def _put_files(folder: Path) -> "ray.ObjectRef":
    """Put a model folder into the object store, as a mapping of file names to bytes."""
    import ray

    return ray.put({path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()})


def _arithmetic(config: EmbedConfig) -> tuple[str, Precision]:
    """Return the device of the connected cluster's encoders and the precision they compute in."""
    device = "cuda" if count_gpus() else "cpu"
    if config.precision == "auto":
        return device, "bfloat16" if device == "cuda" else "float32"
    return device, config.precision


def check_fit(cohort: Cohort, model: ModelRef, description: dict[str, Any], strategy: Strategy) -> None:
    """Refuse a cohort, a model and a strategy that do not belong together.

    Raises
    ------
    AtlasError, ConfigError
    """
    theirs = Atlas(name=description["atlas"], roi_names=tuple(description["roi_names"]))
    check_same(
        Atlas(name=cohort.atlas, roi_names=cohort.roi_names),
        theirs,
        where=f"cohort {cohort.label!r}",
        other=f"model {model.pointer!r}",
    )
    length = description["sizes"]["n_timepoints"]
    if strategy.window.length != length:
        raise ConfigError(
            f"strategy {strategy.id!r} has windows of {strategy.window.length} timepoints, model {model.pointer!r} "
            f"takes {length}; use a strategy with window.length: {length}"
        )


def _carried(cohort: Cohort) -> pa.Schema:
    """Return the cohort's columns that go into the embedding table."""
    schema = cohort.table.iceberg.schema().as_arrow()
    light = [field for field in schema if field.name not in NOT_CARRIED]
    return pa.schema([pa.field(f.name, _plain(f.type), nullable=f.nullable) for f in light])


def _plain(kind: pa.DataType) -> pa.DataType:
    """Return Arrow's usual type for one of pyiceberg's large ones."""
    if pa.types.is_large_string(kind):
        return pa.string()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(_plain(kind.value_type))
    return kind


def _stamp(strategy: Strategy, model: ModelRef, cohort: Cohort) -> dict[str, str]:
    return {
        "strategy_id": strategy.id,
        "model_version": model.pointer,
        "model_digest": model.digest,
        "cohort_version": cohort.ref.pointer,
        "cohort_digest": cohort.ref.digest,
    }


def _embed(cohort: Cohort, task: EmbedTask, table: VersionedTable, quarantine: VersionedTable, run: JobRun) -> None:
    """Stream the files that hold scans without a vector through the actors, and commit the shards as they come."""
    files, n_left = _files_left(cohort, task)
    total = cohort.manifest.rows * task.parts
    logger.info(
        "embed: %d of %d vectors to make from cohort %s with %s on %d %s actor(s)",
        n_left,
        total,
        cohort.label,
        task.stamp["model_version"],
        task.actors,
        task.device,
    )
    if not files:
        return
    columns = [field.name for field in _carried(cohort)] + ["timeseries"]
    receipts = (
        cohort.read(columns, files)
        .map_batches(
            BrainEncoder,
            fn_constructor_args=(task,),
            batch_format="pyarrow",
            batch_size=task.batch_size,
            compute=_actor_pool(task, len(files)),
            num_gpus=1 if task.device == "cuda" else 0,
        )
        .map_batches(write_rows, fn_kwargs={"task": task}, batch_format="pyarrow", batch_size=None)
    )
    Receipts(table, quarantine, Progress(run, "embed", n_left, "vectors")).take(receipts.iter_rows())


def _actor_pool(task: EmbedTask, n_files: int) -> "ray.data.ActorPoolStrategy":
    """Return a pool of as many actors as were asked for, begun with what the cluster has room for now.

    A pool of fixed size would wait for ever where it leaves no CPU for reading and writing.
    """
    import ray.data

    size = min(task.actors, n_files)
    room = count_gpus() if task.device == "cuda" else int(ray.cluster_resources().get("CPU", 1)) - 1
    return ray.data.ActorPoolStrategy(min_size=1, max_size=size, initial_size=max(1, min(size, room)))


def _row_keys(cohort: Cohort, parts: int) -> set[str]:
    """Return the keys that the rows of a complete table have."""
    keys = [key for _, found in cohort.keys_by_file() for key in found]
    return {row_key(key, part, parts) for key in keys for part in range(parts)}


def _files_left(cohort: Cohort, task: EmbedTask) -> tuple[list[Any], int]:
    """Return the cohort files with scans that have no vector yet, and how many vectors those lack."""
    found, missing = [], 0
    for file, keys in cohort.keys_by_file():
        lacking = sum(row_key(key, part, task.parts) not in task.done for key in keys for part in range(task.parts))
        if lacking:
            found.append(file)
            missing += lacking
    return found, missing


def _publish(
    config: EmbedConfig,
    cohort: Cohort,
    model: ModelRef,
    identity: dict[str, Any],
    table: VersionedTable,
    quarantine: VersionedTable,
    run: JobRun,
) -> EmbeddingTableRef:
    """Check that every scan is in one of the two tables, and publish what is new."""
    rows = table.column(["row_key", "vector_sha256"]).sort_by("row_key")
    refused = quarantine.column(["scan_key"])["scan_key"].to_pylist()
    keys = rows["row_key"].to_pylist()
    expected = cohort.manifest.rows * config.parts
    if not keys:
        raise EmbeddingsError(
            f"none of the {expected} scans of cohort {cohort.label} can be embedded ({list_reasons(quarantine)})"
        )
    if len(set(keys) | set(refused)) != len(keys) + len(refused) or len(keys) + len(refused) != expected:
        if strangers := sorted({*keys, *refused} - _row_keys(cohort, config.parts)):
            raise EmbeddingsError(
                f"table {config.output!r} holds {strangers[0]!r}, which is not in cohort {cohort.label}: it was made "
                "from a newer version of the cohort; name that one, or choose another output name"
            )
        raise EmbeddingsError(
            f"table {config.output!r} holds {len(keys)} vectors and {len(refused)} refusals for {expected} scans of "
            f"cohort {cohort.label}; it was changed by other means, so nothing is published"
        )
    digest = digest_json([identity["model_digest"], keys, rows["vector_sha256"].to_pylist()])
    manifest: Manifest | None = table.manifest() if table.versions else None
    if manifest is None or manifest.digest != digest:
        manifest = table.publish(
            config=config.model_dump(mode="json"),
            config_hash=digest_json(identity),
            parents=[Parent.of(cohort.ref), Parent.of(model)],
            rows=len(keys),
            digest=digest,
            mlflow_run_id=run.run_id,
            content={
                **identity,
                "quarantined": len(refused),
                "pending": Strategy.model_validate(identity["strategy"]).pending(),
            },
        )
    for step in manifest.content["pending"]:
        logger.info("embed: left to the adjust room by the strategy: %s", step)
    ref = EmbeddingTableRef(table.uri, manifest.version, manifest.digest)
    run.log_metrics({"vectors": len(keys), "quarantined": len(refused)})
    run.log_output(ref, manifest)
    return ref

"""The embed room: read a cohort, window it, encode it on a pool of actors, publish one table version."""

import logging
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from boldstream.artifacts.cohort import NOT_CARRIED, Cohort, open_cohort
from boldstream.artifacts.embeddings import embedding_schema
from boldstream.artifacts.receipts import Receipts
from boldstream.cluster import await_room, connect, count_gpus
from boldstream.embed.config import EmbedConfig
from boldstream.embed.meter import ActorMeter
from boldstream.embed.outputs import Outputs
from boldstream.embed.plan import EmbedPlan, plan_rows
from boldstream.embed.publish import describe_incomplete, publish_table
from boldstream.embed.stream import stream_receipts
from boldstream.embed.task import EmbedTask
from boldstream.embed.watch import RemoteWatch
from boldstream.encoders.interface import Precision, read_description
from boldstream.errors import ConfigError, IncompleteError
from boldstream.parcellation.atlas import Atlas, check_same
from boldstream.progress import Progress
from boldstream.refs import EmbeddingTableRef, ModelRef
from boldstream.registry import download_model, resolve_model
from boldstream.strategy import Strategy
from boldstream.tracking import JobRun, job_run

if TYPE_CHECKING:
    import ray


logger = logging.getLogger(__name__)


def embed_cohort(config: EmbedConfig) -> EmbeddingTableRef:
    """Embed every scan of a cohort with a registered model version into a table version.

    Every scan (every part of it, with ``parts``) ends in exactly one of three tables: the embedding table
    (``embeddings/<output>``), its quarantine (``embeddings_quarantine/<output>``) with the reason, or its failures
    (``embeddings_failures/<output>``) with the error. Vectors do not depend on ``batch_size`` and ``actors`` beyond
    rounding (float32: 1e-5 relative). The same command again goes on where a killed run stopped, and tries again what
    failed; with a newer version of the cohort it embeds scans that are new or changed and removes those that are gone.
    Several runs of the same table at once are safe.

    Raises
    ------
    CohortError, ModelError, CheckpointError
        If the cohort or the model version is not there or not whole.
    AtlasError
        If the cohort's regions are not the model's, by name and order.
    ConfigError
        If the strategy's windows are not the model's.
    OutputExistsError
        If the table exists and was made with another strategy or cohort, or, without ``replace_model``, another model.
    EmbeddingsError
        If no scan can be embedded, the table follows a newer cohort version, or, with ``fail_fast``, a scan fails.
    IncompleteError
        If a version was published without scans that failed; carries its reference.
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
        if not config.cluster.wait_minutes:
            _await_gpus(config, device)  # refused before anything is written
        identity = _identity(cohort, model, strategy, config.parts, precision)
        carried = _carried(cohort)
        outputs = Outputs.open(
            config.warehouse,
            config.output,
            cohort,
            embedding_schema(carried),
            identity,
            replace_model=config.replace_model,
        )
        plan = plan_rows(cohort, outputs, config.parts, config.max_attempts)
        stamp = _stamp(strategy, model, cohort)
        task = _task(config, strategy, (device, precision), stamp, carried, outputs, run)
        if plan.units:
            _await_gpus(config, device)
            task = replace(task, model_files=_put_files(folder), watch=RemoteWatch.start())
        _embed(plan, task, config, outputs, run)
        ref = publish_table(config, identity, model, outputs, plan.expected, strategy.pending(), run)
        for row in outputs.open_failures.select(["row_key", "error_class"]).to_pylist():
            logger.info("embed: failed: %s", row["error_class"], extra={"scan": row["row_key"]})
    if problem := describe_incomplete(ref, outputs, plan.expected, config.max_attempts):
        raise IncompleteError(ref, problem)
    return ref


def _task(
    config: EmbedConfig,
    strategy: Strategy,
    arithmetic: tuple[str, Precision],
    stamp: dict[str, str],
    carried: pa.Schema,
    outputs: Outputs,
    run: JobRun,
) -> EmbedTask:
    """Return what the workers are told, but for the model and the watch over them."""
    device, precision = arithmetic
    return EmbedTask(
        strategy=strategy,
        parts=config.parts,
        batch_size=config.batch_size,
        actors=config.actors.largest(count_gpus() if device == "cuda" else 0),
        gpus=config.actors.gpus,
        threads=config.actors.cpus,
        device=device,
        precision=precision,
        compile=config.compile,
        stamp=stamp,
        carried=carried,
        schema=embedding_schema(carried),
        table_uri=outputs.vectors.index.table.uri,
        quarantine_uri=outputs.refusals.index.table.uri,
        failures_uri=outputs.failures.index.table.uri,
        run_id=run.run_id,
        model_files=None,
        watch=None,
    )


def _identity(cohort: Cohort, model: ModelRef, strategy: Strategy, parts: int, precision: Precision) -> dict[str, Any]:
    """Return what a table is of: other values need another table."""
    return {
        "cohort": cohort.ref.uri,
        "model": model.pointer,
        "model_digest": model.digest,
        "strategy": strategy.embedding(),
        "parts": parts,
        "precision": precision,
    }


def _put_files(folder: Path) -> "ray.ObjectRef":
    """Put a model folder into the object store, as a mapping of file names to bytes."""
    import ray

    return ray.put({path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()})


def _arithmetic(config: EmbedConfig) -> tuple[str, Precision]:
    """Return the device of the connected cluster's encoders and the precision they compute in."""
    gpu = config.actors.gpu
    device = "cuda" if gpu == "yes" or (gpu == "auto" and count_gpus()) else "cpu"
    if config.precision == "auto":
        return device, "bfloat16" if device == "cuda" else "float32"
    return device, config.precision


def _await_gpus(config: EmbedConfig, device: str) -> None:
    """Let an autoscaler bring the first encoders' GPUs, now that there are scans to embed."""
    pool = config.actors
    if device == "cuda" and not count_gpus():
        await_room(config.cluster, [{"GPU": pool.gpus, "CPU": pool.cpus or 1.0}] * pool.min)


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
    return pa.schema([field for field in cohort.table.schema if field.name not in NOT_CARRIED])


def _stamp(strategy: Strategy, model: ModelRef, cohort: Cohort) -> dict[str, str]:
    return {
        "strategy_id": strategy.id,
        "model_version": model.pointer,
        "model_digest": model.digest,
        "cohort_version": cohort.ref.pointer,
        "cohort_digest": cohort.ref.digest,
    }


def _embed(plan: EmbedPlan, task: EmbedTask, config: EmbedConfig, outputs: Outputs, run: JobRun) -> None:
    """Stream the scans of the plan through the actors, and commit the shards as they come."""
    logger.info(
        "embed: %d of %d vectors to make from cohort %s with %s on %d %s actor(s)%s",
        plan.n_rows,
        plan.expected.num_rows,
        outputs.cohort.label,
        task.stamp["model_version"],
        task.actors,
        task.device,
        " at most" if config.actors.min < task.actors else "",
    )
    if plan.n_left:
        logger.warning("embed: %d scans failed too often before and are not tried again", plan.n_left)
    if not plan.units:
        return
    meter = ActorMeter(config.output)
    progress = Progress(run, "embed", plan.n_rows, "scans" if task.parts == 1 else "parts", meter)
    sinks = {"shard": outputs.vectors, "quarantine": outputs.refusals, "failures": outputs.failures}
    receipts = stream_receipts(plan.units, task, config.actors, outputs.cohort.files)
    Receipts(sinks, progress, fail_fast=config.fail_fast, observe=meter.observe).take(receipts)

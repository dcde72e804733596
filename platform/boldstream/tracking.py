"""MLflow runs: every job is one, with what it read and made as tags and as datasets with their digests."""

import contextlib
import json
import logging
import os
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from boldstream.artifacts.manifest import Manifest, git_sha, package_versions
from boldstream.config import Config
from boldstream.errors import BoldstreamError, ConfigError, first_line
from boldstream.logs import hide_password, in_run, printable
from boldstream.refs import ModelRef, Ref
from boldstream.warehouse_source import source_of

os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")

EXPERIMENT = "boldstream"
SQLITE = "sqlite:///"
NOTE = "mlflow.note.content"
TOLD = 500
DIGEST_SHOWN = 12
"""Characters of a digest on MLflow's pages, so that names stay readable; the whole one is in the input's tags."""
JOB_VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Ray tells a submitted job's driver by it what it was submitted with."""
TRIES = 10
RACE = re.compile("IntegrityError|UniqueViolation|UNIQUE constraint|[Dd]uplicate (key|entry)")
"""What SQLite, PostgreSQL and MySQL say where two runs have added the same row."""

T = TypeVar("T")

logger = logging.getLogger(__name__)


def settled(call: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
    """Call MLflow, again where another run has written the same at this moment or the store is locked.

    MLflow looks for a row and adds it if it is not there; of two runs that finish at once, one fails (seven in ten
    times where they meet). Only for calls that may be repeated: the second time it finds the row.

    Raises
    ------
    mlflow.exceptions.MlflowException
        Any other, at once; the same one after `TRIES` tries.
    """
    from mlflow.exceptions import MlflowException

    for attempt in range(TRIES - 1):
        try:
            return call(*args, **kwargs)
        except MlflowException as error:
            if error.error_code != "TEMPORARILY_UNAVAILABLE" and not RACE.search(str(error)):
                raise
        time.sleep(random.uniform(0, 0.05 * 2**attempt))
    return call(*args, **kwargs)


@dataclass(frozen=True)
class JobRun:
    """The MLflow run of one job."""

    run_id: str

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log numbers, at a step where they form a curve."""
        import mlflow

        mlflow.log_metrics(dict(metrics), step=step, run_id=self.run_id)

    def latest(self) -> tuple[dict[str, float], dict[str, str]]:
        """Return the newest value of every metric, and the tags."""
        import mlflow

        data = mlflow.MlflowClient().get_run(self.run_id).data
        return data.metrics, data.tags

    def curve(self, name: str) -> tuple[list[int], list[float]]:
        """Return steps and values of a metric, by step; of steps that were done twice, the last."""
        import mlflow

        history = mlflow.MlflowClient().get_metric_history(self.run_id, name)
        found = {point.step: point.value for point in sorted(history, key=lambda point: (point.step, point.timestamp))}
        return list(found), list(found.values())

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags of the run."""
        import mlflow

        for name, value in tags.items():
            mlflow.MlflowClient().set_tag(self.run_id, name, value)

    def log_parent(self, ref: Ref, rows: int | None = None) -> None:
        """Record an artifact version that the run reads: a tag, and a dataset where it is a table."""
        self.set_tags({f"parent.{ref.key}": ref.pointer, f"parent.{ref.key}.digest": ref.digest})
        self._tell_ref("Reads", ref, rows)
        if not isinstance(ref, ModelRef):
            self._log_dataset(ref, "input", rows)

    def log_output(self, ref: Ref, manifest: Manifest | None = None) -> None:
        """Record the artifact version that the run made: tags, and a dataset where it is a table."""
        self.set_tags({f"output.{ref.key}": ref.pointer, f"output.{ref.key}.digest": ref.digest})
        self._tell_ref("Made", ref, manifest.rows if manifest else None)
        if manifest is not None:
            self._log_dataset(ref, "output", manifest.rows)

    def log_file(self, path: Path, folder: str | None = None) -> None:
        """Store a file, or a folder with all that is in it, with the run."""
        import mlflow

        if path.is_dir():
            mlflow.log_artifacts(str(path), folder, run_id=self.run_id)
        else:
            mlflow.log_artifact(str(path), folder, run_id=self.run_id)

    def log_child(
        self, name: str, params: Mapping[str, str], metrics: Mapping[str, float], seconds: float = 0.0
    ) -> None:
        """Record a part of the run, which has just been done in so many seconds, as a nested run of its own."""
        import mlflow
        from mlflow.entities import Metric, Param
        from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

        client, now = mlflow.MlflowClient(), int(1000 * time.time())
        experiment = client.get_run(self.run_id).info.experiment_id
        begun = now - int(1000 * seconds)
        child = client.create_run(experiment, begun, tags={MLFLOW_PARENT_RUN_ID: self.run_id}, run_name=name)
        values = [Metric(key, value, now, 0) for key, value in metrics.items()]
        client.log_batch(child.info.run_id, values, [Param(key, value) for key, value in params.items()])
        client.set_terminated(child.info.run_id)

    def tell(self, text: str) -> None:
        """Add a line, cut after `TOLD` characters, to the description on the run's page, which people read first."""
        import mlflow

        before = mlflow.get_run(self.run_id).data.tags.get(NOTE, "")
        line = printable(hide_password(text))
        self.set_tags({NOTE: f"{before}- {line if len(line) <= TOLD else f'{line[:TOLD]}…'}\n"})

    def _tell_ref(self, verb: str, ref: Ref, rows: int | None) -> None:
        count = f", {rows} rows" if rows is not None else ""
        self.tell(f"{verb} {ref.key} `{ref.pointer}` (sha256 `{ref.digest[:DIGEST_SHOWN]}`{count})")

    def _log_dataset(self, ref: Ref, direction: str, rows: int | None) -> None:
        import mlflow
        from mlflow.data.meta_dataset import MetaDataset

        name = f"{ref.key} {ref.uri.rpartition('/')[2]}@{ref.version}"
        dataset = MetaDataset(source_of(ref.pointer), name=name, digest=ref.digest[:DIGEST_SHOWN])
        tags = {"digest": ref.digest, "uri": ref.pointer} | ({"rows": str(rows)} if rows is not None else {})
        settled(mlflow.log_input, dataset, context=f"{ref.key}-{direction}", tags=tags)


@contextlib.contextmanager
def job_run(job: str, output: str, config: Config, resume: str | None = None) -> Iterator[JobRun]:
    """Open the MLflow run of a job, named after the job and its output.

    Its configuration becomes params and a file, code and package versions become tags. The run ends FINISHED,
    FAILED when an exception leaves the block, or KILLED on Ctrl-C. The tracking store is ``MLFLOW_TRACKING_URI``,
    else ``sqlite:///mlflow.db`` in the working directory. With `resume`, the id of a run that was interrupted, it goes
    on with that run, if the store still has it.
    """
    import mlflow

    open_experiment()
    values = config.model_dump(mode="json")
    nested = mlflow.active_run() is not None
    resume = resume if resume and _has_run(resume) else None
    with mlflow.start_run(run_id=resume, run_name=f"{job} {output}", nested=nested) as active:
        run = JobRun(active.info.run_id)
        tags = {"boldstream.job": job, "boldstream.config_hash": config.config_hash()}
        tags["boldstream.git_sha"] = git_sha() or "not a checkout"
        mlflow.set_tags(tags | {f"version.{name}": found for name, found in package_versions().items()})
        if resume is None:
            mlflow.log_params(dict(flatten(values)))
            mlflow.log_dict(values, "config.yaml")
            run.tell(f"Ran `{job}`, code {tags['boldstream.git_sha']}")
        try:
            with in_run(job, active.info.run_id), _end_told(run):
                yield run
        except BaseException as error:
            # whatever ends the job, Ctrl-C and a signal's SystemExit too, is told and goes on its way
            _end_broken(active.info.run_id, "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
            raise


def _end_broken(run_id: str, status: str) -> None:
    """End the active run as KILLED or FAILED; a store that fails here must not hide what ended the job."""
    import mlflow
    from mlflow.exceptions import MlflowException

    try:
        settled(mlflow.MlflowClient().set_terminated, run_id, status)
    except MlflowException as error:
        logger.warning("MLflow was not told that run %s has %s: %s", run_id, status, first_line(error))
    with contextlib.suppress(MlflowException):
        mlflow.end_run(status)


@contextlib.contextmanager
def _end_told(run: JobRun) -> Iterator[None]:
    """Say on the run's page how the block ended, and after how long; MLflow's silence then fails nothing."""
    from mlflow.exceptions import MlflowException

    begun, how = time.monotonic(), "**Failed**: see the job's log"  # an unforeseen error's text may hold anything
    try:
        yield
        how = "Done"
    except KeyboardInterrupt:
        how = "Interrupted"
        raise
    except BoldstreamError as error:
        how = f"**Failed**: {type(error).__name__}: {error}"
        raise
    finally:
        with contextlib.suppress(MlflowException):
            run.tell(f"After {time.monotonic() - begun:.1f} s: {how}")


def _has_run(run_id: str) -> bool:
    import mlflow
    from mlflow.exceptions import MlflowException

    try:
        return bool(mlflow.get_run(run_id).info.lifecycle_stage == "active")
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False


def tracking_address() -> str:
    """Return the tracking store's URI so that it means the same in every working directory."""
    import mlflow

    uri = str(mlflow.get_tracking_uri())
    return f"{SQLITE}{Path(uri.removeprefix(SQLITE)).resolve()}" if uri.startswith(SQLITE) else uri


def outlasts_the_job() -> bool:
    """Say whether runs are kept where they can be found again.

    A job that was submitted to a cluster works in a folder that Ray makes for it and takes away; MLflow's default, a
    SQLite file in the working directory, would go with it.
    """
    uri = tracking_address()
    here = uri.startswith(SQLITE) and Path(uri.removeprefix(SQLITE)).is_relative_to(Path.cwd())
    job = json.loads(os.environ.get(JOB_VARIABLE, "{}"))
    return not (here and (job.get("runtime_env") or {}).get("working_dir"))


def track_at(address: str) -> None:
    """Let this process, a worker's, track at `tracking_address` of its driver."""
    import mlflow

    mlflow.set_tracking_uri(address)


def open_experiment() -> str:
    """Return the id of the experiment (``MLFLOW_EXPERIMENT_NAME``, else ``boldstream``), made if it is not there.

    Raises
    ------
    ConfigError
        If runs would not outlast the submitted job that this is.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    if not outlasts_the_job():
        raise ConfigError(
            "MLFLOW_TRACKING_URI is not set on the cluster, and this job's folder is removed with the job: set it "
            "where the nodes are started, or submit with --env MLFLOW_TRACKING_URI=http://…"
        )
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
    if mlflow.get_experiment_by_name(name) is None:
        try:
            # This kind makes the UI open its model-training view instead of the GenAI one.
            mlflow.MlflowClient().create_experiment(
                name,
                artifact_location=_artifacts_beside_sqlite(),
                tags={"mlflow.experimentKind": "custom_model_development"},
            )
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another job's, of this moment
                raise
    return str(mlflow.set_experiment(name).experiment_id)


def _artifacts_beside_sqlite() -> str | None:
    """Keep artifacts beside a SQLite store's file, wherever the job is started from; servers choose for themselves."""
    uri = tracking_address()
    if not uri.startswith(SQLITE):
        return None
    return (Path(uri.removeprefix(SQLITE)).parent / "mlartifacts").as_uri()


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield ``a.b`` names and printable values of a nested mapping."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value)

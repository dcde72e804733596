"""From a task to a trained checkpoint: Ray Train on its workers, its storage, and what a person sees meanwhile."""

import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import ray
from boldstream.cluster import await_room
from boldstream.errors import TrainingError
from boldstream.pretrain.config import PretrainConfig, WorkersConfig
from boldstream.pretrain.task import TrainingTask
from boldstream.pretrain.worker import ALARM_TAG, STEP_METRIC, Outcome, train_worker
from boldstream.storage import filesystem
from boldstream.tracking import JobRun

DATA_CPUS = 1
"""CPUs that are left to the tasks that read windows; with none they would never start."""
FREE_WITHIN_S = 20.0
CONTROLLER_POLL_S = 0.5
"""How often Ray Train's controller looks at the workers (its own default: 2 s). They wait for it at the end, and at a
checkpoint that comes before it has taken the last one."""
POLL_S = 2.0

logger = logging.getLogger(__name__)


def run_training(task: TrainingTask, storage: str, run: JobRun, checkpoint_to: Path) -> Outcome:
    """Train on Ray Train's workers, from the newest checkpoint in the storage if there is one.

    Parameters
    ----------
    task : TrainingTask
    storage : str
        URI of the training's folder.
    run : JobRun
    checkpoint_to : path
        Folder that the last checkpoint is copied to.

    Raises
    ------
    TrainingError
        If there are fewer free resources than the workers need, workers die more often than `max_failures`, or
        training stops for a reason that starting it again will not mend.
    """
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    config = task.config
    use_gpu = choose_gpu(config.workers)
    each = _each_gets(config, use_gpu)
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", str(CONTROLLER_POLL_S))
    fs, path = filesystem(storage)
    folder, _, name = path.rpartition("/")
    trainer = TorchTrainer(
        train_worker,
        train_loop_config={"task": task},
        scaling_config=ray.train.ScalingConfig(
            num_workers=config.workers.count,
            use_gpu=use_gpu,
            resources_per_worker=each,
            placement_strategy=config.workers.placement,
        ),
        torch_config=TorchConfig(backend="nccl" if use_gpu else "gloo"),
        run_config=ray.train.RunConfig(
            name=name,
            storage_path=folder,
            storage_filesystem=fs,
            failure_config=ray.train.FailureConfig(max_failures=config.checkpoint.max_failures),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=config.checkpoint.keep),
        ),
    )
    with progress_lines(task, run), plain_interrupt():
        try:
            result = trainer.fit()
        except ray.train.TrainingFailedError as error:
            raise TrainingError(_failed(error, config, storage)) from error
    outcome: Outcome = result.return_value
    if outcome["status"] == "finished":
        result.checkpoint.to_directory(str(checkpoint_to))
        return outcome
    kept = f"the last good checkpoint is step {result.metrics['step']} in {storage}" if result.checkpoint else ""
    why = "collapsed (monitor.on_collapse: stop): " if outcome["status"] == "collapsed" else ""
    raise TrainingError(
        f"{why}{outcome['message']}; {kept or 'there is no checkpoint yet'}; with other settings, start afresh with "
        "--fresh"
    )


def _each_gets(config: PretrainConfig, use_gpu: bool) -> dict[str, float]:
    """Return a worker's resources, once the cluster has them for all workers."""
    each = {"CPU": config.workers.cpus} | ({"GPU": 1.0} if use_gpu else {})
    if config.cluster.wait_minutes:
        await_room(config.cluster, [each] * config.workers.count, config.workers.placement)
    check_resources(config.workers, use_gpu)
    return each


def choose_gpu(workers: WorkersConfig) -> bool:
    """Say whether workers get a GPU each."""
    return workers.gpu == "yes" or (workers.gpu == "auto" and ray.cluster_resources().get("GPU", 0) >= workers.count)


def check_resources(workers: WorkersConfig, use_gpu: bool) -> None:
    """Refuse at once what the cluster cannot start; Ray would wait for ever.

    Raises
    ------
    TrainingError
        Naming what is needed, what the cluster has and what of it is free.
    """
    needed = {"CPU": workers.count * workers.cpus + DATA_CPUS} | ({"GPU": workers.count} if use_gpu else {})
    total = ray.cluster_resources()
    deadline = time.monotonic() + FREE_WITHIN_S
    while True:
        free = ray.available_resources()
        if all(free.get(name, 0) >= amount for name, amount in needed.items()):
            return
        possible = all(total.get(name, 0) >= amount for name, amount in needed.items())
        if not possible or time.monotonic() > deadline:
            break
        time.sleep(0.5)
    wanted, there = (" and ".join(f"{amounts.get(name, 0):g} {name}" for name in needed) for amounts in (needed, total))
    left = " and ".join(f"{free.get(name, 0):g}" for name in needed)
    raise TrainingError(
        f"workers.count {workers.count} needs {wanted} ({DATA_CPUS} CPU of it for reading), the Ray cluster has "
        f"{there}, of which {left} are free; lower workers.count or workers.cpus, or wait for other jobs"
    )


def _failed(error: Exception, config: PretrainConfig, storage: str) -> str:
    """Say in one line why Ray Train gave up."""
    failures = getattr(error, "worker_failures", {})
    first = next(iter(failures.values()), error)
    lines = [line for line in str(first).strip().splitlines() if line.strip()] or [repr(first)]
    return (
        f"training failed {config.checkpoint.max_failures + 1} times, in the end with: {lines[-1]}; checkpoints so far "
        f"are kept in {storage}, the same command goes on from them"
    )


@contextlib.contextmanager
def plain_interrupt() -> Iterator[None]:
    """Let Ctrl-C mean what it means elsewhere: Ray Train's handler aborts its workers and exits with 0."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except (SystemExit, ray.exceptions.ActorDiedError):
        raise KeyboardInterrupt from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def progress_lines(task: TrainingTask, run: JobRun) -> Iterator[None]:
    """Say every few seconds how far the workers are, by what they log to the MLflow run."""
    stop = threading.Event()
    thread = threading.Thread(target=_say, args=(task, run, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _say(task: TrainingTask, run: JobRun, stop: threading.Event) -> None:
    step, alarm = 0, None
    first: tuple[int, float] | None = None
    while not stop.wait(POLL_S):
        numbers, tags = run.latest()
        if (found := tags.get(ALARM_TAG)) != alarm:
            alarm = found
            logger.warning("pretrain: COLLAPSE ALARM at %s", alarm)
        if int(numbers.get(STEP_METRIC, 0)) == step:
            continue
        step, now = int(numbers[STEP_METRIC]), time.monotonic()
        first = first or (step, now)
        rate = (step - first[0]) / max(now - first[1], 1e-9)
        left = f", {(task.steps - step) / rate:.0f} s left" if step > first[0] else ""
        speed = f", {numbers['windows_per_s']:.1f} windows/s" if "windows_per_s" in numbers else ""
        logger.info("pretrain: step %d/%d, loss %.4f%s%s", step, task.steps, numbers["loss"], speed, left)

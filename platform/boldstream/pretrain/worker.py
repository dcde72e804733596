"""What Ray Train runs on every worker: restore, loop, measure, keep checkpoints, report from worker 0."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, TypedDict

import ray.train
import ray.train.torch
import torch.distributed as dist

from boldstream.errors import TrainingError
from boldstream.pretrain.loop import Clock, take_step
from boldstream.pretrain.monitor import Measured, Monitor
from boldstream.pretrain.networks import Networks
from boldstream.pretrain.state import Progress, load_state, save_state
from boldstream.pretrain.task import TrainingTask
from boldstream.pretrain.windows import WindowBatch, read_batches, split_windows
from boldstream.tracking import JobRun, track_at

SAY_EVERY_S = 5.0
ALARM_TAG = "collapse.alarm"
STEP_METRIC = "progress/step"


class Outcome(TypedDict):
    """How a training ended on worker 0: finished, or stopped for a reason that starting it again will not mend."""

    status: Literal["finished", "failed", "collapsed"]
    message: str
    alarms: list[str]


def train_worker(told: dict[str, TrainingTask]) -> Outcome:
    """Train from the last checkpoint, or from the start, to the end.

    An error that would come again is returned, not raised: Ray Train would start the workers again.
    """
    worker = Worker(told["task"])
    try:
        worker.run()
    except TrainingError as error:
        return Outcome(status="failed", message=str(error), alarms=worker.progress.alarms)
    if worker.stopped:
        return Outcome(status="collapsed", message=worker.progress.alarms[-1], alarms=worker.progress.alarms)
    return Outcome(status="finished", message="", alarms=worker.progress.alarms)


class Worker:
    """One worker's training.

    Parameters
    ----------
    task : TrainingTask
    """

    def __init__(self, task: TrainingTask) -> None:
        context = ray.train.get_context()
        self.task, self.config = task, task.config
        self.rank, self.n_workers = context.get_world_rank(), context.get_world_size()
        self.networks = Networks(task, ray.train.torch.get_device(), self.n_workers, context.get_local_world_size())
        self.progress = Progress()
        self.stopped = False
        if (checkpoint := ray.train.get_checkpoint()) is not None:
            with checkpoint.as_directory() as folder:
                self.progress = load_state(Path(folder), task, self.networks, self.rank)
        self.run_log = JobRun(task.run_id) if self.rank == 0 else None
        if self.run_log:
            track_at(task.tracking_uri)
        self.monitor = Monitor(task, self.networks, measures=self.rank == 0 or self.networks.sharded)

    def run(self) -> None:
        """Train to the end, or until a collapse that is to stop it."""
        if self.progress.step == 0 and not self.progress.measurements:
            self._measure(0)
        clock, said = Clock(), time.monotonic()
        batches = self._batches()
        for step in range(self.progress.step + 1, self.task.steps + 1):
            numbers = take_step(step, batches, self.networks, self.task, clock)
            self.progress.step = step
            last = step == self.task.steps
            if step == 1 or last or step % self.config.log_every == 0:
                self._log(numbers | clock.speeds(self.n_workers), step)
            elif time.monotonic() - said >= SAY_EVERY_S:
                said = time.monotonic()
                self._log({}, step)  # for the progress line; curves keep their grid
            if self.monitor.due(step):
                self._measure(step)
                clock = Clock()
            if last or self.stopped or step % self.config.checkpoint.every_steps == 0:
                self._keep(step)
            if self.stopped:
                return

    def _batches(self) -> Iterator[WindowBatch]:
        """Yield this worker's micro-batches from where the training is; worker 0 sets up the stream for all."""
        batch_size = self.config.optim.batch_size
        start, stop = self.progress.step * batch_size, self.task.steps * batch_size
        if start == stop:
            return iter(())
        shards: list[Any] = [None]
        if self.rank == 0:
            shards = [
                split_windows(
                    self.task.plan,
                    self.task.scaler,
                    start=start,
                    stop=stop,
                    micro_batch=self.config.micro_batch,
                    n_workers=self.n_workers,
                )
            ]
        if self.n_workers > 1:
            dist.broadcast_object_list(shards)
        return read_batches(
            shards[0][self.rank],
            start=start,
            micro_batch=self.config.micro_batch,
            rank=self.rank,
            n_workers=self.n_workers,
        )

    def _log(self, numbers: dict[str, float], step: int) -> None:
        if self.run_log:
            self.run_log.log_metrics(numbers | {STEP_METRIC: step}, step=step)

    def _measure(self, step: int) -> None:
        """Measure collapse and probes where they are due; all workers come to the same conclusion."""
        found: list[Measured | TrainingError] = []
        try:
            found.append(self.monitor.measure(step))
        except TrainingError as error:
            found.append(error)  # raised below, on all workers together
        if self.n_workers > 1:
            dist.broadcast_object_list(found)
        if isinstance(found[0], TrainingError):
            raise found[0]
        numbers, alarms = found[0]
        self.progress.connectivity = self.monitor.connectivity
        self.progress.measurements.append({"step": step} | numbers)
        self._log(numbers, step)
        if alarms:
            self.progress.alarms += [f"step {step}: {alarm}" for alarm in alarms]
            self.stopped = self.config.monitor.on_collapse == "stop"
            if self.run_log:
                self.run_log.set_tags({ALARM_TAG: self.progress.alarms[-1]})

    def _keep(self, step: int) -> None:
        """Write a checkpoint through Ray Train; whole once all workers have handed in their part."""
        with tempfile.TemporaryDirectory() as folder:
            save_state(Path(folder), self.task, self.networks, self.progress, self.rank)
            ray.train.report(
                {"step": step},
                checkpoint=ray.train.Checkpoint.from_directory(folder),
                checkpoint_dir_name=f"step-{step:08d}",
            )

"""One optimizer step of one worker: micro-batches in, weights moved, numbers out. It knows neither Ray nor MLflow."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
import torch.distributed as dist

from boldstream.encoders.brainjepa.masks import Masks, sample_masks
from boldstream.encoders.brainjepa.optim import schedules, set_schedules
from boldstream.encoders.windows import to_model_input
from boldstream.errors import TrainingError, few_of
from boldstream.pretrain.networks import Networks
from boldstream.pretrain.task import TrainingTask
from boldstream.pretrain.windows import WindowBatch

SHOWN = 8
"""Scans that an error message names."""


@dataclass
class Clock:
    """What was done since the last point of the curves, for speeds.

    Attributes
    ----------
    windows, tokens : int
        Windows and tokens that this worker's networks have seen (context and targets).
    waited : float
        Seconds spent waiting for windows.
    """

    windows: int = 0
    tokens: int = 0
    waited: float = 0.0
    since: float = field(default_factory=time.monotonic)

    def speeds(self, n_workers: int) -> dict[str, float]:
        """Return the speeds of all workers together since the last call, and the share of time spent waiting."""
        seconds = max(time.monotonic() - self.since, 1e-9)
        found = {
            "windows_per_s": self.windows * n_workers / seconds,
            "tokens_per_s": self.tokens * n_workers / seconds,
            "data_wait_share": self.waited / seconds,
        }
        if torch.cuda.is_available():
            found["gpu_memory_gb"] = torch.cuda.max_memory_allocated() / 1e9
        self.windows = self.tokens = 0
        self.waited, self.since = 0.0, time.monotonic()
        return found


def take_step(
    step: int, batches: Iterator[WindowBatch], networks: Networks, task: TrainingTask, clock: Clock
) -> dict[str, float]:
    """Do one optimizer step.

    Parameters
    ----------
    step : int
        1 for the first.
    batches : iterator of WindowBatch
        This worker's micro-batches.
    networks : Networks
    task : TrainingTask
    clock : Clock

    Returns
    -------
    dict
        The step's numbers, means over all micro-batches of all workers.

    Raises
    ------
    TrainingError
        If the loss is not finite on any worker (all raise); weights are as they were before the step.
    """
    config = task.config
    scheduled = schedules(step, config.optim, task.steps)
    set_schedules(networks.optimizer, scheduled)
    networks.optimizer.zero_grad(set_to_none=True)
    n_micro = config.optim.batch_size // (config.micro_batch * networks.n_workers)
    parts: dict[str, float] = {}
    bad: list[int] = []
    for micro in range(n_micro):
        before = time.monotonic()
        batch = next(batches)
        clock.waited += time.monotonic() - before
        with networks.accumulate(last=micro == n_micro - 1):
            numbers, masks = _backward(batch, step, 1 / n_micro, networks, task)
        for name, value in numbers.items():
            parts[name] = parts.get(name, 0.0) + value / n_micro
        if not math.isfinite(numbers["loss"]):
            bad += batch.positions.tolist()
        clock.windows += len(batch.windows)
        clock.tokens += masks.context_index.numel() + masks.target_index.numel()
    parts = mean_over_workers(parts, networks)
    if not math.isfinite(parts["loss"]):
        raise TrainingError(_not_finite(f"loss is {parts['loss']}", step, bad, task, scheduled["lr"]))
    norm = networks.clip(config.optim.clip_norm)
    if not math.isfinite(norm):
        raise TrainingError(_not_finite(f"gradients' norm is {norm}", step, [], task, scheduled["lr"]))
    networks.optimizer.step()
    networks.objective.after_step(step, scheduled["ema"])
    masked = {f"mask/{name}": parts.pop(name) for name in masks.metrics()}
    return parts | {"grad_norm": norm} | scheduled | masked


def _backward(
    batch: WindowBatch, step: int, share: float, networks: Networks, task: TrainingTask
) -> tuple[dict[str, float], Masks]:
    """Add a micro-batch's share of the gradients; return its numbers and its masks."""
    sizes, config = task.sizes, task.config
    masks = sample_masks(
        sizes.n_rois, sizes.n_patches, torch.tensor(batch.keys), config.mask, seed=config.seed, step=step
    )
    x_BCRT = to_model_input(batch.windows).to(networks.device, non_blocking=True)
    index = [found.to(networks.device) for found in (masks.context_index, masks.target_index)]
    with networks.autocast:
        loss, parts = networks.train_module(x_BCRT, *index)
    (loss * share).backward()
    numbers = {"loss": loss.detach(), **parts} | masks.metrics()
    return {name: float(value) for name, value in numbers.items()}, masks


def mean_over_workers(numbers: dict[str, float], networks: Networks) -> dict[str, float]:
    """Return the mean of every number over all workers; the same on each."""
    if networks.n_workers == 1:
        return numbers
    values = torch.tensor(list(numbers.values()), dtype=torch.float64, device=networks.device)
    dist.all_reduce(values)
    return dict(zip(numbers, (values / networks.n_workers).tolist(), strict=True))


def _not_finite(what: str, step: int, bad: list[int], task: TrainingTask, lr: float) -> str:
    """Say at which step the loss went, in whose windows; called on all workers together."""
    positions = [bad]
    if dist.is_initialized():
        positions = [[] for _ in range(dist.get_world_size())]
        dist.all_gather_object(positions, bad)
    keys = sorted(set(task.plan.scans_at(sorted(position for found in positions for position in found))))
    place = f", in the micro-batch of scans {few_of(keys, SHOWN)}; look at these scans, or lower" if keys else "; lower"
    return f"the {what} at step {step} of {task.steps}{place} optim.lr (now {lr:.2g})"

"""The trainer's step (Ray Train, one worker, data included) against the bare step on tensors in memory.

    python tests/benchmarks/train_step.py [--quick]

Ours is a run through the pretrain room. Its time is what the trainer itself logs: all that happens from the first
step's end to the last one's, so reading and scaling windows, waiting for them, drawing masks, checking that the loss is
finite, and writing the curves to MLflow (SQLite, every ten steps). Left out are start-up with the first step, the
monitor (at the start and at the end only) and the checkpoint (at the end). The bare step is forward, backward, clip,
optimizer and EMA in this process, with as many threads, on the same windows and masks, drawn before. Both start from
the same weights, and must have the same losses. Bare passes are run before and after each of ours.
"""

import argparse
import itertools
import json
import logging
import os
import statistics
import tempfile
import time
from dataclasses import dataclass

import mlflow
import numpy as np
import torch
from random_cohort import write_cohort, write_gradient
from torch import Tensor, nn

import ray
from boldstream.artifacts.cohort import open_cohort
from boldstream.artifacts.gradient import open_gradient
from boldstream.cluster import ClusterConfig, connect
from boldstream.encoders.brainjepa.config import BrainJEPAConfig
from boldstream.encoders.brainjepa.jepa import BrainJEPA
from boldstream.encoders.brainjepa.masks import sample_masks
from boldstream.encoders.brainjepa.objective import Objective
from boldstream.encoders.brainjepa.optim import build_optimizer, schedules, set_schedules
from boldstream.encoders.windows import to_model_input
from boldstream.pretrain import PretrainConfig, pretrain
from boldstream.pretrain.scans import sort_scans
from boldstream.pretrain.windows import WindowSource, draw_windows

CLUSTER = ClusterConfig(object_store_gb=0.5)
TARGET, WAIT_TARGET = 1.05, 0.03
NEVER = 1_000_000


@dataclass(frozen=True)
class Case:
    """A size of the networks, with what two cores can afford of it."""

    size: str
    n_rois: int
    batch: int
    steps: int
    repeats: int
    n_scans: int


FULL = (Case("tiny", 100, 16, 100, 3, 320), Case("small", 100, 4, 40, 3, 40))
QUICK = (Case("small", 16, 2, 20, 1, 10),)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small only, fewer regions and steps, one repeat")
    cases = QUICK if parser.parse_args().quick else FULL
    logging.disable(logging.WARNING)
    torch.set_num_threads(os.cpu_count() or 1)  # as a worker that has the machine for itself
    # Ray's own, 15, would slow its side down on a machine that others use
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{scratch}/mlflow.db"
        connect(CLUSTER)
        results = [measure(case, f"{scratch}/{case.size}") for case in cases]
    print(json.dumps(results[-1]))


def measure(case: Case, warehouse: str) -> dict[str, object]:
    """Train both ways in turns and print the comparison."""
    write_cohort(warehouse, "c", case.n_scans, 200, case.n_rois)
    write_gradient(warehouse, "g", case.n_rois)
    configs = [
        PretrainConfig.model_validate(
            {
                "output": f"{case.size}-{repeat}", "cohort": "c", "gradient": "g", "size": case.size, "holdout": 0,
                "scaling": "zscore", "steps": case.steps, "optim": {"batch_size": case.batch},
                "checkpoint": {"every_steps": NEVER}, "monitor": {"every_epochs": NEVER, "scans": 2},
                "workers": {"gpu": "no"}, "warehouse": warehouse, "cluster": CLUSTER,
            }
        )
        for repeat in range(case.repeats)
    ]  # fmt: skip
    tensors = draw(configs[0])
    bare, ours, waits = [train_bare(configs[0], tensors)], [], []
    for config in configs:
        seconds, wait, losses = train(config)
        bare.append(train_bare(config, tensors))
        for step, loss in losses.items():
            np.testing.assert_allclose(loss, bare[-1][1][step], rtol=1e-3, err_msg=f"other losses at step {step}")
        ours.append(seconds)
        waits.append(wait)
    ratios = [a / statistics.fmean((bare[i][0], bare[i + 1][0])) for i, a in enumerate(ours)]
    step, baseline = 1e3 * statistics.median(ours), 1e3 * statistics.median(seconds for seconds, _ in bare)
    ratio, wait = statistics.median(ratios), statistics.median(waits)
    print(
        f"{case.size}: {case.n_rois} x 160, batch {case.batch}, steps 2 to {case.steps}, median of {case.repeats}, "
        f"{torch.get_num_threads()} threads"
    )
    print(f"  bare step     {baseline:8.1f} ms   (passes {', '.join(f'{1e3 * seconds:.1f}' for seconds, _ in bare)})")
    print(f"  trainer step  {step:8.1f} ms   (by the passes around each {', '.join(f'{r:.3f}' for r in ratios)})")
    verdict = "" if case.size != "small" else f"   (target {WAIT_TARGET:.0%}, {wait < WAIT_TARGET})"
    print(f"  data wait     {wait:8.2%}{verdict}")
    return {
        "name": f"train_step ({case.size})", "ratio": ratio, "target": TARGET, "met": ratio <= TARGET,
        "ours": step, "baseline": baseline, "unit": "ms/step",
    }  # fmt: skip


def draw(config: PretrainConfig) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Return the windows and masks of every step of a run, drawn in this process."""
    scans = sort_scans(open_cohort(config.cohort, config.warehouse), config)
    batch_size, steps = config.optim.batch_size, config.steps or 0
    parts = np.array(list(scans.plan.parts(0, steps * batch_size)), dtype=np.int64)
    source = WindowSource(parts, ray.put(scans.plan), scans.scaler)
    drawn = [draw_windows({"id": np.array([part])}, source=source) for part in range(len(parts))]
    windows, keys = (np.concatenate([part[name] for part in drawn]) for name in ("window", "key"))
    n_patches = config.n_timepoints // config.patch_size
    found = []
    for step in range(1, steps + 1):
        of_step = slice((step - 1) * batch_size, step * batch_size)
        masks = sample_masks(
            windows.shape[2], n_patches, torch.from_numpy(keys[of_step]), config.mask, seed=config.seed, step=step
        )
        found.append((to_model_input(windows[of_step]), masks.context_index, masks.target_index))
    return found


def train_bare(config: PretrainConfig, tensors: list[tuple[Tensor, Tensor, Tensor]]) -> tuple[float, dict[int, float]]:
    """Train with nothing around the step; return its mean seconds from the second on, and the losses."""
    gradient = open_gradient(config.gradient, config.warehouse).values.astype(np.float32)
    sizes = BrainJEPAConfig.sized(
        config.size, len(gradient), n_timepoints=config.n_timepoints, gradient_dims=gradient.shape[1]
    )
    torch.manual_seed(config.seed)
    objective = Objective(BrainJEPA.build(sizes, torch.from_numpy(gradient), config.initialisation), config.objective)
    objective.train()
    optimizer = build_optimizer(objective.jepa)
    trained = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    losses: dict[int, float] = {}
    started = 0.0
    for step, (x, context, target) in enumerate(tensors, start=1):
        scheduled = schedules(step, config.optim, len(tensors))
        set_schedules(optimizer, scheduled)
        optimizer.zero_grad(set_to_none=True)
        loss, _ = objective(x, context, target)
        loss.backward()
        nn.utils.clip_grad_norm_(trained, config.optim.clip_norm)
        optimizer.step()
        objective.after_step(step, scheduled["ema"])
        losses[step] = loss.item()
        if step == 1:
            started = time.perf_counter()
    return (time.perf_counter() - started) / (len(tensors) - 1), losses


def train(config: PretrainConfig) -> tuple[float, float, dict[int, float]]:
    """Train through the room; return the step's mean seconds from the second on, the share waited, the losses."""
    pretrain(config)
    client = mlflow.MlflowClient()
    (run,) = mlflow.search_runs(
        experiment_names=["boldstream"], filter_string=f"run_name = 'pretrain {config.output}'", output_format="list"
    )

    def curve(name: str) -> dict[int, float]:
        return {point.step: point.value for point in client.get_metric_history(run.info.run_id, name)}

    speeds, waits = curve("windows_per_s"), curve("data_wait_share")
    points = sorted(speeds)
    assert points[0] == 1
    # what the trainer measured at a point is of the steps since the point before
    seconds = {
        step: (step - before) * config.optim.batch_size / speeds[step] for before, step in itertools.pairwise(points)
    }
    total = sum(seconds.values())
    return total / (points[-1] - 1), sum(waits[step] * seconds[step] for step in seconds) / total, curve("loss")


if __name__ == "__main__":
    main()

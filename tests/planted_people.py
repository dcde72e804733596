"""Made-up people whose regions are coupled in ways of their own, to pretrain on in seconds."""

import dataclasses
import itertools

import numpy as np
import torch

from boldstream.encoders.brainjepa.config import BrainJEPAConfig
from boldstream.pretrain.config import PretrainConfig
from boldstream.pretrain.loop import Clock, take_step
from boldstream.pretrain.monitor import Monitor
from boldstream.pretrain.task import ScanSet
from boldstream.pretrain.windows import WindowBatch
from small_training import build_networks, training_task, window_plan

N_SUBJECTS, N_ROIS, LENGTH = 32, 20, 64
NOBODY = 10**6
SHAPE = {"embed_dim": 32, "depth": 2, "num_heads": 4, "predictor_embed_dim": 16, "predictor_depth": 1}
OPTIM = {"batch_size": 16, "lr": 2e-3, "ema": 0.98}


def window(subject, number):
    """Four autoregressive sources, mixed by the subject's own weights, and noise; standardised (T, R)."""
    rng = np.random.default_rng([subject, number])
    common = np.random.default_rng(0).normal(size=(4, N_ROIS))
    mixing = common + 0.7 * np.random.default_rng([1, subject]).normal(size=common.shape)
    sources = rng.normal(size=(LENGTH + 20, 4))
    for t in range(1, len(sources)):
        sources[t] += 0.8 * sources[t - 1]
    values = sources[20:] @ mixing + 0.5 * rng.normal(size=(LENGTH, N_ROIS))
    return ((values - values.mean(axis=0)) / values.std(axis=0)).astype(np.float32)


def batches(task):
    """Yield micro-batches; with two views, windows of a subject after each other."""
    size, views = task.config.micro_batch, task.config.objective.views
    for number in itertools.count():
        subjects = np.random.default_rng([5, number]).permutation(N_SUBJECTS)[: size // views].repeat(views)
        found = np.stack([window(subject, 100 * number + i) for i, subject in enumerate(subjects)])
        keys = np.random.default_rng([6, number]).integers(0, 2**62, size)
        yield WindowBatch(found, keys, np.arange(size))


class HeldOutMonitor(Monitor):
    """A monitor of windows in memory."""

    def _read(self, scans):
        return np.stack([window(subject, NOBODY) for subject in range(N_SUBJECTS)])


def task_of(steps=100, **values):
    known = {"output": "m", "cohort": "c", "gradient": "g", "n_timepoints": LENGTH, "windows_per_scan": 2}
    config = PretrainConfig.from_mapping(known | {"steps": steps, "optim": OPTIM} | values, where="run.yaml")
    sizes = BrainJEPAConfig(n_rois=N_ROIS, n_timepoints=LENGTH, gradient_dims=5, **SHAPE)
    plan = window_plan(scans_by_group=(16, 16))
    nobody = np.full(N_SUBJECTS, np.nan)
    gradient = np.random.default_rng(1).normal(size=(N_ROIS, 5)).astype(np.float32)
    scans = ScanSet(plan, np.arange(N_SUBJECTS), nobody, nobody)
    task = training_task()
    return dataclasses.replace(task, config=config, steps=steps, sizes=sizes, gradient=gradient, monitored=scans)


def alarms_after_training(task, change=None):
    """Train and measure; return the alarms, and the numbers with those of the last step."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    networks = build_networks(task)
    stream = batches(task)
    for step in range(1, task.steps + 1):
        last = take_step(step, stream, networks, task, Clock())
    if change:
        with torch.no_grad():
            change(networks.target_encoder)
    numbers, alarms = HeldOutMonitor(task, networks, measures=True).measure(task.steps)
    torch.set_num_threads(threads)
    return alarms, numbers | last

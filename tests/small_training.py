"""A training small enough for one thread, without a cohort: made-up scans, one process."""

import itertools

import numpy as np
import torch

from boldstream.encoders.brainjepa.config import BrainJEPAConfig
from boldstream.encoders.brainjepa.scaling import WindowZscore
from boldstream.pretrain.config import PretrainConfig
from boldstream.pretrain.networks import Networks
from boldstream.pretrain.plan import WindowPlan, window_key
from boldstream.pretrain.task import ScanSet, TrainingTask
from boldstream.pretrain.windows import WindowBatch

N_ROIS, LENGTH, PATCH = 6, 16, 4
SIZES = {"embed_dim": 8, "depth": 2, "num_heads": 2, "predictor_embed_dim": 8, "predictor_depth": 1}


def window_plan(scans_by_group=(4, 4), **values):
    """Return the plan of scans that lie in row groups of these sizes, two row groups a file."""
    group = np.repeat(np.arange(len(scans_by_group)), scans_by_group)
    row = np.concatenate([np.arange(n) for n in scans_by_group])
    known = {
        "files": tuple(f"file{i}" for i in range(len(scans_by_group))),
        "scan_keys": tuple(f"sub-{i:02d}" for i in range(len(group))),
        "file": group // 2,
        "group": group % 2,
        "row": row,
        "length": LENGTH,
        "n_rois": N_ROIS,
        "target_t_r": None,
        "windows_per_scan": 2,
        "views": 1,
        "seed": 0,
    }
    return WindowPlan(**(known | values))


def pretrain_config(**values):
    """Return a configuration, with what is given."""
    known = {"output": "model", "cohort": "study", "gradient": "gradient", "steps": 4, "holdout": 0}
    known |= {"n_timepoints": LENGTH, "patch_size": PATCH, "windows_per_scan": 2, "optim": {"batch_size": 4}}
    return PretrainConfig.from_mapping(known | values, where="run.yaml")


def training_task(**values):
    """Return the task of a configuration's training, with networks of 6 regions and 4 patches."""
    config = pretrain_config(**values)
    sizes = BrainJEPAConfig(n_rois=N_ROIS, n_timepoints=LENGTH, patch_size=PATCH, gradient_dims=3, **SIZES)
    plan = window_plan(views=config.objective.views, seed=config.seed)
    scans = ScanSet(plan, np.arange(4), np.full(4, 30.0), np.array([0.0, 1.0, 0.0, 1.0]))
    return TrainingTask(
        config=config,
        steps=config.steps,
        sizes=sizes,
        atlas="toy",
        roi_names=tuple(f"R{i}" for i in range(N_ROIS)),
        gradient=np.random.default_rng(0).normal(size=(N_ROIS, 3)).astype(np.float32),
        scaler=WindowZscore().fit(),
        plan=plan,
        monitored=scans,
        probed=scans,
        held_out=True,
        provenance={"cohort": "study@1"},
        run_id="run",
        tracking_uri="sqlite://",
    )


def build_networks(task):
    """Return a worker's networks on the CPU."""
    threads = torch.get_num_threads()
    networks = Networks(task, torch.device("cpu"))
    torch.set_num_threads(threads)
    return networks


def window_batches(task, start_step=1):
    """Yield the micro-batches of a training from a step on, as `read_batches` does."""
    size = task.config.micro_batch
    for start in itertools.count((start_step - 1) * task.config.optim.batch_size, size):
        positions = np.arange(start, start + size)
        windows, keys = [], []
        for part in task.plan.parts(start, start + size):
            scans, numbers = (column[part.first : part.last] for column in task.plan.shuffled(part.epoch, part.number))
            for scan, number in zip(scans.tolist(), numbers.tolist(), strict=True):
                windows.append(np.random.default_rng([scan, number, part.epoch]).normal(size=(LENGTH, N_ROIS)))
                keys.append(window_key(task.plan.seed, part.epoch, task.plan.scan_keys[scan], number))
        yield WindowBatch(np.stack(windows).astype(np.float32), np.array(keys), positions)

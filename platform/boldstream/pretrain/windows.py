"""Training windows: drawn in Ray Data tasks, streamed to the loop in seeded order, epoch after epoch."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from boldstream.artifacts.cohort import Cohort, iter_timeseries
from boldstream.encoders.windows import resample, sample_window
from boldstream.errors import ScanError
from boldstream.pretrain.config import PretrainConfig

SERIES_COLUMNS = ["scan_key", "t_r", "n_timepoints", "n_rois", "timeseries"]
SHUFFLE_BATCHES = 16
"""Windows of so many batches are held back and mixed."""


@dataclass(frozen=True)
class WindowTask:
    """How one epoch's windows are drawn."""

    length: int
    target_t_r: float | None
    windows_per_scan: int
    seed: int
    epoch: int


def training_windows(cohort: Cohort, config: PretrainConfig) -> Iterator[NDArray[np.float32]]:
    """Yield batches (batch_size, n_timepoints, n_rois) of unscaled windows without end.

    A scan's windows follow from (seed, epoch, scan key) alone; the order from the seed and the epoch. The last,
    smaller batch of an epoch is left out, as the reference does, unless it is the epoch's only one.
    """
    batch_size = config.optim.batch_size
    epoch = 0
    while True:
        task = WindowTask(config.n_timepoints, config.target_t_r, config.windows_per_scan, config.seed, epoch)
        dataset = cohort.read(SERIES_COLUMNS).map_batches(
            draw_windows, fn_kwargs={"task": task}, batch_format="pyarrow", batch_size=None
        )
        dataset.context.execution_options.preserve_order = True
        given = 0
        for batch in dataset.iter_batches(
            batch_size=batch_size,
            batch_format="numpy",
            local_shuffle_buffer_size=SHUFFLE_BATCHES * batch_size,
            local_shuffle_seed=config.seed + epoch,
        ):
            if len(batch["window"]) == batch_size or given == 0:
                yield np.stack(list(batch["window"]))
                given += 1
        epoch += 1


def draw_windows(batch: pa.Table, *, task: WindowTask) -> dict[str, NDArray[np.float32]]:
    """Draw one epoch's windows of the scans of a batch; scans shorter than a window give none."""
    found = []
    for key, t_r, timeseries in zip(
        batch["scan_key"].to_pylist(), batch["t_r"].to_pylist(), iter_timeseries(batch), strict=True
    ):
        rng = np.random.default_rng([task.seed, task.epoch, *hashlib.sha256(key.encode()).digest()[:8]])
        values = timeseries if task.target_t_r is None else resample(timeseries, t_r, task.target_t_r)
        try:
            found += [sample_window(values, task.length, rng) for _ in range(task.windows_per_scan)]
        except ScanError:
            continue  # counted by `count_usable` before the first epoch
    n_rois = batch["n_rois"][0].as_py()
    return {"window": np.stack(found) if found else np.empty((0, task.length, n_rois), np.float32)}


def scan_statistics(cohort: Cohort, config: PretrainConfig) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Return temporal means and standard deviations (n_usable, n_rois) of the scans that fill a window.

    Also returns how many scans are too short (or of unknown repetition time) and are left out of training.
    """
    dataset = cohort.read(SERIES_COLUMNS).map_batches(
        _statistics, fn_kwargs={"config": config}, batch_format="pyarrow", batch_size=None
    )
    rows = sorted(dataset.iter_rows(), key=lambda row: str(row["scan_key"]))
    used = [row for row in rows if row["usable"]]
    shape = (len(used), len(cohort.roi_names))
    means = np.array([row["mean"] for row in used], dtype=np.float64).reshape(shape)
    stds = np.array([row["std"] for row in used], dtype=np.float64).reshape(shape)
    return means, stds, len(rows) - len(used)


def _statistics(batch: pa.Table, *, config: PretrainConfig) -> pa.Table:
    rows = []
    for key, t_r, timeseries in zip(
        batch["scan_key"].to_pylist(), batch["t_r"].to_pylist(), iter_timeseries(batch), strict=True
    ):
        n_timepoints = len(timeseries)
        if config.target_t_r is not None:
            n_timepoints = 0 if t_r is None else len(resample(timeseries[:, :1], t_r, config.target_t_r))
        values = timeseries.astype(np.float64)
        rows.append(
            {
                "scan_key": key,
                "usable": n_timepoints >= config.n_timepoints,
                "mean": values.mean(axis=0),
                "std": values.std(axis=0),
            }
        )
    return pa.Table.from_pylist(rows)

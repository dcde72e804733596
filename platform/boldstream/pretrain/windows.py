"""Training windows: drawn in Ray Data tasks, streamed to the loop in seeded order."""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from boldstream.artifacts.cohort import Cohort, iter_timeseries
from boldstream.encoders.windows import resample, sample_window
from boldstream.errors import ScanError
from boldstream.pretrain.config import PretrainConfig
from boldstream.storage import filesystem

SERIES_COLUMNS = ["scan_key", "t_r", "n_timepoints", "n_rois", "timeseries"]
SHUFFLE_BATCHES = 16
"""Windows of so many batches are held back and mixed."""

MOST_BLOCKS = 512
"""Reads are bundled into at most so many Ray tasks."""


class WindowBatch(NamedTuple):
    """Windows of one step.

    Attributes
    ----------
    windows : array, shape (B, n_timepoints, n_rois), float32
        Unscaled.
    keys : array, shape (B,), int64
        `window_key` of each; decides where its mask lies.
    """

    windows: NDArray[np.float32]
    keys: NDArray[np.int64]


@dataclass(frozen=True)
class WindowTask:
    """How windows are drawn from the files of a cohort."""

    files: tuple[str, ...]
    length: int
    target_t_r: float | None
    windows_per_scan: int
    seed: int


def training_windows(cohort: Cohort, config: PretrainConfig, n_scans: int) -> Iterator[WindowBatch]:
    """Yield ``config.steps`` batches of `WindowBatch` (batch_size windows).

    A scan's windows follow from (seed, epoch, scan key) alone, their order from the seed. All epochs are one stream
    of Ray Data (starting one costs seconds), so batches run on across the ends of epochs.

    Parameters
    ----------
    cohort : Cohort
    config : PretrainConfig
    n_scans : int
        Scans that fill a window.
    """
    import ray.data

    batch_size = config.optim.batch_size
    n_epochs = math.ceil(config.steps * batch_size / (n_scans * config.windows_per_scan))
    task = WindowTask(
        files=tuple(file.uri for file in cohort.files),
        length=config.n_timepoints,
        target_t_r=config.target_t_r,
        windows_per_scan=config.windows_per_scan,
        seed=config.seed,
    )
    n_reads = n_epochs * len(task.files)
    dataset = ray.data.range(n_reads, override_num_blocks=min(n_reads, MOST_BLOCKS)).map_batches(
        draw_windows, fn_kwargs={"task": task}, batch_format="numpy", batch_size=1
    )
    dataset.context.execution_options.preserve_order = True
    for batch in dataset.iter_batches(
        batch_size=batch_size,
        batch_format="numpy",
        drop_last=True,
        local_shuffle_buffer_size=SHUFFLE_BATCHES * batch_size,
        local_shuffle_seed=config.seed,
    ):
        yield WindowBatch(batch["window"], batch["key"])


def window_key(seed: int, epoch: int, scan_key: str, window: int) -> int:
    """Fold what a window's mask follows from into a signed 64-bit integer (`window` counts a scan's in an epoch)."""
    digest = hashlib.sha256(f"{seed} {epoch} {window} {scan_key}".encode()).digest()
    return int.from_bytes(digest[:8], "little", signed=True)


def draw_windows(batch: dict[str, NDArray[np.int64]], *, task: WindowTask) -> dict[str, NDArray[np.generic]]:
    """Draw one epoch's windows of one file, each with its `window_key`; ``id`` counts files within epochs.

    Too short scans give none.
    """
    epoch, file = divmod(int(batch["id"][0]), len(task.files))
    fs, path = filesystem(task.files[file])
    rows = pq.read_table(path, columns=SERIES_COLUMNS, filesystem=fs)
    found: list[NDArray[np.float32]] = []
    keys: list[int] = []
    for key, t_r, timeseries in zip(
        rows["scan_key"].to_pylist(), rows["t_r"].to_pylist(), iter_timeseries(rows), strict=True
    ):
        rng = np.random.default_rng([task.seed, epoch, *hashlib.sha256(key.encode()).digest()[:8]])
        try:
            values = timeseries if task.target_t_r is None else resample(timeseries, t_r, task.target_t_r)
            found += [sample_window(values, task.length, rng) for _ in range(task.windows_per_scan)]
        except ScanError:
            continue  # `scan_statistics` has counted it
        keys += [window_key(task.seed, epoch, key, window) for window in range(task.windows_per_scan)]
    n_rois = rows["n_rois"][0].as_py()
    windows = np.stack(found) if found else np.empty((0, task.length, n_rois), np.float32)
    return {"window": windows, "key": np.array(keys, dtype=np.int64)}


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

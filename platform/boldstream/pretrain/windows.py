"""Training windows: drawn and scaled in Ray Data tasks, split among the workers a micro-batch a block."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from boldstream.artifacts.cohort import iter_timeseries
from boldstream.encoders.brainjepa.scaling import Scaler
from boldstream.parcellation.timing import resample
from boldstream.pretrain.plan import ChunkPart, WindowPlan, window_key, window_starts
from boldstream.storage import filesystem

if TYPE_CHECKING:
    import ray.data

    import ray

BREATH_S = 0.02
SERIES_COLUMNS = ["t_r", "n_timepoints", "n_rois", "timeseries"]


class WindowBatch(NamedTuple):
    """Windows of one micro-batch.

    Attributes
    ----------
    windows : array, shape (B, n_timepoints, n_rois), float32
        Scaled.
    keys : array, shape (B,), int64
        `window_key` of each; decides where its mask lies.
    positions : array, shape (B,), int64
        Their positions in the plan.
    """

    windows: NDArray[np.float32]
    keys: NDArray[np.int64]
    positions: NDArray[np.int64]


@dataclass(frozen=True)
class WindowSource:
    """What the tasks that draw windows are told: `parts` as an array of `ChunkPart`, and the plan in Ray's store."""

    parts: NDArray[np.int64]
    plan: "ray.ObjectRef"
    scaler: Scaler


def split_windows(
    plan: WindowPlan, scaler: Scaler, *, start: int, stop: int, micro_batch: int, n_workers: int
) -> list["ray.data.DataIterator"]:
    """Return one stream of micro-batches a worker, together the positions from `start` to `stop`.

    Every block holds one micro-batch. Blocks keep their order and go to the workers in turn, so worker ``r`` of ``W``
    gets the micro-batches ``r``, ``r + W``, … (`read_batches` checks it).

    Parameters
    ----------
    plan : WindowPlan
    scaler : Scaler
        The model's own scaling, fitted.
    start, stop : int
        Positions; their distance is a multiple of ``micro_batch * n_workers``.
    micro_batch : int
        Windows in a block.
    n_workers : int
    """
    import ray.data

    import ray

    parts = np.array(list(plan.parts(start, stop)), dtype=np.int64)
    source = WindowSource(parts, ray.put(plan), scaler)
    dataset = ray.data.range(len(parts), override_num_blocks=len(parts)).map_batches(
        draw_windows, fn_kwargs={"source": source}, batch_format="numpy", batch_size=1
    )
    dataset = dataset.repartition(target_num_rows_per_block=micro_batch, strict=True)
    dataset.context.execution_options.preserve_order = True
    dataset.context.custom_execution_callback_classes.append(Breather)
    return dataset.streaming_split(n_workers, equal=True)


class Breather:
    """Callback that lets Ray Data's executor sleep between its turns.

    With workers slower than its tasks (training is), all its outputs wait for them, and its loop spins without any:
    half a core, measured with Ray 2.60 on two.
    """

    def before_execution_starts(self, executor: object) -> None:
        """Do nothing."""

    def on_execution_step(self, executor: object) -> None:
        """Sleep."""
        time.sleep(BREATH_S)

    def after_execution_succeeds(self, executor: object) -> None:
        """Do nothing."""

    def after_execution_fails(self, executor: object, error: Exception) -> None:
        """Do nothing."""


def draw_windows(batch: dict[str, NDArray[np.int64]], *, source: WindowSource) -> dict[str, NDArray[np.generic]]:
    """Read one chunk of the plan and draw its windows; ``id`` counts `WindowSource.parts`."""
    import ray

    plan: WindowPlan = ray.get(source.plan)
    part = ChunkPart(*source.parts[int(batch["id"][0])].tolist())
    scans, windows = (column[part.first : part.last] for column in plan.shuffled(part.epoch, part.number))
    series = read_series(plan, np.unique(scans))
    starts = {
        scan: window_starts(
            plan.seed, part.epoch, plan.scan_keys[scan], len(found) - plan.length, plan.windows_per_scan
        )
        for scan, found in series.items()
    }
    values = np.empty((len(scans), plan.length, plan.n_rois), dtype=np.float32)
    keys = np.empty(len(scans), dtype=np.int64)
    for at, (scan, window) in enumerate(zip(scans.tolist(), windows.tolist(), strict=True)):
        first = starts[scan][window]
        values[at] = series[scan][first : first + plan.length]
        keys[at] = window_key(plan.seed, part.epoch, plan.scan_keys[scan], window)
    positions = np.arange(part.position, part.position + len(scans), dtype=np.int64)
    return {"window": source.scaler.transform(values), "key": keys, "position": positions}


def read_series(plan: WindowPlan, scans: NDArray[np.int64]) -> dict[int, NDArray[np.float32]]:
    """Read scans of a plan, resampled as it says; whole row groups, each once."""
    found: dict[int, NDArray[np.float32]] = {}
    for file in np.unique(plan.file[scans]).tolist():
        of_file = scans[plan.file[scans] == file]
        fs, path = filesystem(plan.files[file])
        with fs.open_input_file(path) as stream:
            parquet = pq.ParquetFile(stream)
            for group in np.unique(plan.group[of_file]).tolist():
                rows = parquet.read_row_group(group, columns=SERIES_COLUMNS)
                wanted = of_file[plan.group[of_file] == group]
                found |= _resampled(rows.take(plan.row[wanted]), wanted, plan)
    return found


def _resampled(rows: "pq.Table", scans: NDArray[np.int64], plan: WindowPlan) -> dict[int, NDArray[np.float32]]:
    series = zip(scans.tolist(), rows["t_r"].to_pylist(), iter_timeseries(rows), strict=True)
    if plan.target_t_r is None:
        return {scan: timeseries for scan, _, timeseries in series}
    return {scan: resample(timeseries, t_r, plan.target_t_r) for scan, t_r, timeseries in series}


def read_batches(
    shard: "ray.data.DataIterator", *, start: int, micro_batch: int, rank: int, n_workers: int
) -> Iterator[WindowBatch]:
    """Yield a worker's micro-batches.

    Raises
    ------
    RuntimeError
        If Ray hands out other windows than those that are this worker's turn.
    """
    expected = start + rank * micro_batch
    for batch in shard.iter_batches(batch_size=micro_batch, batch_format="numpy", prefetch_batches=2):
        if not np.array_equal(batch["position"], np.arange(expected, expected + micro_batch)):
            raise RuntimeError(
                f"worker {rank} of {n_workers} got windows {batch['position'][:3]}… instead of {expected} and on; "
                "Ray Data did not keep its blocks in order: report this with the versions of ray and boldstream"
            )
        expected += n_workers * micro_batch
        yield WindowBatch(batch["window"], batch["key"], batch["position"])

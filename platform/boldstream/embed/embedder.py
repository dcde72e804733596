"""The encoder actor of the embed room: scans in, shards of three tables on storage, a receipt out."""

import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from boldstream.embed.batch_size import BatchSize, GpuMemory, HostMemory, Memory
from boldstream.embed.encode import encode_scans
from boldstream.embed.rows import Cut, cut_scans, fill_rows
from boldstream.embed.task import EmbedTask
from boldstream.embed.watch import RemoteWatch, ScanWatch, State
from boldstream.embed.write import write_rows
from boldstream.encoders.interface import WindowEncoder, load_encoder

if TYPE_CHECKING:
    import torch


class BrainEncoder:
    """Actor that holds one encoder, and turns batches of scans into shards of vectors.

    Ray calls it from two threads: while one batch is encoded, another is cut into windows or written to storage.

    Parameters
    ----------
    task : EmbedTask
    """

    def __init__(self, task: EmbedTask) -> None:
        import torch

        import ray

        device = torch.device(task.device)
        if device.type == "cpu":
            torch.set_num_threads(task.threads or max(1, (os.cpu_count() or 1) // task.actors))
        with tempfile.TemporaryDirectory() as folder:
            for name, data in ray.get(task.model_files).items():
                (Path(folder) / name).write_bytes(data)
            encoder = load_encoder(folder, device=task.device, precision=task.precision, compiled=task.compile)
        batch = BatchSize(task.batch_size, _memory(task, device), timed=device.type == "cpu")
        self.desk = Desk(encoder, batch, task, task.watch, ray.get_runtime_context().get_actor_id())

    def __call__(self, batch: pa.Table) -> dict[str, list[Any]]:
        """Embed a batch of cohort rows and write what came of it; returns the receipt for the driver."""
        return {name: [value] for name, value in self.desk.embed(batch).items()}


def _memory(task: EmbedTask, device: "torch.device") -> Memory:
    return GpuMemory(device, min(1.0, task.gpus)) if device.type == "cuda" else HostMemory(task.actors)


class Desk:
    """What an encoder does with a batch of scans; knows nothing of Ray.

    A scan that cannot be embedded, or that fails, never takes its batch with it: it gets a row of refusals or failures
    instead of a vector, even where it has killed the process before (see `boldstream.embed.watch`).

    Parameters
    ----------
    encoder : WindowEncoder
    batch : BatchSize
    task : EmbedTask
    watch : ScanWatch or RemoteWatch
    name : str
        Of the actor, for its receipts.
    """

    def __init__(
        self, encoder: WindowEncoder, batch: BatchSize, task: EmbedTask, watch: ScanWatch | RemoteWatch, name: str
    ) -> None:
        self.encoder, self.batch, self.task, self.watch, self.name = encoder, batch, task, watch, name
        # one thread for all encoding, because torch keeps a pool of threads for each that it is called from
        self.thread = ThreadPoolExecutor(1, "encode")
        self.ended = time.monotonic()

    def embed(self, batch: pa.Table) -> dict[str, Any]:
        """Embed cohort rows, write vectors, refusals and failures, and return the receipt."""
        keys = batch["scan_key"].to_pylist()
        before = self.watch.begin(keys)
        if before:
            rows, times = self.thread.submit(self._encode_suspects, batch, before).result()
        else:
            rows, times = self.thread.submit(self._encode, cut_scans(batch, self.task)).result()
        receipt = write_rows(pa.Table.from_pylist(rows, schema=self.task.row_schema), self.task)
        self.watch.end(keys)
        return {**receipt, **times, "actor": self.name, "batch_size": self.batch.size}

    def _encode(self, cut: Cut) -> tuple[list[dict[str, Any]], dict[str, float]]:
        started = time.monotonic()
        encoded = encode_scans(cut.windows, self.encoder, self.task.strategy, self.batch)
        now, before = time.monotonic(), self.ended
        self.ended = now
        return fill_rows(cut, encoded), {"encode_s": now - started, "wall_s": now - before}

    def _encode_suspects(
        self, batch: pa.Table, before: dict[str, State]
    ) -> tuple[list[dict[str, Any]], dict[str, float]]:
        """Encode scans one by one, because an encoder died of one of them, and leave out the one that it was."""
        rows, times = [], {"encode_s": 0.0, "wall_s": 0.0}
        lost = {key for key, state in before.items() if state == "alone"}
        for place, key in enumerate(batch["scan_key"].to_pylist()):
            if key not in lost:
                self.watch.alone(key)
            found, spent = self._encode(cut_scans(batch.slice(place, 1), self.task, lost))
            if key not in lost:
                self.watch.survived(key)
            rows += found
            times = {name: times[name] + spent[name] for name in times}
        return rows, times

"""What runs on the workers of the embed room: the encoder actor and the shard writer."""

import hashlib
import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from boldstream.artifacts.cohort import QUARANTINE_SCHEMA, iter_timeseries
from boldstream.artifacts.embeddings import row_key
from boldstream.artifacts.shards import shard_name, write_shard
from boldstream.embed.config import Strategy
from boldstream.encoders.interface import Precision, WindowEncoder, load_encoder
from boldstream.encoders.windows import Windows, cut_windows
from boldstream.errors import ScanError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class EmbedTask:
    """What every worker of a run is told.

    Attributes
    ----------
    strategy : Strategy
    parts, batch_size, actors : int
    device : str
    precision : {"float32", "bfloat16"}
    done : frozenset of str
        Row keys that the table holds already.
    stamp : dict
        Columns that are the same in every row: strategy, model version, cohort version and digests.
    schema : pyarrow.Schema
        Of the embedding table.
    table_uri, quarantine_uri : str
        Where the two tables live.
    identity : str
        Hash of the run's identity, for the shards' names.
    model_files : ray.ObjectRef
        The model folder as a mapping of file names to bytes, put into the object store once a run.
    """

    strategy: Strategy
    parts: int
    batch_size: int
    actors: int
    device: str
    precision: Precision
    done: frozenset[str]
    stamp: dict[str, str]
    schema: pa.Schema
    table_uri: str
    quarantine_uri: str
    identity: str
    model_files: Any


class BrainEncoder:
    """Actor that holds one encoder and turns batches of scans into vectors.

    Parameters
    ----------
    task : EmbedTask
    """

    def __init__(self, task: EmbedTask) -> None:
        import torch

        import ray

        self.task = task
        if task.device == "cpu":
            torch.set_num_threads(max(1, (os.cpu_count() or 1) // task.actors))
        with tempfile.TemporaryDirectory() as folder:
            for name, data in ray.get(task.model_files).items():
                (Path(folder) / name).write_bytes(data)
            self.encoder = load_encoder(folder, device=task.device, precision=task.precision)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Embed a batch of cohort rows; returns one row a part, with its vector or with the reason for none."""
        found = embed_rows(batch, self.encoder, self.task)
        return pa.Table.from_pylist(found, schema=_traffic_schema(self.task.schema))


def _traffic_schema(schema: pa.Schema) -> pa.Schema:
    """Return the schema between encoder and writer: the table's, all nullable, and a refusal's two columns."""
    fields = [field.with_nullable(True) for field in schema]
    return pa.schema([*fields, pa.field("reason", pa.string()), pa.field("message", pa.string())])


def embed_rows(batch: pa.Table, encoder: WindowEncoder, task: EmbedTask) -> list[dict[str, Any]]:
    """Embed cohort rows in this process.

    Windows of all scans of the batch go through the encoder together, `batch_size` at a time. A scan that cannot be
    embedded gets a ``reason`` and ``message`` instead of a vector; it never takes the batch with it.
    """
    names = [name for name in task.schema.names if name in batch.column_names]
    scans = zip(batch.select(names).to_pylist(), batch["t_r"].to_pylist(), iter_timeseries(batch), strict=True)
    rows, cut = [], []
    for light, t_r, timeseries in scans:
        for part, values in enumerate(np.array_split(timeseries, task.parts)):
            key = row_key(light["scan_key"], part, task.parts)
            if key in task.done:
                continue
            row = {**light, **task.stamp, "row_key": key, "part": part}
            try:
                windows = cut_windows(values, t_r, task.strategy.window)
                cut.append((row, windows))
            except ScanError as error:
                row |= {"reason": error.reason, "message": error.message}
            rows.append(row)
    for (row, windows), (vector, latents) in zip(cut, _pool(cut, encoder, task), strict=True):
        if not np.isfinite(vector).all():
            row |= {"reason": "non_finite_vector", "message": "the encoder gave NaN or infinite values"}
            continue
        row |= {
            "status": "padded" if windows.padded else "ok",
            "n_windows": len(windows.values),
            "embedding": vector,
            "roi_latents": latents,
            "vector_sha256": hashlib.sha256(vector.tobytes()).hexdigest(),
        }
    return rows


def pool_mean(tokens_WRPD: "torch.Tensor") -> "torch.Tensor":
    """Return each window's mean over regions and patches, (W, D)."""
    return tokens_WRPD.mean(dim=(1, 2))


POOLS = {"mean": pool_mean}


def _pool(
    cut: list[tuple[dict[str, Any], Windows]], encoder: WindowEncoder, task: EmbedTask
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32] | None]]:
    """Yield each scan's vector (D,), and its region means (R * D,) where the strategy keeps them."""
    if not cut:
        return
    windows = np.concatenate([found.values for _, found in cut])
    vectors, latents = [], []
    for start in range(0, len(windows), task.batch_size):
        tokens_WRPD = encoder.encode(windows[start : start + task.batch_size])
        vectors.append(POOLS[task.strategy.pool](tokens_WRPD).cpu().numpy())
        if task.strategy.keep_roi_latents:
            latents.append(tokens_WRPD.mean(dim=2).cpu().numpy())
    vectors_WD = np.concatenate(vectors)
    latents_WRD = np.concatenate(latents) if latents else None
    first = 0
    for _, found in cut:
        own = slice(first, first + len(found.values))
        first = own.stop
        regions = None if latents_WRD is None else latents_WRD[own].mean(axis=0, dtype=np.float64)
        yield (
            vectors_WD[own].mean(axis=0, dtype=np.float64).astype(np.float32),
            None if regions is None else regions.astype(np.float32).ravel(),
        )


def write_rows(batch: pa.Table, *, task: EmbedTask) -> dict[str, list[Any]]:
    """Write a block's vectors and refusals as Parquet shards; return the receipt for the driver."""
    refused = batch.filter(batch["reason"].is_valid())
    good = batch.filter(batch["reason"].is_null()).select(task.schema.names).cast(task.schema)
    receipt: dict[str, Any] = {
        "shard": "",
        "quarantine": "",
        "rows": good.num_rows,
        "quarantined": refused.num_rows,
    }
    if good.num_rows:
        name = shard_name(good["row_key"].to_pylist(), task.identity)
        receipt["shard"] = write_shard(task.table_uri, name, good)
    if refused.num_rows:
        columns = {
            "scan_key": refused["row_key"],
            "room": ["embed"] * refused.num_rows,
            "reason": refused["reason"],
            "message": refused["message"],
            "source_uri": refused["source_uri"],
            "source_sha256": refused["source_sha256"],
        }
        name = shard_name(refused["row_key"].to_pylist(), task.identity)
        rows = pa.table(columns).cast(QUARANTINE_SCHEMA)
        receipt["quarantine"] = write_shard(task.quarantine_uri, name, rows)
    receipt["reasons"] = json.dumps(Counter(refused["reason"].to_pylist()))
    return {name: [value] for name, value in receipt.items()}

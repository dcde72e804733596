"""The encoder actor of the embed room."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from boldstream.artifacts.cohort import iter_timeseries
from boldstream.artifacts.embeddings import row_key
from boldstream.embed.attempt import Setback, attempt, setback_of
from boldstream.embed.task import DIGEST, EmbedTask
from boldstream.encoders.interface import WindowEncoder, load_encoder
from boldstream.encoders.windows import Windows, cut_windows

if TYPE_CHECKING:
    import torch

Encoded = tuple[NDArray[np.float32], NDArray[np.float32] | None]
"""A scan's vector, and its region means where the strategy keeps them."""


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
        return pa.Table.from_pylist(embed_rows(batch, self.encoder, self.task), schema=self.task.row_schema)


def embed_rows(batch: pa.Table, encoder: WindowEncoder, task: EmbedTask) -> list[dict[str, Any]]:
    """Embed cohort rows in this process; returns a row a part, with its vector or with the reason for none.

    Windows of all scans of the batch go through the encoder together, `batch_size` at a time. A scan that cannot be
    embedded, or that fails, gets columns that say so instead of a vector; it never takes the batch with it.
    """
    names = [field.name for field in task.scan_schema if field.name != "timeseries"]
    rows, cut = [], []
    for place, known in enumerate(batch.select(names).to_pylist()):
        for row, windows in _cut(known, batch.slice(place, 1), task):
            if isinstance(windows, Setback):
                row |= windows.columns
            else:
                cut.append((row, windows))
            rows.append(row)
    for (row, windows), found in zip(cut, _encode([w for _, w in cut], encoder, task), strict=True):
        if isinstance(found, Setback):
            row |= found.columns
            continue
        vector, latents = found
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


def _cut(known: dict[str, Any], scan: pa.Table, task: EmbedTask) -> Iterator[tuple[dict[str, Any], Windows | Setback]]:
    """Yield a row and the windows of every part of one scan."""
    unread = setback_of(known)
    series = attempt(_series, scan) if unread is None else unread
    digest = known.pop(DIGEST)
    for part in range(task.parts):
        key = row_key(known["scan_key"], part, task.parts)
        row = {**known, **task.stamp, "row_key": key, "part": part, "scan_digest": digest}
        if isinstance(series, Setback):
            yield row, series
        else:
            values = np.array_split(series, task.parts)[part]
            yield row, attempt(cut_windows, values, known["t_r"], task.strategy.window)


def _series(scan: pa.Table) -> NDArray[np.float32]:
    return next(iter_timeseries(scan))


def _encode(cut: list[Windows], encoder: WindowEncoder, task: EmbedTask) -> list[Encoded | Setback]:
    """Return vector and region means of each scan; where a batch fails, its scans are tried one by one."""
    if not cut:
        return []
    together = attempt(_pool, cut, encoder, task)
    if not isinstance(together, Setback):
        return list(together)
    if len(cut) == 1:
        return [together]
    alone = (attempt(_pool, [found], encoder, task) for found in cut)
    return [found if isinstance(found, Setback) else found[0] for found in alone]


def pool_mean(tokens_WRPD: "torch.Tensor") -> "torch.Tensor":
    """Return each window's mean over regions and patches, (W, D)."""
    return tokens_WRPD.mean(dim=(1, 2))


POOLS = {"mean": pool_mean}


def _pool(cut: list[Windows], encoder: WindowEncoder, task: EmbedTask) -> list[Encoded]:
    """Return each scan's vector (D,), and its region means (R * D,) where the strategy keeps them."""
    windows = np.concatenate([found.values for found in cut])
    vectors, latents = [], []
    for start in range(0, len(windows), task.batch_size):
        tokens_WRPD = encoder.encode(windows[start : start + task.batch_size])
        vectors.append(POOLS[task.strategy.pool](tokens_WRPD).cpu().numpy())
        if task.strategy.keep_roi_latents:
            latents.append(tokens_WRPD.mean(dim=2).cpu().numpy())
    vectors_WD = np.concatenate(vectors)
    latents_WRD = np.concatenate(latents) if latents else None
    first, pooled = 0, []
    for found in cut:
        own = slice(first, first + len(found.values))
        first = own.stop
        vector = vectors_WD[own].mean(axis=0, dtype=np.float64).astype(np.float32)
        regions = None if latents_WRD is None else latents_WRD[own].mean(axis=0, dtype=np.float64)
        pooled.append((vector, None if regions is None else regions.astype(np.float32).ravel()))
    return pooled

"""Rows of the embedding table out of rows of a cohort: keys and windows before the encoder, vectors after it."""

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from boldstream.artifacts.cohort import iter_timeseries
from boldstream.artifacts.embeddings import row_key
from boldstream.embed.attempt import Setback, attempt, setback_of
from boldstream.embed.encode import Encoded
from boldstream.embed.task import DIGEST, EmbedTask
from boldstream.embed.watch import given_up
from boldstream.encoders.windows import Windows, cut_windows


@dataclass(frozen=True)
class Cut:
    """A batch of scans, ready to be encoded.

    Attributes
    ----------
    rows : list of dict
        One a part of a scan; those that cannot be embedded have columns that say why.
    places : list of int
        Which of the rows have windows.
    windows : list of Windows
        Theirs.
    """

    rows: list[dict[str, Any]]
    places: list[int]
    windows: list[Windows]


def cut_scans(batch: pa.Table, task: EmbedTask, lost: Collection[str] = ()) -> Cut:
    """Cut cohort rows into windows; `lost` are keys of scans that have killed their encoder and are not tried."""
    names = [field.name for field in task.scan_schema if field.name != "timeseries"]
    cut = Cut([], [], [])
    for place, known in enumerate(batch.select(names).to_pylist()):
        unread = given_up() if known["scan_key"] in lost else None
        for row, windows in _cut(known, batch.slice(place, 1), task, unread):
            if isinstance(windows, Setback):
                row |= windows.columns
            else:
                cut.places.append(len(cut.rows))
                cut.windows.append(windows)
            cut.rows.append(row)
    return cut


def _cut(
    known: dict[str, Any], scan: pa.Table, task: EmbedTask, lost: Setback | None
) -> Iterator[tuple[dict[str, Any], Windows | Setback]]:
    """Yield a row and the windows of every part of one scan."""
    unread = setback_of(known) or lost
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


def fill_rows(cut: Cut, encoded: list[Encoded | Setback]) -> list[dict[str, Any]]:
    """Give every row its vector, or the reason for none."""
    for place, windows, found in zip(cut.places, cut.windows, encoded, strict=True):
        row = cut.rows[place]
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
    return cut.rows

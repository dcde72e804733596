"""The order of training windows: a function of the seed alone, so that every worker count sees the same batches.

The windows of all epochs form one endless sequence. A *position* counts them; micro-batch ``i`` is the windows at
positions ``i * micro_batch`` and on, whoever computes it. An epoch visits all row groups of the cohort's files in
seeded order; some row groups at a time make a *chunk*, which is read once and whose windows are shuffled. So reading
costs no more than the files' size, nothing is held but a chunk, and training goes on at any position by starting with
the chunk that holds it.
"""

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

CHUNK_BYTES = 32_000_000
"""A chunk holds about so many bytes of windows: enough to mix, little enough to have several under way."""


class ChunkPart(NamedTuple):
    """Consecutive windows of one chunk.

    Attributes
    ----------
    epoch, number : int
        The chunk.
    first, last : int
        Windows taken of its shuffled windows, `last` excluded.
    position : int
        Position of the first.
    """

    epoch: int
    number: int
    first: int
    last: int
    position: int


@dataclass(frozen=True, eq=False)
class WindowPlan:
    """Which window stands at which position.

    Attributes
    ----------
    files : tuple of str
        URIs of the cohort's files.
    scan_keys : tuple of str
        Scans that are trained on, in the order of the files.
    file, group, row : array, shape (n_scans,), int64
        Where each lies: file, row group in it, row in that.
    length : int
        Timepoints in a window.
    n_rois : int
    target_t_r : float or None
        Repetition time that scans are resampled to, in seconds.
    windows_per_scan : int
        Windows of every scan in an epoch.
    views : int
        So many windows of a scan follow each other; divides `windows_per_scan`.
    seed : int
    """

    files: tuple[str, ...]
    scan_keys: tuple[str, ...]
    file: NDArray[np.int64]
    group: NDArray[np.int64]
    row: NDArray[np.int64]
    length: int
    n_rois: int
    target_t_r: float | None
    windows_per_scan: int
    views: int
    seed: int
    _starts: dict[int, NDArray[np.int64]] = field(default_factory=dict, repr=False)

    @property
    def windows_per_epoch(self) -> int:
        """Windows in an epoch."""
        return len(self.scan_keys) * self.windows_per_scan

    @cached_property
    def row_groups(self) -> list[NDArray[np.int64]]:
        """Scans (their indices) by row group."""
        new = np.flatnonzero((np.diff(self.file) != 0) | (np.diff(self.group) != 0)) + 1
        return np.split(np.arange(len(self.scan_keys)), new)

    @property
    def _groups_per_chunk(self) -> int:
        per_scan = self.windows_per_scan * self.length * self.n_rois * 4
        return max(1, int(CHUNK_BYTES * len(self.row_groups) / (per_scan * len(self.scan_keys))))

    def chunks(self, epoch: int) -> list[NDArray[np.int64]]:
        """Return the scans of each chunk of an epoch; row groups stay together."""
        groups = self.row_groups
        order = np.random.default_rng([self.seed, epoch, 0]).permutation(len(groups))
        size = self._groups_per_chunk
        return [np.concatenate([groups[i] for i in order[at : at + size]]) for at in range(0, len(order), size)]

    def shuffled(self, epoch: int, number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return scan and window number of each window of a chunk, in training order."""
        scans = self.chunks(epoch)[number]
        visits = np.random.default_rng([self.seed, epoch, 1, number]).permutation(
            len(scans) * self.windows_per_scan // self.views
        )
        scan, visit = visits % len(scans), visits // len(scans)
        windows = visit[:, None] * self.views + np.arange(self.views)
        return np.repeat(scans[scan], self.views), windows.ravel()

    def starts(self, epoch: int) -> NDArray[np.int64]:
        """Return the position within the epoch at which each chunk begins, and the epoch's length at the end."""
        if epoch not in self._starts:
            self._starts.clear()
            sizes = [len(scans) * self.windows_per_scan for scans in self.chunks(epoch)]
            self._starts[epoch] = np.array([0, *itertools.accumulate(sizes)])
        return self._starts[epoch]

    def parts(self, start: int, stop: int) -> Iterator[ChunkPart]:
        """Yield the chunks, whole or in part, that hold the positions from `start` to `stop` (excluded)."""
        while start < stop:
            epoch, within = divmod(start, self.windows_per_epoch)
            starts = self.starts(epoch)
            number = int(np.searchsorted(starts, within, side="right")) - 1
            first = within - int(starts[number])
            taken = min(int(starts[number + 1]) - within, stop - start)
            yield ChunkPart(epoch, number, first, first + taken, start)
            start += taken

    def scans_at(self, positions: Sequence[int]) -> list[str]:
        """Return the keys of the scans whose windows stand at some positions."""
        parts = (next(self.parts(position, position + 1)) for position in positions)
        return [self.scan_keys[self.shuffled(part.epoch, part.number)[0][part.first]] for part in parts]


def window_starts(seed: int, epoch: int, scan_key: str, spare: int, n_windows: int) -> NDArray[np.int64]:
    """Draw the first timepoints of a scan's windows in an epoch, uniform over 0 to `spare`, both included."""
    rng = np.random.default_rng([seed, epoch, *hashlib.sha256(scan_key.encode()).digest()[:8]])
    return rng.integers(0, spare, size=n_windows, endpoint=True)


def window_key(seed: int, epoch: int, scan_key: str, window: int) -> int:
    """Fold what a window's mask follows from into a signed 64-bit integer (`window` counts a scan's in an epoch)."""
    digest = hashlib.sha256(f"{seed} {epoch} {window} {scan_key}".encode()).digest()
    return int.from_bytes(digest[:8], "little", signed=True)

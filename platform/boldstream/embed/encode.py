"""Windows of many scans through the encoder together, and each scan's mean over them, in memory of a few windows."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from boldstream.embed.attempt import Setback, attempt
from boldstream.embed.batch_size import BatchSize, halving
from boldstream.encoders.interface import WindowEncoder
from boldstream.encoders.windows import Windows
from boldstream.strategy import Strategy

if TYPE_CHECKING:
    import torch

    from boldstream.encoders.device import Download

Encoded = tuple[NDArray[np.float32], NDArray[np.float32] | None]
"""A scan's vector, and its region means where the strategy keeps them."""


def pool_mean(tokens_WRPD: "torch.Tensor") -> "torch.Tensor":
    """Return each window's mean over regions and patches, (W, D)."""
    return tokens_WRPD.mean(dim=(1, 2))


POOLS: dict[str, Callable[["torch.Tensor"], "torch.Tensor"]] = {"mean": pool_mean}


def encode_scans(
    scans: Sequence[Windows], encoder: WindowEncoder, strategy: Strategy, batch: BatchSize
) -> list[Encoded | Setback]:
    """Return vector and region means of each scan; where they fail together, the scans are tried one by one."""
    if not scans:
        return []
    together = attempt(_encode, scans, encoder, strategy, batch)
    if not isinstance(together, Setback):
        return list(together)
    if len(scans) == 1:
        return [together]
    alone = (attempt(_encode, [scan], encoder, strategy, batch) for scan in scans)
    return [found if isinstance(found, Setback) else found[0] for found in alone]


def _encode(scans: Sequence[Windows], encoder: WindowEncoder, strategy: Strategy, batch: BatchSize) -> list[Encoded]:
    """Encode the scans' windows in a row, whichever scan they are of.

    Each pass is averaged while the device computes the next.
    """
    stream = _Stream(scans)
    means = _Means([len(scan.values) for scan in scans])
    ahead: _Pass | None = None
    while stream.left:
        sent = halving(batch, stream.left, lambda n: _send(stream.peek(n), encoder, strategy, batch))
        stream.take(sent.n_windows)
        if ahead is not None:
            means.add(ahead)
        ahead = sent
    if ahead is not None:
        means.add(ahead)
    return means.found


class _Stream:
    """The windows of scans in a row; only those that are looked at are copied."""

    def __init__(self, scans: Sequence[Windows]) -> None:
        self.scans = scans
        self.ends = np.cumsum([len(scan.values) for scan in scans])
        self.first = 0

    @property
    def left(self) -> int:
        return int(self.ends[-1]) - self.first

    def peek(self, n_windows: int) -> NDArray[np.float32]:
        pieces, first = [], self.first
        stop = first + n_windows
        while first < stop:
            at = int(np.searchsorted(self.ends, first, side="right"))
            values, end = self.scans[at].values, int(self.ends[at])
            begin, upto = end - len(values), min(stop, end)
            pieces.append(values[first - begin : upto - begin])
            first = upto
        return np.concatenate(pieces)

    def take(self, n_windows: int) -> None:
        self.first += n_windows


@dataclass(frozen=True)
class _Pass:
    """What came out of one forward pass, (W, D) and (W, R, D), perhaps still on its way from the device."""

    n_windows: int
    vectors: "Download"
    regions: "Download | None"


def _send(windows: NDArray[np.float32], encoder: WindowEncoder, strategy: Strategy, batch: BatchSize) -> _Pass:
    from boldstream.encoders.device import Download

    started = time.perf_counter()
    tokens_WRPD = encoder.encode(windows)
    vectors = Download.start(POOLS[strategy.pool](tokens_WRPD))
    regions = Download.start(tokens_WRPD.mean(dim=2)) if strategy.keep_roi_latents else None
    batch.tell(len(windows), time.perf_counter() - started)
    return _Pass(len(windows), vectors, regions)


class _Means:
    """Means over each scan's windows, of windows that come in their order; holds the sums of one scan."""

    def __init__(self, lengths: Sequence[int]) -> None:
        self.lengths = lengths
        self.found: list[Encoded] = []
        self._forget()

    def _forget(self) -> None:
        self.n_added = 0
        self.vector: NDArray[np.float64] | float = 0.0
        self.regions: NDArray[np.float64] | float = 0.0

    def add(self, sent: _Pass) -> None:
        vectors_WD = sent.vectors.wait().numpy()
        regions_WRD = None if sent.regions is None else sent.regions.wait().numpy()
        first = 0
        while first < sent.n_windows:
            length = self.lengths[len(self.found)]
            own = slice(first, first + length - self.n_added)
            self.vector += vectors_WD[own].sum(axis=0, dtype=np.float64)
            if regions_WRD is not None:
                self.regions += regions_WRD[own].sum(axis=0, dtype=np.float64)
            n_windows = min(own.stop, sent.n_windows) - first
            self.n_added += n_windows
            first += n_windows
            if self.n_added == length:
                vector = np.asarray(self.vector / length, dtype=np.float32)
                regions = None if regions_WRD is None else np.asarray(self.regions / length, dtype=np.float32).ravel()
                self.found.append((vector, regions))
                self._forget()

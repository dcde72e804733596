"""How many windows an encoder takes at once: as many as were asked for, or found while the work goes on."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

from boldstream.machine import available_memory

if TYPE_CHECKING:
    import torch

LARGEST = 1024
MEMORY_SHARE = 0.8
"""Of the memory that is free, what the next larger batch may be expected to take."""
PASSES = 2
"""Timed passes of every size; the faster one counts, because other work disturbs one pass more than two."""
GAIN = 1.05
"""A size must be so much faster than the best before it; two that are not end the search."""

T = TypeVar("T")

logger = logging.getLogger(__name__)


class Memory(Protocol):
    """Memory that batches are computed in."""

    def peak(self) -> int:
        """Return the most bytes that were ever in use."""

    def room(self) -> int:
        """Return the bytes beyond that peak that are free."""


class HostMemory:
    """Memory of this process, one of several like it on its machine.

    Parameters
    ----------
    n_sharing : int
        Processes that grow side by side.
    """

    def __init__(self, n_sharing: int) -> None:
        self.n_sharing = n_sharing

    def peak(self) -> int:
        """Return the largest resident size so far."""
        import resource
        import sys

        found = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return found if sys.platform == "darwin" else found * 1024

    def room(self) -> int:
        """Return this process's share of what the machine has left."""
        return available_memory() // self.n_sharing


class GpuMemory:
    """Memory of a GPU, or of the share of it that an encoder was given.

    Parameters
    ----------
    device : torch.device
    share : float
        Between 0 and 1; the allocator is held to it.
    """

    def __init__(self, device: "torch.device", share: float = 1.0) -> None:
        import torch

        self.device, self.share = device, share
        if share < 1:
            torch.cuda.set_per_process_memory_fraction(share, device)

    def peak(self) -> int:
        """Return the most bytes that tensors ever had."""
        import torch

        return torch.cuda.max_memory_allocated(self.device)

    def room(self) -> int:
        """Return the bytes beyond the peak that this process can still get."""
        import torch

        free, total = torch.cuda.mem_get_info(self.device)
        reachable = min(int(self.share * total), free + torch.cuda.memory_reserved(self.device))
        return max(0, reachable - self.peak())


class BatchSize:
    """The number of windows in a forward pass, for one encoder.

    A number that was asked for stays. ``auto`` starts with 1 and doubles on the work itself, so that nothing is
    computed for the search alone. It ends before the batch that would not fit, going by what the last doubling took, or
    at the first that does not. On a CPU, where larger batches soon bring nothing, it also ends where throughput stops
    rising, and settles on the smallest size that is about as fast as the fastest. Whatever the size, it is halved for
    good when memory runs out.

    Parameters
    ----------
    wanted : int or "auto"
    memory : Memory
    timed : bool
        Whether `tell` gets the true duration of passes (on a GPU they end later).

    Attributes
    ----------
    size : int
        Windows to take next.
    settled : bool
        Whether the search is over.
    """

    def __init__(self, wanted: int | Literal["auto"], memory: Memory, *, timed: bool) -> None:
        self.memory, self.timed = memory, timed
        self.size = 1 if wanted == "auto" else wanted
        self.settled = wanted != "auto"
        self._rates: dict[int, float] = {}
        self._passes = 0
        self._peak = 0 if self.settled else memory.peak()

    def tell(self, n_windows: int, seconds: float) -> None:
        """Learn from a pass that went well. Passes of the last few windows, smaller ones, say nothing."""
        if self.settled or n_windows != self.size:
            return
        self._passes += 1
        rate = n_windows / max(seconds, 1e-9)
        self._rates[self.size] = max(rate, self._rates.get(self.size, 0.0))
        if self._passes < PASSES:
            return
        if self.timed and self._stopped_rising():
            best = max(self._rates.values())
            self._settle(min(size for size, rate in self._rates.items() if rate * GAIN >= best))
        elif not self._next_fits() or self.size * 2 > LARGEST:
            self._settle(self.size)
        else:
            self.size, self._passes = self.size * 2, 0

    def halve(self, n_windows: int) -> bool:
        """Take half of so many windows, which were too many, from now on; False where that was one already."""
        if n_windows == 1:
            return False
        self._settle(n_windows // 2)
        return True

    def _settle(self, size: int) -> None:
        self.size, self.settled = size, True
        logger.info("batches of %d windows", size)

    def _stopped_rising(self) -> bool:
        rates = list(self._rates.values())
        return len(rates) > 2 and max(rates[-2:]) < GAIN * max(rates[:-2])

    def _next_fits(self) -> bool:
        """Whether twice as many windows fit: they take at most twice what the last doubling took."""
        before, self._peak = self._peak, self.memory.peak()
        return 2 * (self._peak - before) <= MEMORY_SHARE * self.memory.room()


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, of a GPU or of the host."""
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    told = ("can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")
    return isinstance(error, RuntimeError) and any(text in str(error) for text in told)


def halving(batch: BatchSize, n_left: int, work: Callable[[int], T]) -> T:
    """Call `work` with the batch's size, or with what is left; where memory runs out, halve it and call again.

    Raises
    ------
    torch.OutOfMemoryError, MemoryError, RuntimeError
        Where one window is too much, or for other reasons than memory.
    """
    while (found := _within_memory(batch, min(batch.size, n_left), work)) is None:
        _release()
    return found


def _within_memory(batch: BatchSize, n_windows: int, work: Callable[[int], T]) -> T | None:
    try:
        return work(n_windows)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error) or not batch.halve(n_windows):
            raise
        logger.warning("out of memory: batches of %d windows from now on", batch.size)
        return None


def _release() -> None:
    """Give cached blocks back, once no traceback holds on to those of the failed pass."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()

"""Which scan killed its encoder: a list of those at work, kept where a dying process cannot take it along."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from boldstream.embed.attempt import Setback

State = Literal["together", "alone"]

DIED = "WorkerDied"


class ScanWatch:
    """The scans that encoders are at work on; an actor of its own, beside the driver.

    A scan whose encoder dies (a fault in native code, the kernel's out-of-memory killer) leaves no exception. Ray
    starts the encoder anew and gives it the same scans; those it finds here as begun are suspects, and are tried one by
    one. The one that is being tried alone when its encoder dies again is given up. Two deaths a scan, then, at most,
    and no other scan is lost with it.
    """

    def __init__(self) -> None:
        self.states: dict[str, State] = {}

    def begin(self, keys: Sequence[str]) -> dict[str, State]:
        """Note scans as begun; return how those of them stood that were begun before and never ended."""
        before = {key: self.states[key] for key in keys if key in self.states}
        self.states |= {key: "together" for key in keys if key not in before}
        return before

    def alone(self, key: str) -> None:
        """Note that a scan is now tried alone."""
        self.states[key] = "alone"

    def survived(self, key: str) -> None:
        """Note that a scan which was tried alone did no harm."""
        self.states[key] = "together"

    def end(self, keys: Iterable[str]) -> None:
        """Forget scans that are done; those that died alone stay given up for the rest of the run."""
        for key in keys:
            if self.states.get(key) != "alone":
                self.states.pop(key, None)


class RemoteWatch:
    """A `ScanWatch` in its actor; what must be known before a death is waited for.

    Parameters
    ----------
    actor : ray.actor.ActorHandle
    """

    def __init__(self, actor: Any) -> None:
        self.actor = actor

    @classmethod
    def start(cls) -> "RemoteWatch":
        """Start the actor on this node, where it lives as long as the run."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        import ray

        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        return cls(ray.remote(num_cpus=0, scheduling_strategy=here)(ScanWatch).remote())

    def begin(self, keys: Sequence[str]) -> dict[str, State]:
        """See `ScanWatch.begin`."""
        return self._wait(self.actor.begin.remote(keys))

    def alone(self, key: str) -> None:
        """See `ScanWatch.alone`."""
        self._wait(self.actor.alone.remote(key))

    def survived(self, key: str) -> None:
        """See `ScanWatch.survived`."""
        self._wait(self.actor.survived.remote(key))

    def end(self, keys: Iterable[str]) -> None:
        """See `ScanWatch.end`; nobody waits for that."""
        self.actor.end.remote(list(keys))

    @staticmethod
    def _wait(answer: Any) -> Any:
        import ray

        return ray.get(answer)


def given_up() -> Setback:
    """Return the failure of a scan that killed its encoder, in a batch and again alone."""
    return Setback(
        {
            "error_class": DIED,
            "message": "the encoder's process died while it embedded this scan, with others and again alone (out of "
            "memory, or a fault in native code); Ray's logs of the worker and the kernel's log may say more",
            "traceback_digest": hashlib.sha256(DIED.encode()).hexdigest(),
        }
    )

"""Everything that this process has started, and what that has started, so that nothing of it stays behind."""

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Collection
from pathlib import Path

from boldstream.errors import LabError

PR_SET_CHILD_SUBREAPER = 36
PAUSE_S = 0.1


class Family:
    """All processes that come from this one, from now on.

    Ray's drivers leave the process that has started them; here they do not get lost, because the kernel gives orphans
    to the nearest ancestor that has asked for them.

    Raises
    ------
    LabError
        If this is no Linux.
    """

    def __init__(self) -> None:
        if sys.platform != "linux":
            raise LabError("the lab server runs on Linux only: elsewhere it could not find all that it has to stop")
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._others = set(_offspring())

    def alive(self) -> list[int]:
        """Return the process ids of those that run."""
        return [pid for pid, state in _offspring().items() if pid not in self._others and state != "Z"]

    def bury(self, known: Collection[int]) -> None:
        """Take note of orphans that have ended, else the kernel keeps their entries; `known` have other waiters."""
        for pid, state in _offspring().items():
            if state == "Z" and pid not in self._others and pid not in known:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)

    def end(self, known: Collection[int], patience_s: float = 10.0) -> list[int]:
        """End all that still run, by force if need be; return those that even that has not ended."""
        for number, wait_s in ((signal.SIGTERM, patience_s), (signal.SIGKILL, patience_s)):
            deadline = time.monotonic() + wait_s
            for pid in self.alive():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            while self.alive() and time.monotonic() < deadline:
                time.sleep(PAUSE_S)
        self.bury(known)
        return self.alive()


def _offspring() -> dict[int, str]:
    """Return state by process id of this process's children, their children, and so on."""
    parents: dict[int, int] = {}
    states: dict[int, str] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            fields = path.read_text(errors="replace").rpartition(")")[2].split()
            pid = int(path.parent.name)
            states[pid], parents[pid] = fields[0], int(fields[1])
    found = {os.getpid()}
    while new := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= new
    return {pid: states[pid] for pid in found - {os.getpid()}}

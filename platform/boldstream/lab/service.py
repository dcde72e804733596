"""One long-running process of the lab: started, waited for, stopped, started again on the same ports."""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from boldstream.errors import LabError

START_S = 180.0
STOP_S = 30.0
PAUSE_S = 0.2
SHOWN_LINES = 15
PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


@dataclass
class Service:
    """A server.

    Attributes
    ----------
    name : str
    command : sequence of str
    variables : mapping of str to str
        Its whole environment.
    log : Path
        What it prints goes there.
    is_ready : callable
        Says whether it does its work.
    folder : Path
        Its working directory.
    user : str or None
        Run as somebody else, which only root may.
    tries : int
        So often it may be started until it is ready.
    """

    name: str
    command: Sequence[str]
    variables: Mapping[str, str]
    log: Path
    is_ready: Callable[[], bool]
    folder: Path
    user: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    tries: int = 1
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; `wait` says when it is ready."""
        extra = {"user": self.user, "group": self.user, "extra_groups": []} if self.user else {}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                env=dict(self.variables),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the lab, which stops its services in order
                preexec_fn=partial(end_with_parent, self.stop_signal),
                **extra,  # type: ignore[call-overload]
            )

    def wait(self) -> None:
        """Wait until it is ready; where it ends instead, start it again, `tries` times in all.

        Raises
        ------
        LabError
            If it ends all the same, or is not ready after `START_S`.
        """
        deadline, left = time.monotonic() + START_S, self.tries
        while not self.is_ready():
            try:
                self.check()
            except LabError:
                left -= 1
                if not left:
                    raise
                self.kill()  # what it has left behind
                self.start()
            if time.monotonic() > deadline:
                raise LabError(f"{self.name} is not ready after {START_S:g} s; {self.last_lines()}")
            time.sleep(PAUSE_S)

    def check(self) -> None:
        """See that it runs.

        Raises
        ------
        LabError
            If it has ended by itself.
        """
        if self.process is not None and (status := self.process.poll()) is not None:
            raise LabError(f"{self.name} ended by itself with status {status}; {self.last_lines()}")

    def last_lines(self) -> str:
        """Return the end of its log, for messages."""
        lines = self.log.read_text(errors="replace").splitlines()[-SHOWN_LINES:]
        return "\n".join([f"the last lines of {self.log}:", *lines])

    def stop(self) -> None:
        """Stop it if it runs, by force after `STOP_S`."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(self.stop_signal)
            try:
                self.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.kill()
        self.process = None

    def kill(self) -> None:
        """End it as a power cut would, with its group."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def end_with_parent(number: signal.Signals) -> None:
    """Let the kernel send this process a signal when the thread that has started it dies, even of SIGKILL."""
    _LIBC.prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0)


def free_ports(names: Sequence[str]) -> dict[str, int]:
    """Return ports by name that nobody listened on a moment ago."""
    with contextlib.ExitStack() as stack:
        sockets = {name: stack.enter_context(socket.socket()) for name in names}
        for found in sockets.values():
            found.bind(("127.0.0.1", 0))
        return {name: found.getsockname()[1] for name, found in sockets.items()}

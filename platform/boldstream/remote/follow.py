"""Follow what a job writes until it is over, across lost connections."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from boldstream.errors import ClusterError
from boldstream.remote.server import Job, JobServer

QUIET_S = 15.0
"""After so long without a line the log is asked for by itself: a connection that is lost in silence tells nothing."""
PATIENCE_S = 120.0
"""A cluster that does not answer for so long is given up (the job is not)."""
PAUSE_S = 2.0


def follow(server: JobServer, name: str, write: Callable[[str], Any]) -> Job:
    """Write a job's log as it grows, from its start; return the job once it is over.

    Raises
    ------
    ClusterError
        If there is no such job, or the cluster does not answer for `PATIENCE_S`.
    """
    import aiohttp

    server.job(name)
    log = _Log(server, name, write)
    heard = time.monotonic()
    while True:
        # RuntimeError is what Ray makes of a websocket that breaks; plain HTTP below tells what is the matter
        with contextlib.suppress(OSError, RuntimeError, aiohttp.ClientError, ClusterError):
            asyncio.run(log.tail())
        try:
            job = server.find(name)
            if job is not None:
                log.finish()
        except ClusterError as error:
            if time.monotonic() - heard > PATIENCE_S:
                raise ClusterError(f"{error}, and has not for {PATIENCE_S:g} s; {name} may still run") from None
        else:
            heard = time.monotonic()
            if job is None:
                raise ClusterError(f"the cluster at {server.address} has forgotten {name}: its head was started again")
            if job.over:
                return job
        time.sleep(PAUSE_S)


class _Log:
    """A job's log and how much of it is written already; every connection tells it from its start."""

    def __init__(self, server: JobServer, name: str, write: Callable[[str], Any]) -> None:
        self.server, self.name, self.write = server, name, write
        self.written = 0

    async def tail(self) -> None:
        """Write what comes until the connection ends or proves to be lost."""
        stream = aiter(self.server.client.tail_job_logs(self.name))
        told = 0
        coming = asyncio.ensure_future(_next(stream))
        try:
            while True:
                done, _ = await asyncio.wait({coming}, timeout=QUIET_S)
                if not done:
                    if await asyncio.to_thread(self._was_lost):
                        return
                    continue
                text = coming.result()
                if text is None:
                    return
                told += len(text)
                self._write(text, told)
                coming = asyncio.ensure_future(_next(stream))
        finally:
            coming.cancel()

    def _was_lost(self) -> bool:
        """Say whether the connection keeps something back: a line, or that the job is over."""
        before = self.written
        over = self.server.job(self.name).over
        self.finish()
        return over or self.written > before

    def finish(self) -> None:
        """Write what no connection told."""
        whole = self.server.log(self.name)
        self._write(whole, len(whole))

    def _write(self, text: str, told: int) -> None:
        """Write of a text, whose end is at `told` characters of the log, what was not yet written."""
        new = told - self.written
        if new > 0:
            self.write(text[-new:])
            self.written = told


async def _next(stream: AsyncIterator[str]) -> str | None:
    try:
        return await anext(stream)
    except StopAsyncIteration:
        return None

"""The lab server: PostgreSQL, S3, MLflow, a Ray head and two workers, started and stopped together."""

import contextlib
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from boldstream.errors import LabError
from boldstream.lab import services
from boldstream.lab.layout import SHIPPED, Layout
from boldstream.lab.postgres import make_databases, postgres
from boldstream.lab.processes import Family
from boldstream.lab.service import Service


class Lab:
    """A lab server in a folder, on free ports of this machine, closed to other machines.

    The databases, the objects and the secrets stay in the folder; started again, it goes on with them.

    Parameters
    ----------
    folder : Path
        Made if it is not there.
    tell : callable
        Told what is being done.

    Raises
    ------
    LabError
        If something that it needs is not installed, or the folder is something else.
    """

    def __init__(self, folder: Path, tell: Callable[[str], object]) -> None:
        self.tell = tell
        self.layout = layout = Layout(folder)
        self.family = Family()
        data, log = layout.folder / "postgres", layout.logs / "postgres.log"
        port, password = layout.ports["postgres"], layout.keys["postgres-password"]
        self.postgres = postgres(data, port, password, layout.environment({}), log)
        self.s3, self.mlflow, self.head = services.s3(layout), services.mlflow(layout), services.head(layout)
        self.workers = [services.worker(layout, number) for number in range(1, services.N_WORKERS + 1)]

    @property
    def services(self) -> list[Service]:
        """All of them, in the order in which they are started."""
        return [self.postgres, self.s3, self.head, self.mlflow, *self.workers]

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.callback(self.stop)
            self.start()
            stack.pop_all()  # it has started: `__exit__` stops it
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start all services and wait until they work.

        Raises
        ------
        LabError
            If one of them does not start.
        """
        for first in (self.postgres, self.s3, self.head):
            first.start()
        self._wait([self.postgres])
        keys, ports = self.layout.keys, self.layout.ports
        make_databases(SHIPPED / "databases.sql", ports["postgres"], keys["postgres-password"])
        self._wait([self.s3])
        self.mlflow.start()  # beside Ray, which takes as long
        self._wait([self.head])
        for worker in self.workers:
            worker.start()
        self._wait([self.mlflow, *self.workers])
        self.layout.write_environment()

    def _wait(self, services: Sequence[Service]) -> None:
        for service in services:
            started = time.monotonic()
            service.wait()
            self.tell(f"  {service.name} is ready ({time.monotonic() - started:.1f} s)")

    def check(self) -> None:
        """See that all services run.

        Raises
        ------
        LabError
            If one has ended by itself.
        """
        for service in self.services:
            service.check()
        self.family.bury(self._known)

    def stop(self) -> None:
        """Stop all services, last started first, and whatever has come from them.

        Raises
        ------
        LabError
            If a process outlives even force.
        """
        known = self._known
        for service in reversed(self.services):
            service.stop()
        left = self.family.end(known)
        shutil.rmtree(self.layout.scratch, ignore_errors=True)
        if left:
            raise LabError(f"processes {', '.join(map(str, left))} could not be ended")

    @property
    def _known(self) -> set[int]:
        return {service.process.pid for service in self.services if service.process is not None}

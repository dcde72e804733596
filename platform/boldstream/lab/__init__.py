"""The lab server on one machine, without containers: what deploy/compose.yaml starts, and the first jobs on it."""

from typing import TYPE_CHECKING

from boldstream.doors import lazy_door

if TYPE_CHECKING:
    from boldstream.lab.commands import run_lab
    from boldstream.lab.server import Lab

__all__ = ["Lab", "run_lab"]

__getattr__ = lazy_door(__name__, {"Lab": "server", "run_lab": "commands"})

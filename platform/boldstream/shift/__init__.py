"""Room: how far a cohort is from the one that a model was trained on."""

from typing import TYPE_CHECKING

from boldstream.doors import lazy_door

if TYPE_CHECKING:
    from boldstream.shift.config import ShiftConfig
    from boldstream.shift.run import write_shift

__all__ = ["ShiftConfig", "write_shift"]

__getattr__ = lazy_door(__name__, {"ShiftConfig": "config", "write_shift": "run"})

"""One scan's errors, kept from taking other scans along: what cannot be embedded, and what failed."""

import hashlib
import logging
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, ParamSpec, TypeVar

from boldstream.errors import ScanError, first_line

P = ParamSpec("P")
T = TypeVar("T")

REFUSAL_COLUMNS = ("reason", "message")
FAILURE_COLUMNS = ("error_class", "message", "traceback_digest")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Setback:
    """Why a scan has no vector.

    Attributes
    ----------
    columns : dict
        `REFUSAL_COLUMNS` of a scan that can never be embedded as it is, `FAILURE_COLUMNS` of an error that may pass.
    """

    columns: dict[str, str]


def attempt(work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T | Setback:
    """Call a function on one scan, or on a few; return what it gives, or what went wrong."""
    try:
        return work(*args, **kwargs)
    except ScanError as error:
        return Setback({"reason": error.reason, "message": error.message})
    except Exception as error:  # noqa: BLE001
        # The one place that catches everything: out of memory, a damaged file, a fault in an encoder that somebody
        # wrote are one scan's bad luck and become a row of the failures table; a cohort of 100,000 goes on. What ends a
        # process (KeyboardInterrupt, SystemExit) is no Exception and passes; writing and committing are not called
        # through here, so a storage that is gone stops the run.
        kind = type(error)
        name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        # without the message, which may name the scan and stands in the failures table
        frames = "".join(traceback.format_tb(error.__traceback__))
        logger.warning("a scan failed, or a batch of them: %s\n%s", name, frames)
        return Setback(
            {"error_class": name, "message": first_line(error), "traceback_digest": traceback_digest(error)},
        )


def traceback_digest(error: BaseException) -> str:
    """Return the sha256 of a traceback: file names, functions and lines of code, no paths, numbers or values."""
    frames = traceback.extract_tb(error.__traceback__)
    told = [f"{PurePath(frame.filename).name}:{frame.name}:{frame.line}" for frame in frames]
    return hashlib.sha256("\n".join([*told, type(error).__qualname__]).encode()).hexdigest()


def setback_of(row: dict[str, Any]) -> Setback | None:
    """Take the failure that a row carries out of it, if it carries one."""
    columns = {name: row.pop(name) for name in FAILURE_COLUMNS}
    return Setback(columns) if columns["error_class"] else None

"""The platform's own log: a line an event, for people, or (``BOLDSTREAM_LOG=json``) as JSON for machines.

A line above DEBUG never names a subject or a scan. An event of one scan gives its key as ``extra={"scan": key}``: the
JSON line has its hash, and people, who get counts, do not see the event at all.
"""

import contextlib
import datetime
import json
import logging
import os
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from boldstream.errors import ConfigError
from boldstream.pseudonyms import in_log

FORMAT_VARIABLE, LEVEL_VARIABLE = "BOLDSTREAM_LOG", "BOLDSTREAM_LOG_LEVEL"
FORMATS = ("text", "json")
PASSWORD = re.compile("(?<=://)[^/@ ]+@")
"""What stands before the host, in a URI that an error repeats."""
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


@dataclass(frozen=True, eq=False)
class _Run:
    room: str
    run_id: str
    begun: float = field(default_factory=time.monotonic)


_RUNS: list[_Run] = []
"""Of this process, the innermost last; not by thread, so that a lease's or Ray's threads speak for the run too."""


@contextlib.contextmanager
def in_run(room: str, run_id: str) -> Iterator[None]:
    """Let the lines of a block say which run they are of, and how many seconds it has run."""
    run = _Run(room, run_id)
    _RUNS.append(run)
    try:
        yield
    finally:
        _RUNS.remove(run)


def hide_password(text: str) -> str:
    """Return a text without what stands before the hosts of URIs in it."""
    return PASSWORD.sub("", text)


def printable(text: str) -> str:
    """Return a text on one line: a file's name may hold line breaks that would fake further lines."""
    return "".join(ch if ch.isprintable() else ch.encode("unicode_escape").decode() for ch in text)


class TextLines(logging.Formatter):
    """Time and message, as people read it."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(message)s", "%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """Return the line, without what is not printable."""
        return printable(hide_password(super().formatMessage(record)))


class JsonLines(logging.Formatter):
    """One JSON object an event: time, level, room, message; run_id and seconds within a run; scan of one scan's."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        told: dict[str, Any] = {
            "time": datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "room": record.name.removeprefix("boldstream.").partition(".")[0],
            "message": hide_password(record.getMessage()),
        }
        if _RUNS:
            run = _RUNS[-1]
            told |= {"room": run.room, "run_id": run.run_id, "seconds": round(time.monotonic() - run.begun, 3)}
        if scan := getattr(record, "scan", None):
            told["scan"] = in_log(scan)
        if record.exc_info:
            told["traceback"] = self.formatException(record.exc_info)
        return json.dumps(told, ensure_ascii=False)


def _of_all_scans(record: logging.LogRecord) -> bool:
    return not hasattr(record, "scan")


def configure() -> None:
    """Send the platform's own events to stderr; other libraries only warn.

    Raises
    ------
    ConfigError
        If ``BOLDSTREAM_LOG`` or ``BOLDSTREAM_LOG_LEVEL`` is none of the known ones.
    """
    handler = logging.StreamHandler()
    level = _choice(LEVEL_VARIABLE, LEVELS, "INFO")
    if log_format() == "json":
        handler.setFormatter(JsonLines())
    else:
        handler.setFormatter(TextLines())
        handler.addFilter(_of_all_scans)
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("boldstream").setLevel(level)


def log_format() -> str:
    """Return the format that the environment asks for."""
    return _choice(FORMAT_VARIABLE, FORMATS, "text")


def _choice(variable: str, known: tuple[str, ...], default: str) -> str:
    value = os.environ.get(variable) or default
    if value not in known:
        raise ConfigError(f"{variable}: {value!r} is none of {', '.join(known)}")
    return value


def say_error(error: Exception) -> None:
    """Print the error that ends a command, in one line, in the log's format."""
    text = hide_password(f"{type(error).__name__}: {error}")
    if os.environ.get(FORMAT_VARIABLE) == "json":
        record = logging.LogRecord("boldstream", logging.ERROR, "", 0, "%s", (text,), None)
        line = JsonLines().format(record)
    else:
        line = printable(text)
    sys.stderr.write(f"{line}\n")

"""Commits beside other writers: who loses looks again and tries again."""

import logging
import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from boldstream.errors import StorageError, first_line

if TYPE_CHECKING:
    from boldstream.artifacts.table_reader import TableReader

TRIES = 30
FIRST_WAIT_S, LONGEST_WAIT_S = 0.05, 5.0
NO_RETRIES = {"commit.retry.num-retries": "0"}
"""Table property that turns pyiceberg's own retries off: they would repeat an append without a look at what the other
writer has appended."""

HOPELESS = ("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_CORRUPT", "SQLITE_NOTADB")
"""What a SQLite catalog answers when trying again helps nobody; locked, it is tried again."""
AGAIN = "what is committed is kept, so run the same command again"

T = TypeVar("T")

logger = logging.getLogger(__name__)


def until_committed(act: Callable[[], T], table: "TableReader") -> T:
    """Call a function that refreshes a table and commits to it, again while other writers come first.

    Parameters
    ----------
    act : callable
        Must begin by refreshing the table and decide from what it finds there: it is called again after a commit that
        failed, and after one whose outcome nobody knows (it may have landed).
    table : TableReader
        What is committed to, for messages.

    Raises
    ------
    ArtifactError
        If `TRIES` tries, with growing random waits (about two minutes in all), were not enough.
    StorageError
        If the table's storage or the catalog cannot be written to or read: no space, no permission, no connection.
    """
    from pyiceberg.exceptions import CommitFailedException, CommitStateUnknownException
    from sqlalchemy.exc import OperationalError

    where = f"{table.kind} {table.name}"
    for attempt in range(TRIES):
        try:
            return act()
        except (CommitFailedException, CommitStateUnknownException) as problem:
            last = first_line(problem)
        except OperationalError as problem:
            last = first_line(problem)
            if getattr(problem.orig, "sqlite_errorname", "").startswith(HOPELESS):
                raise StorageError(f"catalog of {table.warehouse.uri}: cannot be written: {last}; {AGAIN}") from None
        except OSError as problem:
            raise StorageError(f"{table.uri}: cannot be read or written: {first_line(problem)}; {AGAIN}") from None
        logger.debug("%s: commit %d did not succeed (%s)", where, attempt + 1, last)
        time.sleep(random.uniform(0, min(LONGEST_WAIT_S, FIRST_WAIT_S * 2**attempt)))
    raise table.error(f"{where}: other writers were faster in all of {TRIES} commits ({last}); {AGAIN}")

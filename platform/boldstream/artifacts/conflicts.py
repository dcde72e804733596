"""Commits beside other writers: who loses looks again and tries again."""

import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

from boldstream.errors import ArtifactError, first_line

TRIES = 30
FIRST_WAIT_S, LONGEST_WAIT_S = 0.05, 5.0
NO_RETRIES = {"commit.retry.num-retries": "0"}
"""Table property that turns pyiceberg's own retries off: they would repeat an append without a look at what the other
writer has appended."""

T = TypeVar("T")

logger = logging.getLogger(__name__)


def until_committed(act: Callable[[], T], where: str, error: type[ArtifactError]) -> T:
    """Call a function that refreshes a table and commits to it, again while other writers come first.

    Parameters
    ----------
    act : callable
        Must begin by refreshing the table and decide from what it finds there: it is called again after a commit that
        failed, and after one whose outcome nobody knows (it may have landed).
    where : str
        Name of the table for messages.
    error : type
        Error class for a table that cannot be committed to.

    Raises
    ------
    ArtifactError
        If `TRIES` tries, with growing random waits (about two minutes in all), were not enough.
    """
    from pyiceberg.exceptions import CommitFailedException, CommitStateUnknownException
    from sqlalchemy.exc import OperationalError

    for attempt in range(TRIES):
        try:
            return act()
        except (CommitFailedException, CommitStateUnknownException, OperationalError) as problem:
            last = first_line(problem)
            logger.debug("%s: commit %d did not succeed (%s)", where, attempt + 1, last)
        time.sleep(random.uniform(0, min(LONGEST_WAIT_S, FIRST_WAIT_S * 2**attempt)))
    raise error(
        f"{where}: other writers were faster in all of {TRIES} commits ({last}); what is written is kept, "
        "run the same command again"
    )

"""Names of jobs: the room, the output, the date, so that the same night is not submitted twice."""

import datetime
import re
import zoneinfo

from boldstream.errors import AlreadySubmittedError, ConfigError
from boldstream.remote.server import Job, JobServer

NOW = "now"
TIME_ZONE = "UTC"
MOST_TRIES = 99


def job_name(job: str, output: str, date: str | None, time_zone: str = TIME_ZONE) -> str:
    """Return ``<job>-<output>-<date>``.

    Parameters
    ----------
    job, output : str
        The room, and the name of what it makes (of a path, the last part).
    date : str or None
        ``2026-11-28``; None: today in the time zone; ``now``: with the time of day, so that it is never the same.
    time_zone : str
        IANA name, such as ``Europe/Berlin``.

    Raises
    ------
    ConfigError
        If the date or the time zone cannot be read.
    """
    try:
        here = datetime.datetime.now(zoneinfo.ZoneInfo(time_zone))
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ConfigError(
            f"--time-zone: {time_zone!r} is not known here; write UTC or a name such as Europe/Berlin (in small "
            "containers, install tzdata)"
        ) from None
    if date == NOW:
        night = f"{here:%Y-%m-%d-%H%M%S}"
    else:
        try:
            night = (datetime.date.fromisoformat(date) if date else here.date()).isoformat()
        except ValueError:
            raise ConfigError(f"--date: {date!r} is no date; write it as 2026-11-28, or {NOW}") from None
    last = output.rstrip("/").rpartition("/")[2]
    return f"{job}-{re.sub('[^A-Za-z0-9_-]', '_', last)}-{night}"


def next_try(server: JobServer, name: str, *, again: bool) -> tuple[str, Job | None]:
    """Return the name to submit under, and the job of that name that stands in its way (None: it is free).

    The tries of a name are ``name``, ``name-2``, ``name-3``, … A next one is made only where it is wanted (`again`)
    and the last one failed or was stopped.

    Raises
    ------
    AlreadySubmittedError
        If there were `MOST_TRIES` of them.
    """
    last: Job | None = None
    for number in range(1, MOST_TRIES + 1):
        one = name if number == 1 else f"{name}-{number}"
        found = server.find(one)
        if found is None:
            free = last is None or (again and last.state in ("FAILED", "STOPPED"))
            return (one, None) if free or last is None else (last.name, last)
        last = found
    raise AlreadySubmittedError(f"{name} was tried {MOST_TRIES} times")

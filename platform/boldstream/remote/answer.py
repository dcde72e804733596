"""One HTTP question and what the answer tells: its status, its text, and what time the other machine thinks it is."""

import email.utils
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass

DATE_STEP_S = 1.0
"""HTTP's Date header counts whole seconds."""


@dataclass(frozen=True)
class Answer:
    """What a server said.

    Attributes
    ----------
    status : int
    text : str
    skew_s : float or None
        How far its clock is ahead of this machine's, in seconds, as far as its Date header can tell: zero within
        the second that the header leaves open and the time that the answer took. None: it told no date.
    """

    status: int
    text: str
    skew_s: float | None


def ask(url: str, timeout_s: float, headers: Mapping[str, str] | None = None) -> Answer:
    """Ask for a page; an answer of any status is an answer.

    Raises
    ------
    OSError
        If nobody answers in time.
    """
    request = urllib.request.Request(url, headers=dict(headers or {}))
    sent = time.time()
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as reply:
            return _answer(reply.status, reply.read(), reply.headers.get("Date"), sent)
    except urllib.error.HTTPError as error:
        with error:
            return _answer(error.code, error.read(), error.headers.get("Date"), sent)
    except urllib.error.URLError as error:
        raise OSError(str(error.reason)) from None
    except http.client.HTTPException as error:
        raise OSError(f"no HTTP: {type(error).__name__} {error}") from None


def _answer(status: int, body: bytes, date: str | None, sent: float) -> Answer:
    told = email.utils.parsedate_to_datetime(date).timestamp() if date else None
    skew = None if told is None else skew_of(told, sent, time.time(), step_s=DATE_STEP_S)
    return Answer(status, body.decode(errors="replace"), skew)


def skew_of(told: float, sent: float, received: float, step_s: float = 0.0) -> float:
    """Return how far another clock is ahead at least, in seconds (less than zero: behind; zero: nobody can tell).

    Parameters
    ----------
    told : float
        Unix time that it showed at some moment between the question and the answer.
    sent, received : float
        Our Unix times of the question and the answer.
    step_s : float
        It counts in such steps, and told the one that had begun.
    """
    earliest, latest = told - received, told + step_s - sent
    return earliest if earliest > 0 else latest if latest < 0 else 0.0

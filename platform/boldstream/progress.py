"""Progress of long work: one log line every few seconds, and the same numbers as MLflow metrics."""

import logging
import time
from typing import Protocol

from boldstream.tracking import JobRun

INTERVAL_S = 5.0

logger = logging.getLogger(__name__)


class Meter(Protocol):
    """More that a room measures of its own work."""

    def text(self) -> str:
        """Return it for the progress line, in a few words."""

    def numbers(self) -> dict[str, float]:
        """Return it as metrics."""


class Progress:
    """Count what is done against a known total; say how fast it goes and how long it still takes.

    Parameters
    ----------
    run : JobRun
        Where the metrics go.
    job : str
        First word of every line.
    total : int
        How many there are.
    unit : str
        What is counted (plural).
    meter : Meter, optional
        What else is told.
    quarantines : bool
        Whether any can be put into quarantine; without, those that failed are told even if none did.
    """

    def __init__(
        self,
        run: JobRun,
        job: str,
        total: int,
        unit: str = "scans",
        meter: Meter | None = None,
        *,
        quarantines: bool = True,
    ) -> None:
        self.run, self.job, self.total, self.unit, self.meter = run, job, total, unit, meter
        self.quarantines = quarantines
        self.done = self.quarantined = self.failed = 0
        self._start = self._said = time.monotonic()

    def add(self, done: int, quarantined: int = 0, failed: int = 0) -> None:
        """Count more as done, some of them not usable; speak if the last line is some seconds old."""
        self.done += done
        self.quarantined += quarantined
        self.failed += failed
        now = time.monotonic()
        if now - self._said >= INTERVAL_S and self.done < self.total:
            self._said = now
            self._say()

    @property
    def rate(self) -> float:
        """Mean speed so far, in units a second."""
        return self.done / max(time.monotonic() - self._start, 1e-9)

    def _say(self) -> None:
        left = (self.total - self.done) / max(self.rate, 1e-9)
        share = 100 * self.done / max(self.total, 1)
        line = f"{self.done}/{self.total} {self.unit} ({share:.0f}%), {self._kinds()}, {self.rate:.1f} {self.unit}/s"
        logger.info("%s: %s, %.0f s left", self.job, line, left)
        self._log(left)

    def _kinds(self) -> str:
        """Return what became of those that are not usable, and what the meter has to say."""
        kinds = [f"{self.quarantined} quarantined"] if self.quarantines else []
        if self.failed or not self.quarantines:
            kinds.append(f"{self.failed} failed")
        if self.meter is not None:
            kinds.append(self.meter.text())
        return ", ".join(kinds)

    def _log(self, left: float) -> None:
        numbers = {
            self.unit: self.done,
            **({"quarantined": self.quarantined} if self.quarantines else {}),
            "failed": self.failed,
            f"{self.unit}_per_s": self.rate,
            "seconds_left": left,
        }
        numbers |= self.meter.numbers() if self.meter is not None else {}
        self.run.log_metrics({f"progress/{name}": value for name, value in numbers.items()}, step=self.done)

    def close(self) -> None:
        """Say the final count and log it."""
        seconds = time.monotonic() - self._start
        line = f"{self.done} {self.unit} in {seconds:.1f} s ({self.rate:.1f}/s), {self._kinds()}"
        logger.info("%s: %s", self.job, line)
        self.run.tell(f"Did {line}")
        self._log(0.0)

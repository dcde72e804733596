"""Progress of long work: one log line every few seconds, and the same numbers as MLflow metrics."""

import logging
import time

from boldstream.tracking import JobRun

INTERVAL_S = 5.0

logger = logging.getLogger(__name__)


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
    """

    def __init__(self, run: JobRun, job: str, total: int, unit: str = "scans") -> None:
        self.run, self.job, self.total, self.unit = run, job, total, unit
        self.done = self.failed = 0
        self._start = self._said = time.monotonic()

    def add(self, done: int, failed: int = 0) -> None:
        """Count more as done (`failed` of them not usable); speak if the last line is some seconds old."""
        self.done += done
        self.failed += failed
        now = time.monotonic()
        if now - self._said >= INTERVAL_S and self.done < self.total:
            self._said = now
            self._say(now)

    @property
    def rate(self) -> float:
        """Mean speed so far, in units a second."""
        return self.done / max(time.monotonic() - self._start, 1e-9)

    def _say(self, now: float) -> None:
        left = (self.total - self.done) / max(self.rate, 1e-9)
        share = 100 * self.done / max(self.total, 1)
        logger.info(
            "%s: %d/%d %s (%.0f%%), %d quarantined, %.1f %s/s, %.0f s left",
            self.job,
            self.done,
            self.total,
            self.unit,
            share,
            self.failed,
            self.rate,
            self.unit,
            left,
        )
        self._log()

    def _log(self) -> None:
        numbers = {f"progress/{self.unit}": self.done, "progress/quarantined": self.failed}
        self.run.log_metrics(numbers | {f"progress/{self.unit}_per_s": self.rate}, step=self.done)

    def close(self) -> None:
        """Say the final count and log it."""
        seconds = time.monotonic() - self._start
        logger.info(
            "%s: %d %s in %.1f s (%.1f/s), %d quarantined",
            self.job,
            self.done,
            self.unit,
            seconds,
            self.rate,
            self.failed,
        )
        self._log()

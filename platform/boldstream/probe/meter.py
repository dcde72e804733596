"""What trials cost, for the progress line and MLflow."""


class TrialMeter:
    """Adds up the seconds that trials compute, whatever they wait."""

    def __init__(self) -> None:
        self.n, self.seconds = 0, 0.0

    def observe(self, seconds: float) -> None:
        """Count a trial that is done."""
        self.n += 1
        self.seconds += seconds

    @property
    def mean(self) -> float:
        """Seconds a trial."""
        return self.seconds / max(self.n, 1)

    def text(self) -> str:
        """Return it for the progress line."""
        return f"{self.mean:.2f} s a trial"

    def numbers(self) -> dict[str, float]:
        """Return it as metrics."""
        return {"seconds_a_trial": self.mean}

"""How busy the encoders are, from their receipts: for the progress line, MLflow and Ray's Prometheus endpoint."""

import time
from typing import Any

PATIENCE = 3.0
"""An encoder that is silent for so many times its last batch, or a minute, is not counted as one at work."""
BOUNDARIES = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0]


class ActorMeter:
    """Adds up what receipts say of encoders, and exports it through Ray.

    The metrics are the driver's, so a batch that is repeated after a worker's death is counted once:
    ``boldstream_embed_scans_total`` (rows of all three kinds), ``boldstream_embed_failures_total``,
    ``boldstream_embed_encode_seconds`` (of a batch of scans), ``boldstream_embed_actor_busy_share`` (of each encoder).
    Ray puts ``ray_`` before the names.

    Parameters
    ----------
    table : str
        Name of the embedding table, a tag of every metric.
    """

    def __init__(self, table: str) -> None:
        from ray.util.metrics import Counter, Gauge, Histogram

        self.busy: dict[str, float] = {}
        self.wall: dict[str, float] = {}
        self.until: dict[str, float] = {}
        self.batch_size = 0
        keys, tags = ("table",), {"table": table}
        self._scans = Counter("boldstream_embed_scans_total", "Scans done, or parts of scans", keys)
        self._failures = Counter("boldstream_embed_failures_total", "Scans that failed, or parts of scans", keys)
        self._seconds = Histogram("boldstream_embed_encode_seconds", "Encoding of a batch of scans", BOUNDARIES, keys)
        self._share = Gauge(
            "boldstream_embed_actor_busy_share", "Share of an encoder's time spent encoding", (*keys, "actor")
        )
        for metric in (self._scans, self._failures, self._seconds, self._share):
            metric.set_default_tags(tags)

    def observe(self, receipt: dict[str, Any]) -> None:
        """Count a receipt."""
        actor = receipt["actor"]
        self.busy[actor] = self.busy.get(actor, 0.0) + receipt["encode_s"]
        self.wall[actor] = self.wall.get(actor, 0.0) + receipt["wall_s"]
        self.until[actor] = time.monotonic() + max(60.0, PATIENCE * receipt["wall_s"])
        self.batch_size = receipt["batch_size"]
        if done := receipt["rows"] + receipt["quarantined"] + receipt["failed"]:
            self._scans.inc(done)
        if receipt["failed"]:
            self._failures.inc(receipt["failed"])
        self._seconds.observe(receipt["encode_s"])
        self._share.set(self.busy[actor] / max(self.wall[actor], 1e-9), {"actor": actor})

    @property
    def busy_share(self) -> float:
        """Time that encoders spent encoding, of the time that they were there."""
        return sum(self.busy.values()) / max(sum(self.wall.values()), 1e-9)

    @property
    def n_actors(self) -> int:
        """Encoders that gave a receipt lately."""
        return sum(time.monotonic() < until for until in self.until.values())

    def text(self) -> str:
        """Return it for the progress line."""
        return f"{self.n_actors} actor(s) {100 * self.busy_share:.0f}% busy in batches of {self.batch_size}"

    def numbers(self) -> dict[str, float]:
        """Return it as metrics."""
        return {
            "actors": self.n_actors,
            "actor_busy_share": self.busy_share,
            "encode_seconds": sum(self.busy.values()),
            "batch_size": self.batch_size,
        }

"""What the shift room is told."""

from typing import ClassVar

import pydantic

from boldstream.cluster import ClusterConfig
from boldstream.config import Config


class ShiftConfig(Config):
    """Tell how far a cohort is from the scans that a model was trained on, and which scans and regions are off."""

    cohort: str
    """Cohort: name, name@version, or the line that the ingest job printed."""

    model: str
    """Model version: models:/name@alias or models:/name/3."""

    output: str = "shift"
    """Folder of the page; an older one there is replaced."""

    false_alarms: float = pydantic.Field(default=0.05, gt=0, lt=1)
    """Chance that at least one region is named although the cohort is like the training scans."""

    max_outside: float = pydantic.Field(default=0.5, gt=0.1, le=1)
    """A scan is named if a larger share of its regions lies outside the range of nine in ten training scans."""

    min_similarity: float = pydantic.Field(default=0.2, ge=-1, le=1)
    """A scan is named if its connectivity correlates less with the training scans' mean connectivity."""

    warehouse: str = "warehouse"
    """Where the cohort lives (path or URI)."""

    cluster: ClusterConfig = ClusterConfig()
    """Where to run."""

    non_identity: ClassVar[frozenset[str]] = frozenset({"warehouse", "output", "cluster"})

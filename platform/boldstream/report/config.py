"""What the report room is told."""

from typing import ClassVar, Self

import pydantic

from boldstream.config import Config
from boldstream.refs import NAME_PATTERN

FC_NAME = "functional_connectivity"
"""Name of the baseline that every report measures beside its tables."""


class ReportConfig(Config):
    """Write the report of a cohort and of embedding tables made of it."""

    cohort: str
    """Cohort: name, name@version, or the line that the ingest job printed."""

    tables: dict[str, str] = pydantic.Field(min_length=1)
    """Embedding tables of that cohort by a short name; the first one is the one that the others are compared with
    (e.g. trained: demo-trained, untrained: demo-untrained)."""

    results: tuple[str, ...] = ()
    """Probe results of that cohort: name, name@version, or the lines that the probe job printed."""

    earlier: dict[str, str] = pydantic.Field(default_factory=dict)
    """By a name of tables: the version that it is compared with (name@3, name@champion); else the one before."""

    brain_targets: tuple[str, ...] | None = None
    """Columns whose probe is followed back to regions; none: the targets of the results."""

    occlude: str | None = None
    """A scan (its key) to look at with the first table's encoder, region by region; a minute or more on a CPU."""

    atlas_file: str | None = None
    """Image of the cohort's atlas (.nii.gz), for brain pictures; none: the one that the cohort was averaged with."""

    atlas_labels: str | None = None
    """Table that names the image's labels."""

    atlas_order: str | None = None
    """What brings the image's regions to the order of the cohort, as the ingest job takes it."""

    atlas_order_labels: str | None = None
    """Table of names in the new order."""

    output: str = "report"
    """Folder of the report; an older report there is replaced."""

    max_scans: int = pydantic.Field(default=200, ge=2)
    """Subjects, one scan each, to measure and draw; where there are more, a random subset of so many."""

    color_by: str | None = None
    """Column to colour the embedding map by; empty: the subject while there are few, else the site."""

    seed: int = pydantic.Field(default=0, ge=0)
    """Seed of the random subset."""

    warehouse: str = "warehouse"
    """Where the cohort and the tables live (path or URI)."""

    non_identity: ClassVar[frozenset[str]] = frozenset({"warehouse", "output"})

    @pydantic.model_validator(mode="after")
    def _check(self) -> Self:
        if unknown := sorted(self.earlier.keys() - self.tables.keys()):
            raise ValueError(f"earlier: {unknown[0]!r} is none of tables ({', '.join(self.tables)})")
        for name in self.tables:
            if not NAME_PATTERN.fullmatch(name):
                raise ValueError(f"tables: {name!r} is no name; use letters, digits, '-' and '_'")
            if name == FC_NAME:
                raise ValueError(f"tables: {name!r} is the name of the report's own baseline; choose another one")
        return self

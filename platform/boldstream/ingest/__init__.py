"""Room: scans that labs hold in, one clean cohort out."""

from typing import TYPE_CHECKING

from boldstream.doors import lazy_door

if TYPE_CHECKING:
    from boldstream.ingest.config import IngestConfig
    from boldstream.ingest.run import ingest_cohort

__all__ = ["IngestConfig", "ingest_cohort"]

__getattr__ = lazy_door(__name__, {"IngestConfig": "config", "ingest_cohort": "run"})

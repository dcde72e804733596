"""Room: scans that labs hold in, one clean cohort out."""

from typing import TYPE_CHECKING

from boldstream.doors import lazy_door

if TYPE_CHECKING:
    from boldstream.ingest.ahead import SourceChanges, look_ahead
    from boldstream.ingest.config import IngestConfig
    from boldstream.ingest.run import ingest_cohort

__all__ = ["IngestConfig", "SourceChanges", "ingest_cohort", "look_ahead"]

__getattr__ = lazy_door(
    __name__,
    {"IngestConfig": "config", "SourceChanges": "ahead", "ingest_cohort": "run", "look_ahead": "ahead"},
)

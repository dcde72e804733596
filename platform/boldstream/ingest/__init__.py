"""Room: scans that labs hold in, one clean cohort out."""

from boldstream.ingest.config import IngestConfig
from boldstream.ingest.run import ingest_cohort

__all__ = ["IngestConfig", "ingest_cohort"]

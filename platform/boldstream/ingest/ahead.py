"""What an ingest would read and let go, told without doing it."""

from dataclasses import dataclass

from boldstream.artifacts.cohort import cohort_tables, set_aside_table
from boldstream.ingest.again import Held
from boldstream.ingest.config import IngestConfig
from boldstream.ingest.plan import plan_scans
from boldstream.storage import Warehouse


@dataclass(frozen=True)
class SourceChanges:
    """What a source holds beside what the cohort holds.

    Attributes
    ----------
    n_scans : int
        In the source.
    new, gone : list of str
        Keys of scans to be read (new, or changed since), and of those that are not in the source any more.
    """

    n_scans: int
    new: list[str]
    gone: list[str]


def look_ahead(config: IngestConfig) -> SourceChanges:
    """List a source and compare it with the cohort's tables; reads no scan and writes nothing.

    Raises
    ------
    SourceError
        If the source or a table is missing, empty or ambiguous.
    """
    scans = plan_scans(config).scans
    cohort, quarantine = cohort_tables(Warehouse.at(config.warehouse), config.output)
    if not cohort.exists:
        return SourceChanges(len(scans), [scan.scan_key for scan in scans], [])
    found = Held(cohort, quarantine, set_aside_table(cohort.warehouse, config.output)).compare(scans)
    return SourceChanges(len(scans), [scan.scan_key for scan in found.new], found.gone)

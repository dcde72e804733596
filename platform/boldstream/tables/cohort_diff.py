"""What has changed between two versions of cohorts: scans that came, went, and are other than before, and in what."""

from collections import Counter
from dataclasses import dataclass

import pyarrow as pa

from boldstream.artifacts import cohort
from boldstream.artifacts.settings import differing_keys
from boldstream.errors import CohortError
from boldstream.tables.find import Version, find_version

KEY, DIGEST, SERIES = "scan_key", "row_digest", "qc_content_sha256"
LEFT_OUT = cohort.NOT_CARRIED | {KEY, "source_uri", "source_sha256"}


@dataclass(frozen=True)
class CohortDiff:
    """Two versions compared.

    Attributes
    ----------
    first, second : Version
    made_otherwise : list of str
        What differs in the settings they were made with, ``key: first -> second``.
    added, removed : list of str
        Scan keys, sorted.
    changed : dict of list of str
        Columns that differ, by key of the scans that are in both with another digest; ``timeseries`` stands for the
        series.
    n_same : int
        Scans that are the same in both.
    """

    first: Version
    second: Version
    made_otherwise: list[str]
    added: list[str]
    removed: list[str]
    changed: dict[str, list[str]]
    n_same: int

    @property
    def columns(self) -> Counter[str]:
        """How many of the changed scans differ in each column."""
        return Counter(name for names in self.changed.values() for name in names)


def diff_cohorts(first: str, second: str, warehouse: str) -> CohortDiff:
    """Compare two versions of cohorts by their small columns; no time series is read.

    Raises
    ------
    CohortError
        If one is not there, or is no cohort.
    """
    one, other = (find_version(pointer, warehouse) for pointer in (first, second))
    for found in (one, other):
        if not found.is_cohort:
            raise CohortError(f"{found.label} is an embedding table; `boldstream tables diff` compares those")
    names = [field.name for field in one.table.schema if field.name in other.table.schema.names]
    small = [name for name in names if name == SERIES or not (name in LEFT_OUT or name.startswith("qc_"))]
    before, now = (_rows(found, [KEY, DIGEST, *small]) for found in (one, other))
    common = before.keys() & now.keys()
    changed = {
        key: ["timeseries" if name == SERIES else name for name in small if before[key][name] != now[key][name]]
        for key in sorted(common)
        if before[key][DIGEST] != now[key][DIGEST]
    }
    return CohortDiff(
        one,
        other,
        differing_keys(one.manifest.config, other.manifest.config),
        added=sorted(now.keys() - before.keys()),
        removed=sorted(before.keys() - now.keys()),
        changed=changed,
        n_same=len(common) - len(changed),
    )


def _rows(found: Version, names: list[str]) -> dict[str, dict[str, object]]:
    rows: pa.Table = found.table.column(names, found.manifest.version)
    return {row[KEY]: row for row in rows.to_pylist()}

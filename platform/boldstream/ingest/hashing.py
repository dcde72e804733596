"""Subject ids hashed at ingest: what a plan may say of a person, and what is left out."""

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from boldstream.errors import SourceError
from boldstream.ingest.participants import CovariateTable
from boldstream.ingest.plan import CohortPlan, ScanPlan
from boldstream.pseudonyms import pseudonym

SHORT = 3
"""Ids of so few characters stand in texts by chance, as all do among numbers: there, most rows must have their own."""
NAMES = re.compile(r"'[^']*'|\"[^\"]*\"|\S*(?:/|sub-)\S*")


def without_names(error: SourceError) -> SourceError:
    """Return the error of a source that could not be planned, without values, paths and ids."""
    return SourceError(f"{NAMES.sub('…', str(error))} (subject_ids: hash leaves names and values out of messages)")


def hash_plan(
    plan: CohortPlan, tables: Iterable[tuple[CovariateTable, str | None]], root: str, salt: str
) -> CohortPlan:
    """Return a plan under hashed ids; the salt decides which.

    Scan keys, ``subject`` and the participants without a scan follow. Files are read where they are, and written down
    as ``hashed:…``. What a scan is refused for is told without the subject's names (see `ScanPlan.told`). The column
    that joins a table to the scans is no phenotype.

    Parameters
    ----------
    plan : CohortPlan
    tables : iterable of (CovariateTable, str or None)
        With the name of the column that joined them, if it is one of theirs.
    root : str
        Of the source.
    salt : str

    Raises
    ------
    SourceError
        If the source's folder is a subject's, or another column than the one that joins holds the subjects' ids.
    """
    subjects = {scan.values["subject"] for scan in plan.scans}
    if subjects & set(re.split(r"[/_]|sub-", root)):
        raise SourceError("source.root is the folder of one subject, and settings are kept; name the folder above it")
    dropped = set()
    for table, key in tables:
        if key is not None:
            dropped.add(key)
        _check_columns(table, dropped)
    scans = [_hashed(scan, root, dropped, salt) for scan in plan.scans]
    phenotypes = {name: kind for name, kind in plan.phenotypes.items() if name not in dropped}
    return CohortPlan(
        sorted(scans, key=lambda scan: scan.scan_key), phenotypes, [pseudonym(key, salt) for key in plan.without_scan]
    )


def _hashed(scan: ScanPlan, root: str, dropped: set[str], salt: str) -> ScanPlan:
    subject = scan.values["subject"]
    hidden = pseudonym(subject, salt)
    path = scan.source_uri.removeprefix(f"{root.rstrip('/')}/")
    anonymous = replace(
        scan,
        scan_key=scan.scan_key.replace(f"sub-{subject}", f"sub-{hidden}", 1),
        values={name: value for name, value in scan.values.items() if name not in dropped} | {"subject": hidden},
        stamp=pseudonym(scan.stamp, salt),
        alias=f"hashed:{pseudonym(path, salt)}",
    )
    problem = (scan.problem[0], anonymous.told(scan.problem[1])) if scan.problem else None
    return replace(anonymous, problem=problem)


def _check_columns(table: CovariateTable, dropped: set[str]) -> None:
    """Refuse a column, not one of the dropped, that says whom a row, or somebody else (a twin), is."""
    own = {key: _ids(key, row) for key, row in table.rows.items()}
    long = {one for ids in own.values() for one in ids if len(one) > SHORT}
    for name in table.phenotypes.keys() - dropped:
        values = {key: row[name] for key, row in table.rows.items() if row.get(name) is not None}
        words = {key: _words(value) for key, value in values.items()}
        surely = any(long & words[key] for key, value in values.items() if isinstance(value, str))
        n_own = sum(bool(own[key] & words[key]) for key in values)
        if surely or 2 * n_own > len(values) > 1:
            raise SourceError(
                f"column {name} of the participants or sessions table holds subjects' ids, and subject_ids: hash would "
                "keep it; take it out of the table"
            )


def _ids(key: Any, row: dict[str, Any]) -> set[str]:
    """Return the names of a row's person; numbers without leading zeros, as a column of numbers has them."""
    names = {str(one) for one in (key[0] if isinstance(key, tuple) else key, row.get("subject")) if one}
    return names | {one.lstrip("0") for one in names if one.isdecimal()}


def _words(value: Any) -> set[str]:
    """Return a value, and its parts between what is no letter or digit."""
    return {f"{value:.0f}"} if isinstance(value, float) else {value, *re.split(r"[^A-Za-z0-9]+", value)}

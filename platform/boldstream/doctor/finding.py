"""What the doctor finds, and how it is told."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

OK, NOTE, WRONG, SKIPPED = "ok", "note", "wrong", "skipped"
HERE = "here"
MARK = "boldstream-doctor-findings: "
"""Begins the line by which the cluster's findings come back in a job's log."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes
    ----------
    part : str
        What: ray, token, versions, clock, gpu, disk, mlflow, catalog, storage, …
    where : str
        ``here``, or a node.
    state : str
        ``ok``; ``note``: works, but should be known; ``wrong``: jobs will fail; ``skipped``: could not be looked at.
    found : str
        What it is, with the values.
    mend : str
        What to do about it.
    """

    part: str
    where: str
    state: str
    found: str
    mend: str = ""


def say(findings: Sequence[Finding]) -> str:
    """Return a table for people, and one line that sums it up."""
    rows = [("", "PART", "WHERE", "FOUND"), *((one.state, one.part, one.where, one.found) for one in findings)]
    wide = [max(len(row[i]) for row in rows) for i in range(3)]
    mends = ["", *(one.mend for one in findings)]
    lines = []
    for row, mend in zip(rows, mends, strict=True):
        cells = "  ".join(f"{cell:<{width}}" for cell, width in zip(row, wide, strict=False))
        lines.append(f"{cells}  {row[3]}")
        if mend:
            lines.append(f"{'':{sum(wide) + 4}}  → {mend}")
    count = {state: sum(one.state == state for one in findings) for state in (WRONG, NOTE, SKIPPED)}
    told = ", ".join(f"{number} {state}" for state, number in count.items() if number)
    return "\n".join([*lines, "", f"{len(findings)} looked at: {told or 'all well'}"])


def to_json(findings: Sequence[Finding]) -> str:
    """Return the findings as one line of JSON."""
    return json.dumps([asdict(one) for one in findings], ensure_ascii=False)


def from_json(text: str) -> list[Finding]:
    """Return the findings that `to_json` told."""
    return [Finding(**one) for one in json.loads(text)]

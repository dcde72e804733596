"""What every night came to, kept beside the warehouse's tables: a small file a night, written once."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import pyarrow.fs as pafs

from boldstream.artifacts.embeddings import EmbeddingTable
from boldstream.errors import StorageError
from boldstream.nightly.gate import Check
from boldstream.storage import Warehouse, filesystem, publish_bytes, read_bytes

Outcome = Literal["promoted", "unchanged", "held", "failed"]
OUTCOMES: dict[Outcome, str] = {
    "promoted": "the new version is champion",
    "unchanged": "nothing is new, the champion stands",
    "held": "a version was made and did not pass the gate, the champion stands",
    "failed": "no version was made, the champion stands",
}
SHOWN = 60


@dataclass(frozen=True)
class Step:
    """One room of a night: what it gave, and seconds."""

    room: str
    told: str
    seconds: float


@dataclass
class Night:
    """What one night came to.

    Attributes
    ----------
    started : str
        UTC, ISO 8601.
    run_id : str
        MLflow run.
    table : str
        Name of the table.
    mode : str
    outcome : str
        Of `OUTCOMES`; "failed" until it is known.
    reasons : list of str
        Why it was held or failed, or what else a person should know.
    champion_before, champion, candidate : str or None
        Versions of the table.
    rows : int
        Of the champion that stands in the morning.
    counts : dict
        ``added``, ``changed``, ``removed`` scans of the cohort, ``vectors``, ``quarantined``, ``failed``.
    steps : list of Step
    checks : list of Check
    """

    started: str
    run_id: str
    table: str
    mode: str
    outcome: Outcome = "failed"
    reasons: list[str] = field(default_factory=list)
    champion_before: str | None = None
    champion: str | None = None
    candidate: str | None = None
    rows: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)

    @property
    def headline(self) -> str:
        """One sentence."""
        stands = f"{self.table}@{self.champion} ({self.rows} vectors)" if self.champion else "no version yet"
        return {
            "promoted": f"Promoted: {self.table}@{self.candidate} is the champion now, {self.rows} vectors.",
            "unchanged": f"Nothing is new: {stands} stands.",
            "held": f"Held: {self.table}@{self.candidate} did not pass the gate; the champion is {stands}.",
            "failed": f"Failed: no new version was made; the champion is {stands}.",
        }[self.outcome]

    def stands(self, champion: EmbeddingTable | None) -> None:
        """Note which version counts now."""
        if champion is not None:
            self.champion, self.rows = champion.ref.version, champion.manifest.rows

    def to_json(self) -> bytes:
        """Return it as JSON."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False).encode()

    @classmethod
    def from_json(cls, data: bytes) -> "Night":
        """Read what `to_json` wrote."""
        values: dict[str, Any] = json.loads(data)
        steps, checks = values.pop("steps"), values.pop("checks")
        return cls(**values, steps=[Step(**one) for one in steps], checks=[Check(**one) for one in checks])


def folder_of(warehouse: str, table: str) -> str:
    """Return where the nights of a table are kept."""
    return Warehouse.at(warehouse).location("nights", table)


def keep_night(night: Night, warehouse: str) -> None:
    """Write a night beside the others."""
    name = f"{night.started.replace(':', '')}-{night.run_id[:8]}.json"
    publish_bytes(f"{folder_of(warehouse, night.table)}/{name}", night.to_json())


def past_nights(warehouse: str, table: str) -> list[Night]:
    """Return the last nights of a table, oldest first.

    Raises
    ------
    StorageError
        If they cannot be listed or read.
    """
    uri = folder_of(warehouse, table)
    fs, path = filesystem(uri)
    try:
        files = fs.get_file_info(pafs.FileSelector(path, allow_not_found=True))
    except OSError as error:
        raise StorageError(f"{uri}: cannot be listed: {error}") from None
    names = sorted(file.base_name for file in files if file.base_name.endswith(".json"))
    return [Night.from_json(read_bytes(f"{uri}/{name}")) for name in names[-SHOWN:]]

"""What an ingest run has to do: the scans of the source compared with those that its tables hold."""

from dataclasses import dataclass

from boldstream.errors import SourceError
from boldstream.ingest.config import IngestConfig
from boldstream.ingest.outputs import Outputs, is_refused
from boldstream.ingest.plan import CohortPlan, ScanPlan

SHOWN = 5


@dataclass(frozen=True)
class Todo:
    """What a run has to do.

    Attributes
    ----------
    scans : list of ScanPlan
        To read: those whose stamp the tables do not have.
    n_changed : int
        Of them were read before.
    removed : list of str
        Keys that the tables know and the source does not have any more, sorted.
    held : dict of tuple of str
        `ROW_STATE` of the rows that the tables hold, by key.
    """

    scans: list[ScanPlan]
    n_changed: int
    removed: list[str]
    held: dict[str, tuple[str, ...]]

    def describe(self, n_scans: int, root: str) -> str:
        """Say it in a line."""
        text = f"{n_scans} scans in {root}, {len(self.scans)} to read"
        if self.n_changed:
            text += f" ({len(self.scans) - self.n_changed} new, {self.n_changed} changed)"
        return f"{text}, {len(self.removed)} gone" if self.removed else text


def compare(plan: CohortPlan, outputs: Outputs) -> Todo:
    """Compare a plan with the tables, by keys and stamps alone."""
    outputs.refresh()
    known, read = outputs.known, outputs.read_before()
    scans = [scan for scan in plan.scans if scan.scan_key not in read or read[scan.scan_key][0] != scan.stamp]
    return Todo(
        scans,
        n_changed=sum(scan.scan_key in known for scan in scans),
        removed=sorted(known - {scan.scan_key for scan in plan.scans}),
        held={key: state for key, (_, state) in read.items() if not is_refused(state)},
    )


def check_removed(todo: Todo, config: IngestConfig, n_known: int) -> None:
    """Refuse to take out more scans at once than the configuration allows.

    Raises
    ------
    SourceError
    """
    n_gone = len(todo.removed)
    if n_gone <= config.max_removed * n_known:
        return
    share = -(-n_gone * 100 // n_known) / 100  # rounded up, so that it allows what it says
    raise SourceError(
        f"{n_gone} of the {n_known} scans that cohort {config.output!r} was made of are gone from {config.source.root} "
        f"({some_of(todo.removed)}), more than max_removed ({config.max_removed:g}) of them: is a disk not mounted, or "
        f"a folder moved? Nothing is changed; if they were withdrawn, allow it once: --max-removed {share:g}"
    )


def some_of(keys: list[str]) -> str:
    """Name the first keys, and how many more there are."""
    more = len(keys) - SHOWN
    return ", ".join(keys[:SHOWN]) + (f" and {more} more" if more > 0 else "")

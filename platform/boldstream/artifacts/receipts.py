"""Commit what workers have written, as their receipts come in, and count it."""

import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from boldstream.artifacts.cohort import QUARANTINE_SCHEMA
from boldstream.artifacts.commit import Committer
from boldstream.artifacts.tables import VersionedTable
from boldstream.errors import StorageError
from boldstream.interrupts import raise_if_interrupted
from boldstream.progress import Progress

COMMIT_SHARDS = 32
COMMIT_SECONDS = 10.0
"""A commit comes after so many shards, or so many seconds: a killed run repeats at most that."""

logger = logging.getLogger(__name__)


def begin_run(
    table: VersionedTable,
    quarantine: VersionedTable,
    schema: pa.Schema,
    identity: dict[str, Any],
    *,
    quarantine_schema: pa.Schema = QUARANTINE_SCHEMA,
    beside: Sequence[tuple[VersionedTable, pa.Schema]] = (),
    properties: dict[str, str] | None = None,
) -> None:
    """Create a table (with properties), its quarantine and what else stands beside it, or go on with the same run's.

    An unfinished run with other settings, which has published nothing, is cleared away.

    Raises
    ------
    OutputExistsError
        If the table has a published version that was made with other settings.
    """
    others = [(quarantine, quarantine_schema), *beside]
    if table.exists and not table.versions and (differing := table.differences(schema, identity)):
        logger.warning(
            "%s %s: clearing away an unfinished run with other settings (%s)",
            table.kind,
            table.name,
            "; ".join(differing),
        )
        for found in (table, *(other for other, _ in others)):
            found.drop()
    table.begin(schema, identity, properties)
    for other, its in others:
        other.begin(its, identity)


def list_reasons(quarantine: VersionedTable) -> str:
    """Return all quarantine reasons with their counts, one scan as an example, and where the others are."""
    rows = quarantine.column(["scan_key", "reason", "message"]).sort_by("scan_key")
    first = rows.slice(0, 1).to_pylist()[0]
    return (
        f"{_counted(Counter(rows['reason'].to_pylist()))}; for example {first['scan_key']}: {first['message']}; "
        f"all are listed in {quarantine.uri}"
    )


def _counted(reasons: Counter[str]) -> str:
    return ", ".join(f"{count} x {reason}" for reason, count in reasons.most_common())


class Receipts:
    """The driver's side of a run: commits what the workers have written.

    Parameters
    ----------
    sinks : mapping of Committer
        By the receipts' fields that name shards: ``shard``, ``quarantine``, and others that a room has.
    progress : Progress
        Told of every receipt.
    fail_fast : bool
        Stop at the first receipt with an ``error``: the text of what failed in it first.
    observe : callable, optional
        Called with every receipt, before `progress` is told.

    Attributes
    ----------
    reasons : Counter
        Quarantine reasons so far.
    """

    def __init__(
        self,
        sinks: Mapping[str, Committer],
        progress: Progress,
        *,
        fail_fast: bool = False,
        observe: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        self.sinks, self.progress, self.fail_fast, self.observe = sinks, progress, fail_fast, observe
        self.reasons: Counter[str] = Counter()

    def take(self, receipts: Iterable[dict[str, Any]]) -> None:
        """Commit all receipts, some at a time, and say what went to quarantine.

        A worker's error that no retry mends comes in a receipt's ``stopped``: raised, it would arrive as Ray's own.

        Raises
        ------
        StorageError
            If a worker could not write; what was written before is committed.
        ArtifactError
            With `fail_fast`, at the first failure, likewise.
        """
        waiting: list[dict[str, Any]] = []
        committed = time.monotonic()
        stream = iter(receipts)
        try:
            for receipt in stream:
                raise_if_interrupted()
                if receipt["stopped"]:
                    raise StorageError(receipt["stopped"])
                waiting.append(receipt)
                self.reasons.update(json.loads(receipt["reasons"]))
                failed = receipt.get("failed", 0)
                if self.observe is not None:
                    self.observe(receipt)
                self.progress.add(receipt["rows"] + receipt["quarantined"] + failed, receipt["quarantined"], failed)
                if self.fail_fast and receipt.get("error"):
                    raise self.sinks["shard"].table.error(
                        f"{receipt['error']} (fail_fast: the first failure ends the run)"
                    )
                if len(waiting) >= COMMIT_SHARDS or time.monotonic() - committed >= COMMIT_SECONDS:
                    # taken out first: a commit that is interrupted must not be tried again below
                    ready, waiting, committed = waiting, [], time.monotonic()
                    self._commit(ready)
        finally:
            # Interrupted or failed: what is written whole is kept, so that the same command goes on from there.
            try:
                self._commit(waiting)
            finally:
                if isinstance(stream, Generator):
                    stream.close()  # or Ray Data goes on scheduling while the process ends
        self.progress.close()
        if self.reasons:
            self.progress.run.tell(f"Quarantined: {_counted(self.reasons)}")
            logger.warning(
                "%s: %d in quarantine (%s), listed in %s",
                self.progress.job,
                self.reasons.total(),
                _counted(self.reasons),
                self.sinks["quarantine"].table.uri,
            )

    def _commit(self, receipts: list[dict[str, Any]]) -> None:
        for field, sink in self.sinks.items():
            sink.commit([receipt[field] for receipt in receipts if receipt[field]])

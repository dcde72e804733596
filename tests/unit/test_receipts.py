"""Receipts of a stream are committed, and the stream is closed however that ends."""

import pytest

from boldstream.artifacts.receipts import Receipts
from boldstream.errors import StorageError
from boldstream.progress import Progress
from boldstream.tracking import JobRun

ROW = {"stopped": None, "reasons": "{}", "rows": 1, "quarantined": 0, "shard": "a.parquet"}


class Full:
    """A sink on a full disk."""

    def commit(self, shards):
        raise StorageError("no space left on device")


def test_stream__is_closed_where_its_last_rows_cannot_be_committed(tracking):
    ended = []

    def stream():
        try:
            yield ROW
            yield ROW | {"stopped": "no space left on device"}
        finally:
            ended.append(True)

    receipts = stream()
    taking = Receipts({"shard": Full()}, Progress(JobRun("none"), "embed", 2, "scans"))
    with pytest.raises(StorageError, match="no space left on device"):
        taking.take(receipts)
    assert ended == [True]

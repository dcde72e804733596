"""Which rows a table holds: key and digest columns, read from the files and nothing else."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from boldstream.errors import ArtifactError, first_line
from boldstream.s3 import past_short_reads
from boldstream.storage import filesystem

if TYPE_CHECKING:
    from boldstream.artifacts.tables import VersionedTable

FILE = "file"
READERS = 8
"""Threads that read files, each one at a time: what a file's footer takes is given back before the next is opened."""
FILES_IN_A_CHUNK = 128
"""Files whose rows are joined to one piece: a chunk a file would cost more than the keys in it."""
ROWS_AT_ONCE = 8192
PAIR = pa.binary(16)


def read_columns(uris: Sequence[str], columns: Sequence[pa.Field], error: type[ArtifactError]) -> pa.Table:
    """Read small columns of Parquet files; adds ``file``, the place of a row's file in `uris`, int32.

    Raises
    ------
    ArtifactError
        If a file is missing or cannot be read.
    """
    schema = pa.schema([*columns, pa.field(FILE, pa.int32())])
    if not uris:
        return schema.empty_table()
    fs, _ = filesystem(uris[0])
    paths = [filesystem(uri)[1] for uri in uris]

    def read(place: int) -> pa.Table:
        found = past_short_reads(lambda: _read_one(paths[place], columns, fs))
        return found.append_column(FILE, pa.repeat(pa.scalar(place, pa.int32()), len(found))).cast(schema)

    parts = []
    with ThreadPoolExecutor(READERS) as pool:
        for first in range(0, len(uris), FILES_IN_A_CHUNK):
            some = range(first, min(first + FILES_IN_A_CHUNK, len(uris)))
            try:
                parts.append(pa.concat_tables(pool.map(read, some)).combine_chunks())
            except (OSError, pa.ArrowInvalid) as problem:
                raise error(
                    f"a data file cannot be read ({first_line(problem)}); restore it, or make the table again"
                ) from None
    return pa.concat_tables(parts)


def _read_one(path: str, columns: Sequence[pa.Field], fs: pafs.FileSystem) -> pa.Table:
    with pq.ParquetFile(path, filesystem=fs) as file:
        return file.read(columns=[field.name for field in columns], use_threads=False)


def texts_of(rows: pa.Table, columns: Sequence[str]) -> Iterator[pa.Array]:
    """Yield key and digests of each row as one text, for some rows at a time."""
    for batch in rows.select(columns).to_batches(max_chunksize=ROWS_AT_ONCE):
        yield pc.binary_join_element_wise(*(column.cast(pa.string()) for column in batch.columns), "\n")


def pairs(rows: pa.Table, columns: Sequence[str]) -> pa.ChunkedArray:
    """Return 16 bytes a row that follow from key and digests, to look rows up by (BLAKE2b: no two are alike)."""
    chunks = []
    for texts in texts_of(rows, columns):
        found = b"".join([blake2b(text, digest_size=PAIR.byte_width).digest() for text in _bytes(texts)])
        chunks.append(pa.FixedSizeBinaryArray.from_buffers(PAIR, len(texts), [None, pa.py_buffer(found)]))
    return pa.chunked_array(chunks, PAIR)


def _bytes(texts: pa.Array) -> list[bytes]:
    found: list[bytes] = texts.cast(pa.binary()).to_pylist()
    return found


def rows_in(rows: pa.Table, others: pa.Table, columns: Sequence[str], other_columns: Sequence[str]) -> pa.ChunkedArray:
    """Say of each row whether another table has it, by key and digests."""
    return pc.is_in(pairs(rows, columns), value_set=pairs(others, other_columns).combine_chunks())


def first_of_each(rows: pa.Table, key: str) -> pa.Table:
    """Return the first row of every key."""
    counted = rows.append_column("place", pa.array(np.arange(rows.num_rows)))
    first = counted.group_by(key, use_threads=False).aggregate([("place", "min")])["place_min"]
    return rows if len(first) == rows.num_rows else rows.take(pa.array(np.sort(first.to_numpy())))


class KeyIndex:
    """Key and digest of every row that a table holds at one snapshot, and the file of each.

    Parameters
    ----------
    table : VersionedTable
    key : str
        Column that tells rows apart.
    digest : sequence of str
        Columns that tell a row's states apart: a row of the same key with other values replaces the one that is there.
        None: a row that is there stays.
    extra : sequence of str
        Further small columns to keep.

    Attributes
    ----------
    rows : pyarrow.Table
        Columns `key`, `digest`, `extra`, and ``file``.
    snapshot_id : int or None
        Snapshot that `rows` are of; None for an empty table.
    """

    def __init__(self, table: "VersionedTable", key: str, digest: Sequence[str], extra: Sequence[str] = ()) -> None:
        self.table, self.key, self.state = table, key, [key, *digest]
        self.columns = [table.schema.field(name) for name in (*self.state, *extra)]
        self.snapshot_id: int | None = None
        self.rows = read_columns([], self.columns, table.error)
        self._places: dict[str, int] = {}

    def refresh(self) -> None:
        """Follow the table to its current snapshot: read files that are new, forget files that are gone."""
        iceberg = self.table.iceberg.refresh()
        snapshot = iceberg.current_snapshot()
        if snapshot is None or snapshot.snapshot_id == self.snapshot_id:
            return
        there = self.table.current_files()
        gone = [place for uri, place in self._places.items() if uri not in there]
        if gone:
            self.rows = self.rows.filter(pc.invert(pc.is_in(self.rows[FILE], value_set=pa.array(gone, pa.int32()))))
            self._places = {uri: place for uri, place in self._places.items() if uri in there}
        new = [uri for uri in there if uri not in self._places]
        self.adopt(new, read_columns(new, self.columns, self.table.error), snapshot.snapshot_id)

    def adopt(self, uris: Sequence[str], rows: pa.Table, snapshot_id: int) -> None:
        """Take in files of a snapshot whose rows are known; ``file`` of the rows counts in `uris`."""
        first = max(self._places.values(), default=-1) + 1
        self._places |= {uri: first + i for i, uri in enumerate(uris)}
        placed = rows.set_column(
            rows.schema.get_field_index(FILE), FILE, pc.add(rows[FILE], pa.scalar(first, pa.int32()))
        )
        self.rows = pa.concat_tables([self.rows, placed])
        self.snapshot_id = snapshot_id

    def files_of(self, rows: pa.Table) -> list[str]:
        """Return the files that rows of the index are in."""
        uris = {place: uri for uri, place in self._places.items()}
        return [uris[place] for place in np.unique(rows[FILE].to_numpy())]

"""Exactly once: commit finished shards so that every key is in the table one time, whoever else writes to it."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from boldstream.artifacts.conflicts import until_committed
from boldstream.artifacts.keys import FILE, KeyIndex, first_of_each, read_columns, rows_in
from boldstream.artifacts.shards import content_name, write_shard
from boldstream.artifacts.tables import VersionedTable
from boldstream.storage import filesystem

if TYPE_CHECKING:
    from pyiceberg.table import Table


COPIED_AT_ONCE = 64


class Committer:
    """A table of which one run, perhaps one of several at once, adds, replaces and removes rows by key.

    Every change looks at the table as it is now, commits against just that state, and starts over where another
    writer came first. A row is replaced within one snapshot: none lacks it, none has it twice.

    Parameters
    ----------
    table : VersionedTable
    key : str
        Column that tells rows apart.
    digest : sequence of str
        Columns that tell a row's states apart, see `KeyIndex`.
    extra : sequence of str
        Further columns that the index keeps.
    guard : callable or None
        Called before every commit with the table refreshed; raises where the run must not go on.
    """

    def __init__(
        self,
        table: VersionedTable,
        key: str,
        digest: Sequence[str] = (),
        extra: Sequence[str] = (),
        guard: Callable[[], None] | None = None,
    ) -> None:
        self.table, self.guard = table, guard
        self.index = KeyIndex(table, key, digest, extra)

    def refresh(self) -> pa.Table:
        """Return key, digests and extra columns of the rows that the table holds now."""
        self.index.refresh()
        return self.index.rows

    def commit(self, shards: Sequence[str]) -> int:
        """Commit those rows of shards that the table does not hold; return how many that were.

        A row that is there in the same state is left out, its shard written again without it; a row that is there in
        another state is replaced.
        """
        uris = list(dict.fromkeys(shards))
        incoming = first_of_each(read_columns(uris, self.index.columns, self.table.error), self.index.key)
        return self._until_committed(lambda: self._add(uris, incoming)) if incoming.num_rows else 0

    def remove(self, choose: Callable[[pa.Table], pa.ChunkedArray]) -> int:
        """Take out the rows that a function chooses (a mask over the index); versions that have them keep them."""

        def act() -> int:
            gone = self._look().filter(choose(self.index.rows))
            if gone.num_rows:
                self._exchange(gone, [])
            return gone.num_rows

        return self._until_committed(act)

    def add_rows(self, rows: pa.Table) -> int:
        """Write rows as a shard and commit it; return how many the table did not hold in this state."""
        return self.commit([self._write(rows)]) if rows.num_rows else 0

    def copy_rows(self, keys: Sequence[str], to: "Committer") -> None:
        """Commit rows to another table of the same columns, a few at a time; they stay here too."""
        from pyiceberg.expressions import In

        for first in range(0, len(keys), COPIED_AT_ONCE):
            some = In(self.index.key, list(keys[first : first + COPIED_AT_ONCE]))
            to.add_rows(self.table.iceberg.refresh().scan(row_filter=some).to_arrow())

    def _until_committed(self, act: Callable[[], int]) -> int:
        return until_committed(act, self.table)

    def _look(self) -> pa.Table:
        rows = self.refresh()
        if self.guard is not None:
            self.guard()
        return rows

    def _add(self, uris: list[str], incoming: pa.Table) -> int:
        held = self._look()
        key = self.index.key
        met = held.filter(pc.is_in(held[key], value_set=_keys(incoming, key)))
        state = self.index.state
        new = incoming.filter(pc.invert(rows_in(incoming, met, state, state)))
        if not new.num_rows:
            return 0
        replaced = met.filter(pc.is_in(met[key], value_set=_keys(new, key)))
        files, placed = self._trimmed(uris, new)
        if replaced.num_rows:
            self._exchange(replaced, files)
        else:
            self._iceberg.add_files(files, check_duplicate_files=False)
            self.index.adopt(files, placed, self._iceberg.current_snapshot().snapshot_id)
        return new.num_rows

    @property
    def _iceberg(self) -> "Table":
        return self.table.iceberg

    def _trimmed(self, uris: list[str], new: pa.Table) -> tuple[list[str], pa.Table]:
        """Return shards that hold the new rows and no others, and the rows with their place in that list."""
        files, parts = [], []
        for place in np.unique(new[FILE].to_numpy()):
            rows = new.filter(pc.equal(new[FILE], pa.scalar(place, pa.int32())))
            fs, path = filesystem(uris[place])
            if pq.read_metadata(path, filesystem=fs).num_rows == rows.num_rows:
                files.append(uris[place])
            else:
                written = pq.read_table(path, filesystem=fs)
                files.append(self._write(written.take(_places(written[self.index.key], rows[self.index.key]))))
            parts.append(
                rows.set_column(rows.num_columns - 1, FILE, pa.array([len(files) - 1] * len(rows), pa.int32()))
            )
        return files, pa.concat_tables(parts)

    def _write(self, rows: pa.Table) -> str:
        """Write rows as a shard of the table, whatever flavour of Arrow they were read as."""
        schema = self.table.schema
        plain = pa.table([rows[field.name].cast(field.type) for field in schema], schema=schema)
        return write_shard(self.table.uri, content_name(plain), plain)

    def _exchange(self, gone: pa.Table, added: list[str]) -> None:
        """Take rows of the index out and put files in, in one snapshot."""
        from pyiceberg.expressions import AlwaysTrue
        from pyiceberg.io.pyarrow import ArrowScan, parquet_file_to_data_file

        iceberg = self._iceberg
        affected = [self.table.current_files()[uri] for uri in self.index.files_of(gone)]
        scan = ArrowScan(iceberg.metadata, iceberg.io, iceberg.schema(), AlwaysTrue())
        files = list(added)
        for task in affected:
            rows = scan.to_table([task])
            rest = rows.filter(
                pc.invert(pc.is_in(rows[self.index.key].cast(pa.string()), value_set=_keys(gone, self.index.key)))
            )
            if rest.num_rows:
                files.append(self._write(rest))
        with iceberg.transaction() as transaction:
            data = [parquet_file_to_data_file(iceberg.io, transaction.table_metadata, uri) for uri in files]
            with transaction.update_snapshot().overwrite() as snapshot:
                for task in affected:
                    snapshot.delete_data_file(task.file)
                for file in data:
                    snapshot.append_data_file(file)
        self.index.refresh()


def _keys(rows: pa.Table, key: str) -> pa.Array:
    return rows[key].combine_chunks()


def _places(there: pa.ChunkedArray, wanted: pa.ChunkedArray) -> pa.Array:
    """Return where the wanted keys stand first."""
    return pc.index_in(wanted, value_set=there.combine_chunks())

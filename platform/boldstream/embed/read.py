"""The readers of the embed room: the scans that a plan names, out of one file of the cohort."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from boldstream.embed.attempt import Setback, attempt
from boldstream.embed.task import DIGEST, EmbedTask
from boldstream.storage import filesystem


def read_scans(batch: pa.Table, *, task: EmbedTask) -> Iterator[pa.Table]:
    """Read the scans of units of work (see `boldstream.embed.plan`); row groups without any of them are not read.

    Where a row group is damaged, each of its scans comes as a row with the error instead of its time series.
    """
    for text in batch["unit"].to_pylist():
        yield from _read_unit(json.loads(text), task)


def _read_unit(unit: dict[str, Any], task: EmbedTask) -> Iterator[pa.Table]:
    fs, path = filesystem(unit["file"])
    with pq.ParquetFile(path, filesystem=fs, pre_buffer=True) as file:
        keys = file.read(columns=["scan_key", DIGEST])
        sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        group_of = np.repeat(np.arange(len(sizes)), sizes)
        places = _places(keys, unit)
        groups = np.unique(group_of[places]).tolist()
        rows = attempt(file.read_row_groups, groups, columns=task.read_columns)
        if not isinstance(rows, Setback):
            chosen = np.flatnonzero(np.isin(np.flatnonzero(np.isin(group_of, groups)), places))
            yield _scans(rows.take(pa.array(chosen)), unit, task)
            return
        for group in groups:
            own = places[group_of[places] == group]
            rows = attempt(file.read_row_group, group, columns=task.read_columns)
            if isinstance(rows, Setback):
                yield _failed(keys.take(pa.array(own)), rows, unit, task)
            else:
                yield _scans(rows.take(pa.array(own - sum(sizes[:group]))), unit, task)


def _places(keys: pa.Table, unit: dict[str, Any]) -> NDArray[np.int64]:
    """Return the places of the wanted rows in the file."""
    if unit["attempts"] is None:
        return np.arange(keys.num_rows)
    wanted = pc.is_in(keys["scan_key"], value_set=pa.array(list(unit["attempts"]), pa.string()))
    return np.flatnonzero(wanted.to_numpy())


def _attempts(rows: pa.Table, unit: dict[str, Any]) -> pa.Array:
    """Return the number that this attempt is of each scan."""
    known = unit["attempts"] or {}
    return pa.array([known.get(key, 0) + 1 for key in rows["scan_key"].to_pylist()], pa.int32())


def _scans(rows: pa.Table, unit: dict[str, Any], task: EmbedTask) -> pa.Table:
    columns = {name: rows[name] for name in task.read_columns} | {"attempt": _attempts(rows, unit)}
    return _filled(columns, rows.num_rows, task.scan_schema)


def _failed(keys: pa.Table, setback: Setback, unit: dict[str, Any], task: EmbedTask) -> pa.Table:
    told = {name: pa.array([text] * keys.num_rows, pa.string()) for name, text in setback.columns.items()}
    known = {"scan_key": keys["scan_key"], DIGEST: keys[DIGEST], "attempt": _attempts(keys, unit)}
    return _filled(known | told, keys.num_rows, task.scan_schema)


def _filled(columns: dict[str, Any], n_rows: int, schema: pa.Schema) -> pa.Table:
    """Return columns under a schema, null where there is none."""
    found = [columns[f.name].cast(f.type) if f.name in columns else pa.nulls(n_rows, f.type) for f in schema]
    return pa.table(found, schema=schema)

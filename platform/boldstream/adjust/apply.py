"""Applying: the source's files one after the other, adjusted and written as shards; nothing is learnt here."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from boldstream.adjust.fit import Fitted
from boldstream.adjust.gather import LATENTS, read_vectors, vectors_of
from boldstream.adjust.rows import as_array
from boldstream.analysis.adjustment import Adjustment
from boldstream.analysis.covariates import NUMBERS
from boldstream.analysis.pooling import AttentionPooling
from boldstream.artifacts.embeddings import EmbeddingTable
from boldstream.artifacts.files import DataFile
from boldstream.artifacts.keys import FILE
from boldstream.artifacts.shards import content_name, write_shard
from boldstream.errors import AdjustmentError, EmbeddingsError, first_line
from boldstream.s3 import past_short_reads
from boldstream.storage import filesystem

SHARD_ROWS = 1024
"""Small files of the source are adjusted together, up to so many rows."""
POOLED_ROWS = 256
"""Regions' latents are read and pooled so many rows at a time."""


def adjust_files(
    source: EmbeddingTable,
    todo: pa.Table,
    fitted: Fitted,
    stamp: dict[str, str],
    schema: pa.Schema,
    table_uri: str,
) -> Iterator[dict[str, Any]]:
    """Adjust rows of the source and write them below the output; yield a receipt a shard.

    Parameters
    ----------
    todo : pyarrow.Table
        ``row_key`` and ``file`` (place among the source's files) of the rows to adjust.
    stamp : dict of str to str
        Columns that are the same in every row.
    schema : pyarrow.Schema
        Of the output.

    Raises
    ------
    AdjustmentError
        If a vector is not finite, before or after.
    EmbeddingsError
        If a file of the source is damaged.
    """
    waiting: list[pa.Table] = []
    places = np.unique(todo[FILE].to_numpy())
    for place in places:
        keys = todo.filter(pc.equal(todo[FILE], pa.scalar(place, pa.int32())))["row_key"].combine_chunks()
        fields = [f for f in schema if f.name in source.table.schema.names]
        rows = read_file(source.files[place], fields, fitted.pooling, source.label)
        waiting.append(rows.filter(pc.is_in(rows["row_key"], value_set=keys)))
        if sum(one.num_rows for one in waiting) >= SHARD_ROWS or place == places[-1]:
            rows = adjusted(pa.concat_tables(waiting), fitted.adjustment, stamp, schema, source.label)
            waiting = []
            yield _receipt(write_shard(table_uri, content_name(rows), rows), rows.num_rows)


def _receipt(uri: str, n_rows: int) -> dict[str, Any]:
    return {"shard": uri, "rows": n_rows, "quarantined": 0, "reasons": "{}", "stopped": None}


def read_file(
    file: DataFile, fields: Sequence[pa.Field], pooling: AttentionPooling | None = None, label: str = ""
) -> pa.Table:
    """Read columns of a file but for the regional latents, which the source keeps.

    Parameters
    ----------
    pooling : AttentionPooling, optional
        Makes the vectors of regions' latents; None: they are the source's.
    label : str
        Of the source, for messages on latents.

    Raises
    ------
    EmbeddingsError
        If it is damaged.
    AdjustmentError
        If its latents cannot be pooled.
    """
    fs, path = filesystem(file.uri)
    names = [field.name for field in fields if field.name != LATENTS]
    try:
        if pooling is None:
            return past_short_reads(lambda: pq.read_table(path, columns=names, filesystem=fs))
        return past_short_reads(lambda: _read_pooled(pq.ParquetFile(path, filesystem=fs), names, pooling, label))
    except (OSError, pa.ArrowInvalid) as error:
        raise EmbeddingsError(f"{file.uri}: cannot be read ({first_line(error)}); restore it, or embed again") from None


def _read_pooled(file: pq.ParquetFile, names: list[str], pooling: AttentionPooling, label: str) -> pa.Table:
    """Return rows with vectors pooled from regions' latents, of which a part of the file's is in memory at a time."""
    parts = []
    with file:
        for batch in file.iter_batches(POOLED_ROWS, columns=[*names, LATENTS]):
            rows = pa.Table.from_batches([batch])
            vectors = list_of(read_vectors(rows, label, pooling))
            light = rows.select(names)
            parts.append(light.set_column(names.index("embedding"), "embedding", vectors))
    return pa.concat_tables(parts)


def list_of(vectors: NDArray[np.float32]) -> pa.ListArray:
    """Return vectors as a column."""
    offsets = np.arange(len(vectors) + 1, dtype=np.int32) * vectors.shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(vectors.ravel(), pa.float32()))


def adjusted(rows: pa.Table, adjustment: Adjustment, stamp: dict[str, str], schema: pa.Schema, label: str) -> pa.Table:
    """Return rows of the output: those of the source with adjusted vectors, and what these follow from."""
    covariates: dict[str, NDArray] = {name: as_array(rows[name], name in NUMBERS) for name in adjustment.needs}
    try:
        with np.errstate(over="ignore"):  # what overflows is infinite, and found below
            vectors = adjustment.transform(vectors_of(rows["embedding"], label), covariates=covariates)
    except ValueError as error:
        raise AdjustmentError(f"rows of {label} cannot be adjusted: {error}") from None
    if not (finite := np.isfinite(vectors).all(axis=1)).all():
        key = rows["row_key"][int(np.flatnonzero(~finite)[0])].as_py()
        raise AdjustmentError(f"the adjusted vector of {key} is not finite; look at its vector in {label}")
    made = {
        **{name: [value] * len(vectors) for name, value in stamp.items()},
        "embedding": list_of(vectors),
        "vector_sha256": [hashlib.sha256(vector.tobytes()).hexdigest() for vector in vectors],
        "source_vector_sha256": rows["vector_sha256"],
        LATENTS: pa.nulls(len(vectors), schema.field(LATENTS).type),
    }
    columns = [made[f.name] if f.name in made else rows[f.name] for f in schema]
    cast = [c.cast(f.type) if isinstance(c, pa.ChunkedArray) else c for c, f in zip(columns, schema, strict=True)]
    return pa.table(cast, schema=schema)

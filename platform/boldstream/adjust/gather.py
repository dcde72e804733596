"""Vectors of a table as arrays: as embedded, or regions' latents pooled by a query as they are read."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from boldstream.analysis.pooling import AttentionPooling
from boldstream.artifacts.embeddings import EmbeddingTable
from boldstream.artifacts.versions import iter_batches
from boldstream.errors import AdjustmentError

GATHERED_BYTES = 64 << 20
"""Rows are looked up so many bytes at a time."""
LATENTS = "roi_latents"
N_NAMED = 5

Read = Callable[[pa.Table], NDArray[np.float32]]


def training_matrix(
    source: EmbeddingTable, train: pa.Table, pooling: AttentionPooling | None = None
) -> NDArray[np.float32]:
    """Return the vectors of training rows in their order, shape (n_train, p): 4 bytes a value, and nothing else whole.

    Raises
    ------
    AdjustmentError
        If vectors differ in length, or cannot be pooled.
    """
    columns = ["embedding"] if pooling is None else ["embedding", LATENTS]
    return _gather(source, train, columns, lambda rows: read_vectors(rows, source.label, pooling))


def training_latents(source: EmbeddingTable, train: pa.Table) -> NDArray[np.float32]:
    """Return regions' latents of rows in their order, shape (n, n_rois, d).

    Raises
    ------
    AdjustmentError
        If a row has none, or they differ in shape.
    """
    return _gather(source, train, ["embedding", LATENTS], lambda rows: latents_of(rows, source.label))


def read_vectors(rows: pa.Table, label: str, pooling: AttentionPooling | None) -> NDArray[np.float32]:
    """Return the vectors of rows, shape (n, d): the embeddings, or with `pooling` what it makes of regions' latents.

    Raises
    ------
    AdjustmentError
        If vectors differ in length, or there are no latents, or others than the query was trained on.
    """
    if pooling is None:
        return vectors_of(rows["embedding"], label)
    try:
        return pooling.transform(latents_of(rows, label))
    except ValueError as error:
        raise AdjustmentError(f"rows of {label} cannot be pooled: {error}") from None


def _gather(source: EmbeddingTable, train: pa.Table, columns: list[str], read: Read) -> NDArray[np.float32]:
    """Return what `read` makes of rows, in the order of `train`; the table is gone through once."""
    keys = train["row_key"].combine_chunks()
    found: NDArray[np.float32] | None = None
    waiting: list[pa.RecordBatch] = []

    def take() -> None:
        nonlocal found
        rows = pa.Table.from_batches(waiting)
        waiting.clear()
        places = pc.index_in(rows["row_key"].cast(pa.string()), value_set=keys).combine_chunks()
        rows = rows.filter(places.is_valid())
        if not rows.num_rows:
            return
        values = read(rows)
        if found is None:
            found = np.empty((len(keys), *values.shape[1:]), dtype=np.float32)
        if values.shape[1:] != found.shape[1:]:
            raise _differ(source.label, {found.shape[-1], values.shape[-1]})
        found[places.drop_null().to_numpy()] = values

    for batch in iter_batches(source.table, source.manifest.version, ["row_key", *columns]):
        waiting.append(batch)
        if sum(one.nbytes for one in waiting) >= GATHERED_BYTES:
            take()
    if waiting:
        take()
    assert found is not None
    return found


def vectors_of(column: pa.ChunkedArray, label: str) -> NDArray[np.float32]:
    """Return a column of vectors as a matrix.

    Raises
    ------
    AdjustmentError
        If they differ in length.
    """
    lengths = set(pc.unique(pc.list_value_length(column)).to_pylist())
    if len(lengths) != 1:
        raise _differ(label, lengths)
    flat = column.combine_chunks().flatten()
    return np.asarray(flat.to_numpy(zero_copy_only=False), dtype=np.float32).reshape(len(column), -1)


def latents_of(rows: pa.Table, label: str) -> NDArray[np.float32]:
    """Return regions' latents of rows, shape (n, n_rois, d); d is the length of the embeddings, which are their means.

    Raises
    ------
    AdjustmentError
        If a row has none, or they differ in shape.
    """
    if rows[LATENTS].null_count:
        keys = rows["row_key"].filter(pc.is_null(rows[LATENTS])).slice(0, N_NAMED).to_pylist()
        raise AdjustmentError(
            f"rows of {label} have no latents of regions to pool (first {', '.join(keys)}); embed again with a "
            "strategy that has keep_roi_latents: true"
        )
    n_dims, flat = vectors_of(rows["embedding"], label).shape[1], vectors_of(rows[LATENTS], label)
    if flat.shape[1] % n_dims:
        raise AdjustmentError(
            f"regions' latents of {label} hold {flat.shape[1]} values, which is no number of vectors of {n_dims}; "
            "embed it again"
        )
    return flat.reshape(len(flat), -1, n_dims)


def _differ(label: str, lengths: set[int]) -> AdjustmentError:
    told = ", ".join(map(str, sorted(lengths)))
    return AdjustmentError(f"the vectors of {label} have different lengths ({told}); embed it again")

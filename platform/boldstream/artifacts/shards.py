"""Parquet shards: files that workers write whole, under names that follow from what is in them."""

import hashlib
from io import BytesIO

import pyarrow as pa
import pyarrow.parquet as pq

from boldstream.storage import publish_bytes

ROW_GROUP_SIZE = 16


def content_name(rows: pa.Table) -> str:
    """Return the file name of a shard that follows from all values in it.

    Two runs that write the same keys with vectors that differ in the last bit write two files: a file that is committed
    is never written over with another content.
    """
    whole = rows.replace_schema_metadata().combine_chunks()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, whole.schema) as stream:
        stream.write_table(whole)
    return f"{hashlib.sha256(sink.getvalue()).hexdigest()[:24]}.parquet"


def write_shard(table_uri: str, name: str, rows: pa.Table) -> str:
    """Write one Parquet file below a table, all or nothing, and return its URI.

    Float lists are written without a dictionary: every value is its own, so one would only cost time.
    """
    flat = [field.name for field in rows.schema if pa.types.is_string(field.type)]
    buffer = BytesIO()
    pq.write_table(rows, buffer, compression="zstd", use_dictionary=flat, row_group_size=ROW_GROUP_SIZE)
    uri = f"{table_uri}/data/{name}"
    publish_bytes(uri, buffer.getvalue())
    return uri

"""Parquet shards: files that workers write whole, under names that follow from what is in them."""

from collections.abc import Sequence
from io import BytesIO

import pyarrow as pa
import pyarrow.parquet as pq

from boldstream.config import digest_json
from boldstream.storage import publish_bytes

ROW_GROUP_SIZE = 16


def shard_name(keys: Sequence[str], identity: str) -> str:
    """Return the file name of a shard: the same rows of the same run always get the same name."""
    return f"{digest_json([identity, list(keys)])[:24]}.parquet"


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

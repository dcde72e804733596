"""The Parquet files of a table version: what the catalog says of each, whether it is so, and how Ray reads them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from boldstream.errors import first_line
from boldstream.storage import filesystem

if TYPE_CHECKING:
    import ray.data


@dataclass(frozen=True)
class DataFile:
    """One Parquet file of a table version."""

    uri: str
    rows: int
    size: int


def read_parquet(files: Sequence[DataFile], columns: Sequence[str]) -> "ray.data.Dataset":
    """Stream columns of a table version's files through Ray Data, each file a block of its own."""
    import ray.data

    fs, _ = filesystem(files[0].uri)
    paths = [filesystem(file.uri)[1] for file in files]
    found = ray.data.read_parquet(paths, filesystem=fs, override_num_blocks=len(paths), file_extensions=None)
    return found.select_columns(list(columns))


def file_problem(file: DataFile) -> str | None:
    """Say what is wrong with one Parquet file, or None."""
    fs, path = filesystem(file.uri)
    info = fs.get_file_info(path)
    if not info.is_file:
        return f"data file {file.uri} is missing"
    if info.size != file.size:
        return f"data file {file.uri} has {info.size} bytes instead of {file.size} (truncated or overwritten)"
    try:
        with fs.open_input_file(path) as stream:
            rows = pq.read_metadata(stream).num_rows
    except (pa.ArrowInvalid, OSError) as error:
        return f"data file {file.uri} is not Parquet ({first_line(error)})"
    return None if rows == file.rows else f"data file {file.uri} has {rows} rows instead of {file.rows}"

"""Vectors of some rows of a table version; the others are streamed past."""

from collections.abc import Collection

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from boldstream.artifacts.versions import iter_batches
from boldstream.tables.find import Version


def read_vectors(version: Version, keys: Collection[str]) -> dict[str, NDArray[np.float32]]:
    """Read the vectors of some rows, by ``row_key``, a batch at a time; keys that are not there are not in it.

    Raises
    ------
    ArtifactError
        If a file of the version is missing or truncated.
    """
    version.table.check_files(version.manifest.version)
    wanted, found = pa.array(sorted(keys), pa.string()), {}
    for batch in iter_batches(version.table, version.manifest.version, ["row_key", "embedding"]):
        rows = batch.filter(pc.is_in(batch["row_key"].cast(pa.string()), value_set=wanted))
        for key, vector in zip(rows["row_key"].to_pylist(), rows["embedding"], strict=True):
            found[key] = np.asarray(vector.values, dtype=np.float32)
    return found

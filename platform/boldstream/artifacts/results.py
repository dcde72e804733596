"""Probe results: what representations tell of targets, as tidy tables, a folder a version."""

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from boldstream.artifacts.folders import (
    FolderKind,
    folder_of,
    folder_versions,
    next_version,
    read_manifest,
)
from boldstream.artifacts.manifest import Manifest, Parent
from boldstream.config import digest_json
from boldstream.errors import ArtifactError, ResultsError, StorageError, first_line
from boldstream.refs import ResultsRef
from boldstream.storage import Warehouse, read_bytes

KIND = FolderKind("results", "results", "made", "make them with jobs/probe.py", ResultsError)
ResultsKind = Literal["probe", "transfer"]

SCORES_SCHEMA = pa.schema(
    [
        *(pa.field(name, pa.string()) for name in ("target", "kind", "representation", "role", "head", "front")),
        pa.field("metric", pa.string()),
        pa.field("primary", pa.bool_()),
        *(pa.field(name, pa.float64()) for name in ("value", "low", "high", "p", "p_adjusted")),
        *(pa.field(name, pa.int64()) for name in ("n_scans", "n_subjects", "n_sites", "n_missing", "n_dims")),
        pa.field("folds_id", pa.string()),
        pa.field("scheme", pa.string()),
    ]
)
"""One row a target x representation x head x metric. ``role`` is ``embedding`` or ``baseline``; ``low`` and ``high``
end the 95 % interval; ``p`` is NaN where nothing was permuted."""

CONTESTS_SCHEMA = pa.schema(
    [
        *(pa.field(name, pa.string()) for name in ("target", "metric", "first", "second", "first_head", "second_head")),
        *(pa.field(name, pa.float64()) for name in ("first_value", "second_value", "difference", "low", "high")),
        pa.field("delong_p", pa.float64()),
        pa.field("verdict", pa.string()),
    ]
)
"""One row a target x metric x pair of representations; ``verdict`` says what the first is: ``better``, ``worse`` or
``not told apart``."""

PREDICTIONS_SCHEMA = pa.schema(
    [
        *(pa.field(name, pa.string()) for name in ("target", "representation", "head", "scan_key", "subject")),
        *(pa.field(name, pa.int64()) for name in ("repeat", "fold")),
        *(pa.field(name, pa.float64()) for name in ("y", "predicted", "null", "probability")),
    ]
)
"""One row a target x representation x head x scan x repeat, each predicted by what was fitted without it."""

SCORES, CONTESTS, PREDICTIONS = "scores", "contests", "predictions"
SCHEMAS = {SCORES: SCORES_SCHEMA, CONTESTS: CONTESTS_SCHEMA, PREDICTIONS: PREDICTIONS_SCHEMA}


@dataclass(frozen=True)
class Results:
    """A version of results opened for reading.

    Attributes
    ----------
    ref : ResultsRef
    manifest : Manifest
        ``kind`` is ``probe`` or ``transfer``; ``content`` holds ``tables`` and ``cohort`` (pointers and digests),
        ``targets``, ``folds``, ``methods``, ``sentences`` (worst news first) and ``headline``.
    tables : dict of str to DataFrame
    """

    ref: ResultsRef
    manifest: Manifest
    tables: dict[str, pd.DataFrame]

    @property
    def label(self) -> str:
        """Short name for messages: ``name@version``."""
        return f"{self.manifest.name}@{self.manifest.version}"

    def scores(self) -> pd.DataFrame:
        """Return the scores, see `SCORES_SCHEMA`."""
        return self.tables[SCORES]

    def contests(self) -> pd.DataFrame:
        """Return the comparisons of representations, see `CONTESTS_SCHEMA`."""
        return self.tables[CONTESTS]

    def predictions(self) -> pd.DataFrame:
        """Return the predictions out of fold, see `PREDICTIONS_SCHEMA`."""
        return self.tables[PREDICTIONS]


def find_results(warehouse: Warehouse, name: str, identity: dict[str, Any]) -> Results | None:
    """Return the newest version of this name if it was made of the same rows, else None.

    Raises
    ------
    OutputExistsError
        If it was made with other settings.
    """
    if not folder_versions(KIND.location(warehouse, name)):
        return None
    newest = open_results(name, warehouse.uri)
    return newest if KIND.check_same(newest.manifest.content["identity"], identity, warehouse, name) else None


def publish_results(
    warehouse: Warehouse,
    name: str,
    kind: ResultsKind,
    tables: Mapping[str, pd.DataFrame],
    *,
    config: dict[str, Any],
    identity: dict[str, Any],
    parents: list[Parent],
    content: dict[str, Any],
    mlflow_run_id: str | None,
) -> Results:
    """Write the next version: the three tables as Parquet, the manifest last.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        ``scores``, ``contests`` and ``predictions``, with the columns of their schemas.
    identity : dict
        What they are of and how they were made; ``rows`` tells the rows.
    content : dict
        What the manifest tells (see `Results`).

    Raises
    ------
    ResultsError
        If a table has not its columns, or another run has published the same version at this moment.
    """
    files = {f"{key}.parquet": _as_parquet(key, tables[key]) for key in SCHEMAS}
    uri = KIND.location(warehouse, name)
    manifest = Manifest.create(
        kind=kind,
        name=name,
        version=next_version(uri),
        config=config,
        config_hash=digest_json(identity),
        parents=parents,
        rows=len(tables[SCORES]),
        digest=_digest(files, content),
        mlflow_run_id=mlflow_run_id,
        content={**content, "identity": identity},
    )
    return KIND.publish(uri, files, manifest, lambda pointer: open_results(pointer, warehouse.uri))


def open_results(pointer: str, warehouse: str) -> Results:
    """Open a version of results and check that it is whole.

    Parameters
    ----------
    pointer : str
        ``name`` (the newest), ``name@version``, or the full line that the probe job printed.
    warehouse : str
        Path or URI of the warehouse, for pointers that do not name theirs.

    Raises
    ------
    ResultsError
        If it is not there, or is not what its manifest describes.
    """
    uri, version = KIND.locate(pointer, warehouse)
    folder = folder_of(uri, version)
    try:
        manifest = read_manifest(uri, version)
        files = {f"{key}.parquet": read_bytes(f"{folder}/{key}.parquet") for key in SCHEMAS}
    except (ArtifactError, StorageError) as error:
        raise ResultsError(f"results: {folder} is not whole: {error}; make them again") from None
    content = {key: value for key, value in manifest.content.items() if key != "identity"}
    if _digest(files, content) != manifest.digest:
        raise ResultsError(f"results: {folder} is not what its manifest describes; restore it, or make them again")
    tables = {key: pq.read_table(pa.BufferReader(files[f"{key}.parquet"])).to_pandas() for key in SCHEMAS}
    return Results(ResultsRef(uri, version, manifest.digest), manifest, tables)


def _as_parquet(key: str, frame: pd.DataFrame) -> bytes:
    schema, buffer = SCHEMAS[key], io.BytesIO()
    if differing := sorted(set(frame.columns) ^ set(schema.names)):
        raise ResultsError(f"results: the table of {key} lacks columns or has others: {', '.join(differing)}")
    try:
        # NaN stays NaN: not tested is no missing value
        rows = pa.Table.from_arrays([pa.array(frame[f.name], f.type, from_pandas=False) for f in schema], schema=schema)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise ResultsError(f"results: the table of {key} has a value of another kind: {first_line(error)}") from None
    pq.write_table(rows, buffer)
    return buffer.getvalue()


def _digest(files: Mapping[str, bytes], content: dict[str, Any]) -> str:
    # through JSON, so that tuples are what they are when they are read again
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    return digest_json([sums, json.loads(json.dumps(content))])

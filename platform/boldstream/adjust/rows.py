"""The rows of an embedding table without their vectors: keys, covariates, and who is trained on."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from boldstream.adjust.config import AdjustConfig
from boldstream.analysis.covariates import NUMBERS
from boldstream.analysis.splits import hold_out
from boldstream.analysis.steps import Covariate
from boldstream.artifacts import cohort
from boldstream.artifacts.embeddings import EmbeddingTable
from boldstream.artifacts.keys import read_columns, texts_of
from boldstream.artifacts.tables import VersionedTable
from boldstream.errors import AdjustmentError, CohortError, EmbeddingsError

STATE = ["row_key", "scan_digest", "vector_sha256"]
"""What tells a row of the source table, and which vector it has."""
ALWAYS = ("site", "mean_fd")
"""Covariates that are read in any case: site and motion are looked for in the vectors."""


@dataclass(frozen=True)
class Split:
    """Who is not fitted on.

    Attributes
    ----------
    held_out : list of str
        Subjects.
    told : dict
        Where the split comes from, for identities and manifests.
    """

    held_out: list[str]
    told: dict[str, Any]


def read_rows(table: EmbeddingTable, needs: Sequence[str]) -> pa.Table:
    """Read keys, subject and covariates of all rows, sorted by key; ``file`` tells the place among the table's files.

    Parameters
    ----------
    needs : sequence of str
        Covariates, and what a query is trained for.

    Raises
    ------
    AdjustmentError
        If the table lacks a column that the steps need.
    """
    schema = table.table.schema
    for name in needs:
        if name not in schema.names:
            raise AdjustmentError(
                f"table {table.label} has no column {name!r}, which the recipe needs; add it to participants.tsv and "
                "ingest and embed again, or leave the step out"
            )
    names = list(dict.fromkeys([*STATE, "scan_key", "subject", *needs, *ALWAYS]))
    columns = [schema.field(name) for name in names]
    return read_columns([file.uri for file in table.files], columns, EmbeddingsError).sort_by("row_key")


def covariates_of(rows: pa.Table) -> dict[str, NDArray]:
    """Return the covariates among some columns: numbers with NaN, text with ``""``, and no Python object a row."""
    return {name: as_array(rows[name], name in NUMBERS) for name in get_args(Covariate) if name in rows.column_names}


def as_array(column: pa.ChunkedArray, is_number: bool = False) -> NDArray:
    """Return a column as an array, of float64 or of text."""
    if is_number:
        return np.asarray(column.cast(pa.float64()).to_numpy(), dtype=np.float64)
    coded = column.cast(pa.string()).combine_chunks().dictionary_encode()
    if isinstance(coded, pa.ChunkedArray):
        coded = coded.combine_chunks()
    levels = np.array([*coded.dictionary.to_pylist(), ""], dtype=str)
    return levels[pc.fill_null(coded.indices, len(levels) - 1).to_numpy()]


def find_split(config: AdjustConfig, table: EmbeddingTable, subjects: pa.ChunkedArray) -> Split:
    """Return the subjects that are not fitted on: those of the configuration's own split, or those of the cohort.

    Raises
    ------
    AdjustmentError
        If the cohort's version tells of no split.
    """
    if config.holdout is not None:
        names = sorted(pc.unique(subjects).to_pylist())
        out = sorted(hold_out(names, config.holdout, config.seed))
        return Split(out, {"of": "configuration", "holdout": config.holdout, "seed": config.seed})
    parent = next((one for one in table.manifest.parents if one.role == "cohort"), None)
    problem = f"table {table.label} names no cohort"
    if parent is not None:
        pointer = f"{parent.uri}@{parent.version}"
        found, version = VersionedTable.locate(pointer, cohort.KIND, "", field="cohort", error=CohortError)
        try:
            told = found.manifest(version).content.get("statistics")
        except CohortError as error:
            told, problem = None, str(error)
        else:
            problem = f"cohort {pointer} has no split: an earlier boldstream made it"
        if told is not None:
            return Split(sorted(told["held_out_subjects"]), {"of": "cohort", **told["split"]})
    raise AdjustmentError(f"{problem}; name the share of subjects that are not fitted on, for example holdout: 0.2")


def is_in(column: pa.ChunkedArray, values: Sequence[str]) -> NDArray[np.bool_]:
    """Say of each value of a column whether it is one of some."""
    found: NDArray[np.bool_] = pc.is_in(column, value_set=pa.array(values, pa.string())).to_numpy()
    return found


def digest_rows(rows: pa.Table, columns: Sequence[str] = STATE) -> str:
    """Return the sha256 over columns of rows, a piece at a time."""
    total = hashlib.sha256()
    for texts in texts_of(rows, columns):
        for text in texts.to_pylist():
            total.update(text.encode() + b"\0")
    return total.hexdigest()

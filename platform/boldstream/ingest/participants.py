"""Read the participants and sessions tables: who a scan is of, and what else is known of them."""

import math
import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import pandas as pd
import pyarrow as pa

from boldstream.artifacts.cohort import COVARIATE_FIELDS, FIXED_NAMES
from boldstream.errors import SourceError, StorageError, first_line
from boldstream.ingest.config import IngestConfig, check_t_r
from boldstream.storage import read_bytes

MISSING = frozenset({"", "n/a", "N/A", "NA", "na", "NaN", "nan"})
NUMBERS = ("age", "mean_fd", "t_r")
IDENTIFIERS = {"participant_id": "subject", "session_id": "session"}


@dataclass(frozen=True)
class CovariateTable:
    """A participants or sessions table: known columns and phenotypes by key.

    Attributes
    ----------
    rows : dict of dict
        Values of every row by its key: subject (or `participants_key`), or (subject, session).
    phenotypes : dict of pyarrow.DataType
        Columns that the platform does not know by name.
    """

    rows: dict[Any, dict[str, Any]]
    phenotypes: dict[str, pa.DataType]


def read_participants(config: IngestConfig) -> CovariateTable:
    """Read and type the participants table; an empty one where none is named.

    Raises
    ------
    SourceError
        If it is missing, lacks a named column, names a subject twice, or has text in a number column.
    """
    if config.participants is None:
        return CovariateTable({}, {})
    where = config.participants
    frame = _read_frame(where, "participants")
    known = _known_columns(config)
    _check_columns(frame, [config.participants_key, *known.values()], known, where, "participants")
    frame = frame.rename(columns={theirs: ours for ours, theirs in known.items()})
    keys = [bare(key) for key in frame[config.participants_key]]
    if doubled := [key for key, count in Counter(keys).items() if count > 1]:
        raise SourceError(f"participants: {where} has more than one row for {config.participants_key} {doubled[0]!r}")
    return _typed(frame, keys, where, set(known), "participants")


def read_sessions(config: IngestConfig, subjects: Iterable[str]) -> CovariateTable:
    """Read and type the sessions table, or those of all subjects; an empty one where none is named.

    Raises
    ------
    SourceError
        As `read_participants`.
    """
    if config.sessions is None:
        return CovariateTable({}, {})
    frames = []
    if "{subject}" in config.sessions:
        for subject in sorted(set(subjects)):
            frame = _read_frame(config.sessions.replace("{subject}", subject), "sessions")
            frame["participant_id"] = subject
            frames.append(frame)
    else:
        frames.append(_read_frame(config.sessions, "sessions"))
    frame = pd.concat(frames, ignore_index=True).fillna("")
    known = {ours: theirs for ours, theirs in _known_columns(config).items() if theirs in frame.columns}
    _check_columns(frame, ["participant_id", "session_id"], known, config.sessions, "sessions")
    frame = frame.rename(columns={theirs: ours for ours, theirs in known.items()})
    pairs = zip(frame["participant_id"], frame["session_id"], strict=True)
    keys = [(bare(subject), session.removeprefix("ses-")) for subject, session in pairs]
    if doubled := [key for key, count in Counter(keys).items() if count > 1]:
        raise SourceError(f"sessions: {config.sessions} has more than one row for {' '.join(doubled[0])!r}")
    return _typed(frame, keys, config.sessions, set(known), "sessions")


def _known_columns(config: IngestConfig) -> dict[str, str]:
    return {ours: theirs for ours, theirs in config.columns.model_dump().items() if theirs is not None}


def _read_frame(where: str, field: str) -> pd.DataFrame:
    """Read a table as text."""
    try:
        data = read_bytes(where)
        with warnings.catch_warnings():
            # lines longer than the header would be shifted or cut
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return pd.read_csv(
                BytesIO(data),
                sep="," if where.endswith(".csv") else "\t",
                dtype=str,
                keep_default_na=False,
                index_col=False,
            )
    except StorageError as error:
        raise SourceError(f"{field}: {error}") from None
    except (pd.errors.ParserError, pd.errors.ParserWarning, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise SourceError(f"{field}: {where} is not a table ({first_line(error)})") from None


def _check_columns(frame: pd.DataFrame, needed: list[str], known: dict[str, str], where: str, field: str) -> None:
    """Refuse a table without a named column, or with a column that a renamed one would hide."""
    for column in needed:
        if column not in frame.columns:
            raise SourceError(
                f"{field}: {where} has no column {column!r} (columns: {', '.join(frame.columns)}); name the right "
                "one under columns, or leave it empty"
            )
    for ours, theirs in known.items():
        if ours != theirs and ours in frame.columns and ours not in known.values():
            raise SourceError(
                f"{field}: {where} has a column {ours!r} beside {theirs!r}, which columns.{ours} names; "
                "rename or remove one of them"
            )


def _typed(frame: pd.DataFrame, keys: list[Any], where: str, known: set[str], field: str) -> CovariateTable:
    """Turn text columns into numbers where all of their values are, and into phenotypes where they are not known."""
    columns: dict[str, list[Any]] = {}
    phenotypes: dict[str, pa.DataType] = {}
    for name in frame.columns:
        texts = [None if text.strip() in MISSING else text.strip() for text in frame[name]]
        if name in IDENTIFIERS and (name == "participant_id" or field == "sessions"):
            columns[IDENTIFIERS[name]] = texts
            continue
        if name not in known and name in FIXED_NAMES - {column.name for column in COVARIATE_FIELDS}:
            raise SourceError(f"{field}: column {name!r} of {where} has the name of a cohort column; rename it")
        numbers = [_number(text) for text in texts]
        numeric = all(number is not None or text is None for number, text in zip(numbers, texts, strict=True))
        if name in known and name in NUMBERS:
            _refuse_text(name, texts, numbers, keys, f"{field}: {where}")
        columns[name] = numbers if (name in NUMBERS if name in known else numeric) else texts
        if name not in known:
            phenotypes[name] = pa.float64() if numeric else pa.string()
    rows = {key: {name: values[i] for name, values in columns.items()} for i, key in enumerate(keys)}
    return CovariateTable(rows, phenotypes)


def _refuse_text(name: str, texts: list[str | None], numbers: list[float | None], keys: list[Any], where: str) -> None:
    """Refuse text, and impossible repetition times, in a column that must hold numbers."""
    for key, text, number in zip(keys, texts, numbers, strict=True):
        if text is not None and number is None:
            raise SourceError(f"{where}, column {name!r}, row {key!r}: {text!r} is not a number")
        if name == "t_r" and number is not None:
            try:
                check_t_r(number, f"{where}, column 't_r', row {key!r}")
            except ValueError as error:
                raise SourceError(str(error)) from None


def _number(text: str | None) -> float | None:
    if text is None or "_" in text:  # Python would read 5_3 as 53
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def bare(key: str) -> str:
    """Return a subject label without its BIDS prefix."""
    return key.removeprefix("sub-")

"""Find the scans and join them with their participants, before anything is read."""

import math
import re
import warnings
from collections import Counter
from dataclasses import asdict, dataclass
from io import BytesIO
from typing import Any

import pandas as pd
import pyarrow as pa

from boldstream.artifacts.cohort import COVARIATE_FIELDS, FIXED_NAMES
from boldstream.errors import ScanError, SourceError, StorageError
from boldstream.ingest.config import IngestConfig, check_t_r
from boldstream.storage import absolute_uri, filesystem, list_files, read_bytes

MISSING = frozenset({"", "n/a", "N/A", "NA", "na", "NaN", "nan"})
ENTITY = re.compile(r"[A-Za-z0-9]+(?:[-_.+][A-Za-z0-9]+)*")
NUMBERS = ("age", "mean_fd", "t_r")


@dataclass(frozen=True)
class ScanPlan:
    """One scan to read: its key, its file and what is known of it."""

    scan_key: str
    source_uri: str
    values: dict[str, Any]
    problem: tuple[str, str] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class Participants:
    """A participants table: known columns and phenotypes by key."""

    rows: dict[str, dict[str, Any]]
    phenotypes: dict[str, pa.DataType]


def plan_scans(config: IngestConfig) -> tuple[list[ScanPlan], dict[str, pa.DataType]]:
    """List all scans of the source, sorted by key, and the types of the phenotype columns.

    A scan without a participants row, or without a usable repetition time, is planned with its problem and goes to
    quarantine.

    Raises
    ------
    SourceError
        If the source or the table is missing, empty or ambiguous.
    """
    found = find_scans(config)
    table = read_participants(config) if config.participants else Participants({}, {})
    plans = []
    for uri, fields in found:
        key = fields["subject"] if config.participants_key == "participant_id" else fields[config.participants_key]
        row = table.rows.get(_bare(key))
        values: dict[str, Any] = {name: fields.get(name) for name in ("subject", "session", "task", "run")}
        values |= row or {}
        values["subject"] = _bare(str(values["subject"] or key))
        problem = None
        if config.participants and row is None:
            problem = (
                "no_participants_row",
                f"{config.participants_key} {key!r} is not in {config.participants}",
            )
        else:
            values["t_r"] = _t_r_of(values, config)
        for name in ("subject", "session", "task", "run"):
            if values[name] is not None and not ENTITY.fullmatch(values[name]):
                raise SourceError(f"{uri}: {name} {values[name]!r} is no BIDS label (letters, digits, single - _ . +)")
        plans.append(ScanPlan(scan_key_of(values), uri, values, problem))
    _refuse_doubles(plans)
    return sorted(plans, key=lambda plan: plan.scan_key), table.phenotypes


def _t_r_of(values: dict[str, Any], config: IngestConfig) -> float | None:
    """Return a scan's repetition time: the table's, its site's, or the cohort's."""
    t_r = values.pop("t_r", None)
    return t_r if t_r is not None else config.t_r_by_site.get(values.get("site") or "", config.t_r)


def scan_key_of(values: dict[str, Any]) -> str:
    """Return the BIDS-like key of a scan, e.g. ``sub-01_ses-2_task-rest_run-1``."""
    names = {"subject": "sub", "session": "ses", "task": "task", "run": "run"}
    return "_".join(f"{short}-{values[name]}" for name, short in names.items() if values.get(name))


def find_scans(config: IngestConfig) -> list[tuple[str, dict[str, str]]]:
    """Return the URI and the template's fields of every file of the source that fits the template."""
    try:
        files = list_files(config.source)
    except StorageError as error:
        raise SourceError(f"source: {error}") from None
    root = absolute_uri(config.source)
    base = filesystem(config.source)[1].rstrip("/")
    pattern = template_pattern(config.files)
    found = []
    for info in files:
        relative = info.path[len(base) :].lstrip("/")
        if match := pattern.fullmatch(relative):
            found.append((f"{root}/{relative}", match.groupdict()))
    if not files:
        raise SourceError(f"source: {config.source} holds no files")
    if not found:
        raise SourceError(
            f"source: none of the {len(files)} files in {config.source} fits {config.files!r} "
            f"(the first is {files[0].path[len(base) :].lstrip('/')!r})"
        )
    return found


def template_pattern(template: str) -> re.Pattern[str]:
    """Return the regular expression of a path template; a field that comes again must be the same again."""
    parts, seen = [], set()
    for piece in re.split(r"(\{\w+\})", template):
        name = piece[1:-1]
        if not re.fullmatch(r"\{\w+\}", piece):
            parts.append(re.escape(piece))
        elif name in seen:
            parts.append(f"(?P={name})")
        else:
            seen.add(name)
            parts.append(f"(?P<{name}>[^/]+?)")
    return re.compile("".join(parts))


def read_participants(config: IngestConfig) -> Participants:
    """Read and type the participants table.

    Raises
    ------
    SourceError
        If it is missing, lacks a named column, names a subject twice, or has text in a number column.
    """
    where = str(config.participants)
    try:
        data = read_bytes(where)
        with warnings.catch_warnings():
            # lines longer than the header would be shifted or cut
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = pd.read_csv(
                BytesIO(data),
                sep="," if where.endswith(".csv") else "\t",
                dtype=str,
                keep_default_na=False,
                index_col=False,
            )
    except StorageError as error:
        raise SourceError(f"participants: {error}") from None
    except (pd.errors.ParserError, pd.errors.ParserWarning, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise SourceError(f"participants: {where} is not a table ({str(error).splitlines()[0]})") from None
    known = {ours: theirs for ours, theirs in config.columns.model_dump().items() if theirs is not None}
    for column in (config.participants_key, *known.values()):
        if column not in frame.columns:
            raise SourceError(
                f"participants: {where} has no column {column!r} (columns: {', '.join(frame.columns)}); name the right "
                "one under columns, or leave it empty"
            )
    for ours, theirs in known.items():
        if ours != theirs and ours in frame.columns and ours not in known.values():
            raise SourceError(
                f"participants: {where} has a column {ours!r} beside {theirs!r}, which columns.{ours} names; "
                "rename or remove one of them"
            )
    frame = frame.rename(columns={theirs: ours for ours, theirs in known.items()})
    keys = frame["participant_id" if config.participants_key == "participant_id" else config.participants_key].map(
        _bare
    )
    if doubled := [key for key, count in Counter(keys).items() if count > 1]:
        raise SourceError(f"participants: {where} has more than one row for {config.participants_key} {doubled[0]!r}")
    return _typed(frame, list(keys), where, set(known))


def _typed(frame: pd.DataFrame, keys: list[str], where: str, known: set[str]) -> Participants:
    """Turn text columns into numbers where all of their values are, and into phenotypes where they are not known."""
    columns: dict[str, list[Any]] = {}
    phenotypes: dict[str, pa.DataType] = {}
    for name in frame.columns:
        texts = [None if text.strip() in MISSING else text.strip() for text in frame[name]]
        if name == "participant_id":
            columns["subject"] = texts
            continue
        if name not in known and name in FIXED_NAMES - {field.name for field in COVARIATE_FIELDS}:
            raise SourceError(f"participants: column {name!r} of {where} has the name of a cohort column; rename it")
        numbers = [_number(text) for text in texts]
        numeric = all(number is not None or text is None for number, text in zip(numbers, texts, strict=True))
        if name in known and name in NUMBERS:
            _refuse_text(name, texts, numbers, keys, where)
        columns[name] = numbers if (name in NUMBERS if name in known else numeric) else texts
        if name not in known:
            phenotypes[name] = pa.float64() if numeric else pa.string()
    rows = {key: {name: values[i] for name, values in columns.items()} for i, key in enumerate(keys)}
    return Participants(rows, phenotypes)


def _refuse_text(name: str, texts: list[str | None], numbers: list[float | None], keys: list[str], where: str) -> None:
    """Refuse text, and impossible repetition times, in a column that must hold numbers."""
    for key, text, number in zip(keys, texts, numbers, strict=True):
        if text is not None and number is None:
            raise SourceError(f"participants: {where}, column {name!r}, row {key!r}: {text!r} is not a number")
        if name == "t_r" and number is not None:
            try:
                check_t_r(number, f"participants: {where}, column 't_r', row {key!r}")
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


def _bare(key: str) -> str:
    """Return a subject label without its BIDS prefix."""
    return key.removeprefix("sub-")


def _refuse_doubles(plans: list[ScanPlan]) -> None:
    seen: dict[str, str] = {}
    for plan in plans:
        if plan.scan_key in seen:
            raise SourceError(
                f"two files make the scan {plan.scan_key!r}: {seen[plan.scan_key]} and {plan.source_uri}; let the "
                "template `files` tell them apart ({session}, {task}, {run}) or take one away"
            )
        seen[plan.scan_key] = plan.source_uri


def problem_of(plan: ScanPlan) -> ScanError | None:
    """Return the error of a scan that was planned with a problem."""
    return ScanError(*plan.problem) if plan.problem else None

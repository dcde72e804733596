"""Join the scans of a source with what is known of them, before anything is read."""

import re
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from boldstream.config import digest_json
from boldstream.errors import ScanError, SourceError, StorageError
from boldstream.ingest.config import IngestConfig
from boldstream.ingest.find import FoundScan, find_scans
from boldstream.ingest.participants import bare, read_participants, read_sessions
from boldstream.ingest.synthetic_people import list_synthetic, synthetic_participants, synthetic_sessions
from boldstream.listing import Listing, list_files
from boldstream.parcellation.bids import LONG_NAMES
from boldstream.pseudonyms import read_salt

ENTITY = re.compile(r"[A-Za-z0-9]+(?:[-_.+][A-Za-z0-9]+)*")
LONGEST_LABEL = 64
ENTITIES = {"subject": "sub", "session": "ses", "task": "task", "run": "run"}
KEY_ENTITIES = {
    "subject": "sub",
    "session": "ses",
    "task": "task",
    "acquisition": "acq",
    "reconstruction": "rec",
    "direction": "dir",
    "run": "run",
    "array": "array",
}
"""What tells scans apart, in BIDS' order; ``array`` is UK Biobank's."""
KNOWN_ENTITIES = KEY_ENTITIES.keys() | set(LONG_NAMES.values())
MAIN_ROLES = ("series", "bold", "cortex")


@dataclass(frozen=True)
class ScanPlan:
    """One scan to read: its key, its files and what is known of it.

    Attributes
    ----------
    scan_key : str
    files : dict of str
        URIs by role, as `FoundScan.files`.
    values : dict
        Entities, covariates and phenotypes.
    problem : tuple of (str, str) or None
        Reason and message of a scan that goes to quarantine unread.
    space : str or None
        Template space that its name tells.
    stamp : str
        Changes with size or time of change of any of its files, and with what is known of it.
    hides : tuple of str
        Names of the person that must not be written down, where ids are hashed.
    alias : str
        Written down instead of the file's URI, where ids are hashed; else empty.
    """

    scan_key: str
    files: dict[str, str]
    values: dict[str, Any]
    problem: tuple[str, str] | None = None
    space: str | None = None
    stamp: str = ""
    hides: tuple[str, ...] = ()
    alias: str = ""

    @property
    def source_uri(self) -> str:
        """URI of the file that holds the scan itself."""
        return next((self.files[role] for role in MAIN_ROLES if role in self.files), next(iter(self.files.values())))

    @property
    def told_uri(self) -> str:
        """What is written down of where the scan is."""
        return self.alias or self.source_uri

    def told(self, message: str) -> str:
        """Return a message as it may be written down: where ids are hashed, without files and without the person."""
        if not self.alias:
            return message
        for uri in self.files.values():
            message = message.replace(uri, self.alias).replace(uri.rpartition("/")[2], self.alias)
        rest = message.replace(self.alias, "")
        return "left out, because it names the subject" if any(name in rest for name in self.hides) else message

    def as_dict(self) -> dict[str, Any]:
        """Return JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class CohortPlan:
    """All scans of a source, and what fits to none of them.

    Attributes
    ----------
    scans : list of ScanPlan
        Sorted by key.
    phenotypes : dict of pyarrow.DataType
        Columns of the tables that the platform does not know by name.
    without_scan : list of str
        Keys of participants (and ``subject session`` of sessions) that have no scan.
    """

    scans: list[ScanPlan]
    phenotypes: dict[str, pa.DataType]
    without_scan: list[str]


def plan_scans(config: IngestConfig) -> CohortPlan:
    """List the source once and join every scan in it with its participant and session.

    A scan that cannot be read, or that a table does not know, is planned with its problem and goes to quarantine.

    Raises
    ------
    SourceError
        If the source or a table is missing, empty or ambiguous.
    """
    if config.subject_ids == "keep":
        return _plan(config, None)
    try:
        return _plan(config, read_salt())
    except SourceError as error:
        from boldstream.ingest.hashing import without_names

        raise without_names(error) from None


def _plan(config: IngestConfig, salt: str | None) -> CohortPlan:
    is_synthetic = config.source.kind == "synthetic"
    if is_synthetic:
        listing, found = Listing("", []), list_synthetic(config.synthetic)
    else:
        listing = _list_source(config)
        found = find_scans(config.source, listing.paths, listing.root)
    participants = synthetic_participants(config.synthetic) if is_synthetic else read_participants(config)
    keyed = [(scan, _participant_key(scan, config)) for scan in found]
    subjects = [participants.rows.get(key, {}).get("subject") or key for _, key in keyed]
    for (scan, _), subject in zip(keyed, subjects, strict=True):
        _check_label("subject", bare(subject), scan)  # before it becomes part of a path
    sessions = synthetic_sessions(config.synthetic) if is_synthetic else read_sessions(config, map(bare, subjects))
    plans, seen_sessions = [], set()
    for (scan, key), subject in zip(keyed, map(bare, subjects), strict=True):
        values: dict[str, Any] = {name: scan.fields.get(name) for name in ENTITIES}
        row = participants.rows.get(key)
        values |= row or {}
        values["subject"] = subject
        session = (subject, values["session"])
        seen_sessions.add(session)
        values |= {name: value for name, value in sessions.rows.get(session, {}).items() if value is not None}
        values["subject"], values["session"] = session
        problem = scan.problem
        if problem is None and config.participants and row is None:
            problem = ("no_participants_row", f"{config.participants_key} {key!r} is not in {config.participants}")
        if problem is None and config.sessions and session not in sessions.rows:
            problem = ("no_sessions_row", f"subject {subject!r}, session {values['session']!r} is not in its sessions")
        values["t_r"] = _t_r_of(values, config)
        entities = scan.fields | {name: values[name] for name in ENTITIES}
        _check_entities(entities, scan)
        stamp = digest_json([_states(scan, listing), values, problem])
        space = scan.fields.get("space")
        hides = (subject, key, *(scan.fields[name] for name in scan.fields.keys() - KNOWN_ENTITIES)) if salt else ()
        plans.append(ScanPlan(scan_key_of(entities), scan.files, values, problem, space, stamp, hides))
    _refuse_doubles(plans)
    without = sorted(participants.rows.keys() - {key for _, key in keyed})
    without += [" ".join(map(str, pair)) for pair in sorted(sessions.rows.keys() - seen_sessions)]
    plans.sort(key=lambda plan: plan.scan_key)
    plan = CohortPlan(plans, participants.phenotypes | sessions.phenotypes, without)
    if salt is None:
        return plan
    from boldstream.ingest.hashing import hash_plan

    return hash_plan(plan, [(participants, config.participants_key), (sessions, None)], listing.root, salt)


def _list_source(config: IngestConfig) -> Listing:
    """List the source's files, in one walk."""
    try:
        listing = list_files(config.source.root)
    except StorageError as error:
        raise SourceError(f"source: {error}") from None
    if not listing.paths:
        raise SourceError(f"source: {config.source.root} holds no files")
    return listing


def _states(scan: FoundScan, listing: Listing) -> list[Any]:
    """Return path, size and time of change of a scan's files, wherever the source is mounted."""
    paths = {role: uri.removeprefix(f"{listing.root}/") for role, uri in sorted(scan.files.items())}
    return [[role, path, listing.state(path)] for role, path in paths.items()]


def _participant_key(scan: FoundScan, config: IngestConfig) -> str:
    """Return the key of a scan in the participants table.

    Raises
    ------
    SourceError
        If the names of the source's files do not give it.
    """
    name = "subject" if config.participants_key == "participant_id" else config.participants_key
    if name not in scan.fields:
        given = ", ".join(sorted(scan.fields))
        raise SourceError(
            f"participants_key: the names of the source's files give no {name!r} (they give {given}); name one of them"
        )
    return bare(scan.fields[name])


def _t_r_of(values: dict[str, Any], config: IngestConfig) -> float | None:
    """Return a scan's repetition time where it does not come from its files: the table's, its site's, the cohort's."""
    t_r = values.pop("t_r", None)
    return t_r if t_r is not None else config.t_r_by_site.get(values.get("site") or "", config.t_r)


def _check_entities(entities: dict[str, Any], scan: FoundScan) -> None:
    """Refuse labels that could not stand in a scan key."""
    for name in KEY_ENTITIES:
        if (label := entities.get(name)) is not None:
            _check_label(name, label, scan)


def _check_label(name: str, label: str, scan: FoundScan) -> None:
    """Refuse a label that could be a path, break a line, or be too long for a file's name."""
    if not ENTITY.fullmatch(label) or len(label) > LONGEST_LABEL:
        uri = next(iter(scan.files.values()))
        shown = label if len(label) <= LONGEST_LABEL else f"{label[:LONGEST_LABEL]}…"
        raise SourceError(
            f"{uri}: {name} {shown!r} is no BIDS label (letters, digits, single - _ . +, at most {LONGEST_LABEL})"
        )


def scan_key_of(entities: dict[str, Any]) -> str:
    """Return the BIDS-like key of a scan, e.g. ``sub-01_ses-2_task-rest_run-1``."""
    return "_".join(f"{short}-{entities[name]}" for name, short in KEY_ENTITIES.items() if entities.get(name))


def _refuse_doubles(plans: list[ScanPlan]) -> None:
    seen: dict[str, str] = {}
    for plan in plans:
        if plan.scan_key in seen:
            raise SourceError(
                f"two files make the scan {plan.scan_key!r}: {seen[plan.scan_key]} and {plan.source_uri}; let their "
                "names tell them apart (subject, session, task, run), choose one (source.space, source.resolution, "
                "source.segmentation) or take one away"
            )
        seen[plan.scan_key] = plan.source_uri


def problem_of(plan: ScanPlan) -> ScanError | None:
    """Return the error of a scan that was planned with a problem."""
    return ScanError(*plan.problem) if plan.problem else None

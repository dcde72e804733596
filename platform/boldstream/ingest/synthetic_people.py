"""Made-up people as the room plans scans: a list of scans that no files hold, and what is planted in them."""

import pyarrow as pa

from boldstream.ingest.find import FoundScan
from boldstream.ingest.participants import CovariateTable
from boldstream.synthesis import SyntheticSpec, draw_person, scan_mean_fd
from boldstream.synthesis.people import TRAITS, Person

TASK = "rest"


def list_synthetic(spec: SyntheticSpec) -> list[FoundScan]:
    """Return all scans; where a file's URI would be stands which seed and scan it is."""
    found = []
    for number, session in _scans(spec):
        subject = Person.label(number)
        fields = {"subject": subject, "session": str(session), "task": TASK}
        uri = f"synthetic:seed-{spec.seed}/sub-{subject}_ses-{session}_task-{TASK}"
        found.append(FoundScan(fields, {"series": uri}))
    return found


def synthetic_participants(spec: SyntheticSpec) -> CovariateTable:
    """Return what is true of everybody, by subject: known columns, and the rest as phenotypes."""
    rows = {}
    for number in range(1, spec.n_subjects + 1):
        person = draw_person(number, spec)
        rows[person.subject] = {
            "subject": person.subject,
            "site": f"site{person.site + 1}",
            "age": person.age,
            "sex": person.sex,
            "family": f"family{person.family}",
            "diagnosis": "case" if person.diagnosis else "control",
            **person.traits,
        }
    phenotypes = {"family": pa.string(), "diagnosis": pa.string(), **dict.fromkeys(TRAITS, pa.float64())}
    return CovariateTable(rows, phenotypes)


def synthetic_sessions(spec: SyntheticSpec) -> CovariateTable:
    """Return the mean FD (mm) of every scan, by subject and session."""
    rows = {}
    for number, session in _scans(spec):
        person = draw_person(number, spec)
        rows[person.subject, str(session)] = {"mean_fd": scan_mean_fd(person, session, spec)}
    return CovariateTable(rows, {})


def _scans(spec: SyntheticSpec) -> list[tuple[int, int]]:
    return [(number, at) for number in range(1, spec.n_subjects + 1) for at in range(1, spec.n_sessions + 1)]

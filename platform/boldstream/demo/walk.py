"""A walk through the rooms: steps, each the command that a person would type, and where everything is at the end."""

import json
import os
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from boldstream.cli import clean_exit, configure_logging, open_door
from boldstream.refs import EmbeddingTableRef, Ref, ResultsRef
from boldstream.tracking import open_experiment


@dataclass(frozen=True)
class Step:
    """One room.

    Attributes
    ----------
    title : str
    job : str
        Name of the room.
    config : str
        Name of its configuration in ``configs/<job>/``.
    overrides : tuple of str
        Further words of the command line.
    """

    title: str
    job: str
    config: str
    overrides: tuple[str, ...] = ()

    @property
    def arguments(self) -> list[str]:
        """Return the words behind the job's name."""
        return ["--config", f"configs/{self.job}/{self.config}.yaml", *self.overrides]


@dataclass(frozen=True)
class Walk:
    """A demo.

    Attributes
    ----------
    about : str
        What it shows, and how long it takes.
    folder : Path
        Where results go, relative to the working directory; the report is in ``report/`` below it.
    scans : str
        Whose scans they are, for the last words.
    prepare : callable
        Puts the scans where the first step reads them.
    steps : callable
        Gives the steps, once the scans are there.
    """

    about: str
    folder: Path
    scans: str
    prepare: Callable[[Path], None]
    steps: Callable[[], tuple[Step, ...]]


def take(walk: Walk) -> None:
    """Take all steps of a walk, and say where everything is.

    What is in its folder already is kept: interrupted, the same command goes on.
    """
    configure_logging()
    started = time.monotonic()
    with clean_exit(f"These are results of an earlier demo; to start afresh: rm -r {walk.folder}"):
        walk.prepare(walk.folder)
        os.environ.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{walk.folder}/mlflow.db")
        steps = walk.steps()
        refs = [_take_step(f"{i}/{len(steps)}", step) for i, step in enumerate(steps, 1)]
    _print_summary(walk, refs, time.monotonic() - started)


def _take_step(place: str, step: Step) -> Ref:
    """Run one room, showing the command that does the same."""
    print(f"\n[{place}] {step.title}\n$ python jobs/{step.job}.py {shlex.join(step.arguments)}", flush=True)
    started = time.monotonic()
    ref = open_door(step.job, step.arguments)
    assert ref is not None
    print(f"{ref}\n({time.monotonic() - started:.1f} s)", flush=True)
    return ref


def _print_summary(walk: Walk, refs: list[Ref], seconds: float) -> None:
    """Say what came out and where it is."""
    numbers = json.loads((walk.folder / "report" / "numbers.json").read_text())
    mlflow = Path(sys.executable).with_name("mlflow")
    print(f"\n{numbers['headline']}\n")
    print(f"Done in {seconds:.0f} s. {walk.scans}")
    for title, kind in (("tables ", EmbeddingTableRef), ("results", ResultsRef)):
        if pointers := [ref.pointer for ref in refs if isinstance(ref, kind)]:
            print(f"  {title}  " + "\n           ".join(pointers))
    print(f"  report   {walk.folder / 'report' / 'index.html'}")
    print(f"  MLflow   {_short(mlflow)} ui --backend-store-uri {os.environ['MLFLOW_TRACKING_URI']}")
    print(f"           then open {_experiment_page()}")
    print(f"To start afresh: rm -r {walk.folder}")


def _experiment_page() -> str:
    """Return the address of the experiment in the MLflow UI, in its model-training view (GenAI is its default)."""
    return f"http://127.0.0.1:5000/#/experiments/{open_experiment()}/runs?workflowType=machine_learning"


def _short(path: Path) -> Path:
    """Return a path relative to the working directory where it is below it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path

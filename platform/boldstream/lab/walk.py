"""The lab's first jobs, from made-up scans to a promoted table, each submitted as a person would."""

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

from boldstream.errors import LabError
from boldstream.lab.server import Lab
from boldstream.lab.services import ANSWER_S
from boldstream.remote.answer import ask

EARLIER_SCANS = 32
"""Of the forty people of configs/ingest/lab.yaml, those who have come before the night."""
STOP_S = 60.0


@dataclass(frozen=True)
class Step:
    """A job that is submitted.

    Attributes
    ----------
    title : str
    job : str
        Its configuration is ``configs/<job>/lab.yaml``.
    options : sequence of str
        Of the job.
    """

    title: str
    job: str
    options: Sequence[str] = ()


STEPS = (
    Step(
        f"Make up {EARLIER_SCANS} people and ingest their scans",
        "ingest",
        ["--synthetic.n-subjects", str(EARLIER_SCANS)],
    ),
    Step("Compute the cohort's functional gradient", "gradients"),
    Step("Pretrain Brain-JEPA for twenty steps on two workers", "pretrain"),
    Step("Embed the cohort", "embed"),
    Step("The night: eight more scans have come", "nightly"),
)


@dataclass(frozen=True)
class Done:
    """What became of a step.

    Attributes
    ----------
    seconds : float
    made : str
        The reference that the job has printed last.
    """

    step: Step
    seconds: float
    made: str


def walk(lab: Lab) -> list[Done]:
    """Submit all jobs, one after another; those that an earlier start has done are left out.

    Raises
    ------
    LabError
        If one does not succeed.
    """
    book = lab.layout.folder / "done.json"
    before = json.loads(book.read_text()) if book.is_file() else []
    done = []
    for number, step in enumerate(STEPS, 1):
        if step.job in before:
            lab.tell(f"\n[{number}/{len(STEPS)}] {step.title}: done before")
            continue
        lab.tell(f"\n[{number}/{len(STEPS)}] {step.title}")
        done.append(submit(lab, step))
        before.append(step.job)
        book.write_text(json.dumps(before))
    return done


def submit(lab: Lab, step: Step, *more: str) -> Done:
    """Submit a job, show its log, and wait for it.

    Raises
    ------
    LabError
        If it does not succeed.
    """
    words = ["submit", step.job, "--config", f"configs/{step.job}/lab.yaml", "--address", lab.layout.dashboard, *more]
    words += ["--", *step.options] if step.options else []
    lab.tell(f"$ boldstream {shlex.join(words)}")
    started = time.monotonic()
    log = lab.layout.logs / f"job-{step.job}.log"
    process = subprocess.Popen(
        [sys.executable, "-m", "boldstream", *words],
        env=lab.layout.of_person(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        with process.stdout as said, log.open("w") as kept:
            last = _show(lab, said, kept)
        status = process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
    if status:
        lab.check()
        raise LabError(f"{step.job} ended with status {status}; its log is {log}")
    return Done(step, time.monotonic() - started, last)


def _show(lab: Lab, said: IO[str], kept: IO[str]) -> str:
    """Show what a job says as it comes, and return the last reference in it."""
    last = ""
    for line in said:
        kept.write(line)
        kept.flush()
        lab.tell(f"    {line.rstrip()}")
        kind, _, uri = line.rstrip().partition(": ")
        if ("://" in uri and kind.isidentifier()) or uri.startswith("models:/"):
            last = line.rstrip()
    return last


def stop_running(lab: Lab) -> None:
    """Stop jobs that still run in good order: they let go of what they hold, such as the night's lease."""
    try:
        answer = ask(f"{lab.layout.dashboard}/api/jobs/", ANSWER_S, lab.layout.headers)
    except OSError:
        return  # nobody is there to be asked
    jobs = json.loads(answer.text) if answer.status == 200 else []
    for job in jobs:
        if job["status"] in ("PENDING", "RUNNING") and job["submission_id"]:
            subprocess.run(
                [
                    sys.executable,
                    "-m",
                    "boldstream",
                    "jobs",
                    "stop",
                    job["submission_id"],
                    "--address",
                    lab.layout.dashboard,
                ],
                env=lab.layout.of_person(),
                timeout=STOP_S,
                check=False,
            )


def table_of(done: Sequence[Done]) -> str:
    """Return what ran, with times."""
    rows = [("JOB", "SECONDS", "MADE"), *((one.step.job, f"{one.seconds:.1f}", one.made) for one in done)]
    wide = [max(len(row[i]) for row in rows) for i in range(2)]
    return "\n".join(f"{job:<{wide[0]}}  {seconds:>{wide[1]}}  {made}" for job, seconds, made in rows)

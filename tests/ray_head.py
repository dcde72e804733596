"""A real Ray cluster of the test's own: `ray start --head` with a token, on free ports, in a folder of its own.

The tests' own Ray and other people's on this machine see nothing of it; it is ended by its process, not by `ray stop`.
"""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from seaweed import free_ports

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
PORTS = (
    "port",
    "dashboard-port",
    "dashboard-agent-listen-port",
    "dashboard-agent-grpc-port",
    "metrics-export-port",
    "ray-client-server-port",
)
CLIENT_VARIABLES = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


class Head:
    """A cluster of one node.

    Parameters
    ----------
    variables : mapping
        Set for the node, as whoever starts a cluster gives it its secrets.
    options : sequence of str
        More options of `ray start`.
    """

    def __init__(self, variables=None, options=()):
        self.folder = Path(tempfile.mkdtemp(prefix="rh-", dir="/tmp"))  # sockets below it: the path has to be short
        self.token_file = self.folder / "token"
        self.token_file.write_text(secrets.token_hex(32))
        ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
        self.address = f"http://127.0.0.1:{ports['dashboard-port']}"
        command = [BIN / "ray", "start", "--head", "--block", f"--temp-dir={self.folder / 'r'}", "--num-cpus=4"]
        command += [f"--{name}={port}" for name, port in ports.items()]
        command += ["--object-store-memory=100000000", "--disable-usage-stats", *options]
        with (self.folder / "log").open("w") as log:
            self.process = subprocess.Popen(
                command,
                env=clean_environment()
                | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.token_file)}
                | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0"}
                | (variables or {}),
                cwd=self.folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self):
        deadline = time.monotonic() + 90
        while not self._listens():
            if self.process.poll() is not None or time.monotonic() > deadline:
                said = (self.folder / "log").read_text()[-3000:]
                self.__exit__()
                raise AssertionError(said)
            time.sleep(0.2)
        return self

    def _listens(self):
        """Say whether the job server is there, which comes up a moment after the port."""
        request = urllib.request.Request(
            f"{self.address}/api/jobs/", headers={"Authorization": f"Bearer {self.token_file.read_text()}"}
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as reply:
                return reply.status == 200
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def __exit__(self, *error):
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)
        shutil.rmtree(self.folder, ignore_errors=True)

    def environment(self, **more):
        """Return the environment of a person who holds the cluster's token."""
        return clean_environment() | {"RAY_AUTH_TOKEN_PATH": str(self.token_file)} | more


def clean_environment():
    """Return this environment without what names a cluster."""
    paths = [str(ROOT / "platform"), *filter(None, [os.environ.get("PYTHONPATH")])]
    known = {name: value for name, value in os.environ.items() if name not in CLIENT_VARIABLES}
    return known | {"PYTHONPATH": os.pathsep.join(paths)}


def boldstream(*words, cwd, env, timeout=120):
    """Run the command, and return how it ended."""
    return subprocess.run(
        [sys.executable, "-m", "boldstream", *map(str, words)],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )

"""A real S3 server for tests: SeaweedFS on free ports of this machine; it can be stopped and started again."""

import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pyarrow.fs as pafs

WEED = Path(sys.executable).with_name("weed")
PORTS = (
    "s3.port",
    "s3.port.grpc",
    "s3.port.iceberg",
    "s3.port.lance",
    "admin.port",
    "admin.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
)
BUCKET = "lab"
KEYS = {"AWS_ACCESS_KEY_ID": "tester", "AWS_SECRET_ACCESS_KEY": "not-a-secret"}


def free_ports(count):
    """Return ports that nobody listened on a moment ago."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for found in sockets:
            found.bind(("127.0.0.1", 0))
        return [found.getsockname()[1] for found in sockets]


class Seaweed:
    """One server with one bucket, `BUCKET`; the same ports and the same folder each time it is started."""

    def __init__(self, folder):
        self.folder, self.log = folder, folder / "log"
        self.ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
        self.process = None

    @property
    def endpoint(self):
        return f"127.0.0.1:{self.ports['s3.port']}"

    def environment(self, endpoint=None):
        """Return the variables that reach the server, or what stands before it at another endpoint."""
        return {**KEYS, "AWS_ENDPOINT_URL": f"http://{endpoint or self.endpoint}", "AWS_REGION": "us-east-1"}

    def filesystem(self):
        """Return a filesystem that goes straight to the server and gives up at once."""
        return pafs.S3FileSystem(
            access_key=KEYS["AWS_ACCESS_KEY_ID"],
            secret_key=KEYS["AWS_SECRET_ACCESS_KEY"],
            endpoint_override=self.endpoint,
            scheme="http",
            region="us-east-1",
            connect_timeout=1,
            retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=1),
            allow_bucket_creation=True,
        )

    def start(self):
        """Start the server and wait until the bucket can be written to."""
        command = [WEED, "mini", f"-dir={self.folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-bucket={BUCKET}"]
        command += [f"-{name}={port}" for name, port in self.ports.items()]
        command += ["-master.telemetry=false", "-webdav=false", "-admin.ui=false"]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(command, env=os.environ | KEYS, stdout=log, stderr=log, cwd=self.folder)
        fs = self.filesystem()
        deadline = time.monotonic() + 60
        while True:
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            try:
                fs.create_dir(BUCKET)
                with fs.open_output_stream(f"{BUCKET}/ready") as stream:
                    stream.write(b"yes")
                return
            except OSError as error:
                assert time.monotonic() < deadline, f"{error}\n{self.log.read_text()[-3000:]}"
                time.sleep(0.2)

    def stop(self):
        """Stop the server, for good or until it is started again."""
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(20)


@contextmanager
def serve(folder):
    """Run a server within the block; gives the environment that reaches it."""
    server = Seaweed(folder)
    server.start()
    try:
        yield server.environment()
    finally:
        server.stop()

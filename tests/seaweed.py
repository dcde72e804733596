"""A real S3 server: SeaweedFS, on free ports of this machine, with one bucket."""

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


def free_ports(count):
    """Return ports that nobody listened on a moment ago."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for found in sockets:
            found.bind(("127.0.0.1", 0))
        return [found.getsockname()[1] for found in sockets]


@contextmanager
def serve(folder):
    """Start a server that keeps its bucket in a folder; gives the environment that reaches it."""
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    keys = {"AWS_ACCESS_KEY_ID": "tester", "AWS_SECRET_ACCESS_KEY": "not-a-secret"}
    command = [WEED, "mini", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-bucket={BUCKET}"]
    command += [f"-{name}={port}" for name, port in ports.items()]
    command += ["-master.telemetry=false", "-webdav=false", "-admin.ui=false"]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, env=os.environ | keys, stdout=log, stderr=log, cwd=folder)
    try:
        endpoint = f"127.0.0.1:{ports['s3.port']}"
        wait_for(server, endpoint, keys, folder / "log")
        yield {**keys, "AWS_ENDPOINT_URL": f"http://{endpoint}", "AWS_REGION": "us-east-1"}
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait(20)


def wait_for(server, endpoint, keys, log):
    """Wait until the bucket can be written to."""
    fs = pafs.S3FileSystem(
        access_key=keys["AWS_ACCESS_KEY_ID"],
        secret_key=keys["AWS_SECRET_ACCESS_KEY"],
        endpoint_override=endpoint,
        scheme="http",
        region="us-east-1",
        connect_timeout=1,
        retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=1),
        allow_bucket_creation=True,
    )
    deadline = time.monotonic() + 60
    while True:
        assert server.poll() is None, log.read_text()[-3000:]
        try:
            fs.create_dir(BUCKET)
            with fs.open_output_stream(f"{BUCKET}/ready") as stream:
                stream.write(b"yes")
            return
        except OSError as error:
            assert time.monotonic() < deadline, f"{error}\n{log.read_text()[-3000:]}"
            time.sleep(0.2)

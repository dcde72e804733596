"""What a local Ray keeps between two operators, and how its workers log."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import ray
from boldstream.cluster import count_cpus

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("cluster")]

RAYS_OWN_IDLE_S = 1.0
N_TASKS = 3


@ray.remote
def process_id(seconds):
    time.sleep(seconds)
    return os.getpid()


def test_local_ray__keeps_its_idle_workers_while_others_hold_its_cpus():
    idle = ray.get([process_id.remote(RAYS_OWN_IDLE_S) for _ in range(N_TASKS)])
    assert len(set(idle)) == N_TASKS
    ray.get(process_id.options(num_cpus=count_cpus()).remote(3 * RAYS_OWN_IDLE_S))
    assert all(Path(f"/proc/{pid}").exists() for pid in idle)


WARN = """
import logging, os, ray
from boldstream import logs
from boldstream.cluster import ClusterConfig, connect

@ray.remote
def warn():
    logging.getLogger("boldstream.embed").warning("a scan failed")

logs.configure()
connect(ClusterConfig(object_store_gb=0.1))
ray.get(warn.remote())
logging.getLogger("boldstream.embed").warning("the driver's own")
print(ray._private.worker.global_worker.node.get_logs_dir_path())
ray.shutdown()
"""


def test_workers__write_json_lines_on_demand():
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment |= {"BOLDSTREAM_LOG": "json"}
    done = subprocess.run([sys.executable, "-c", WARN], env=environment, capture_output=True, text=True, check=True)
    assert [json.loads(line)["message"] for line in done.stderr.splitlines()] == ["the driver's own"]
    files = Path(done.stdout.strip()).glob("worker-*.err")
    lines = [line for file in files for line in file.read_text().splitlines() if "a scan failed" in line]
    (told,) = map(json.loads, lines)
    assert told["levelname"] == "WARNING" and told["task_id"] and told["job_id"]

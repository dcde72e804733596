"""What a local Ray keeps between two operators, and how its workers log."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import ray
from boldstream.cluster import ClusterConfig, await_room, count_cpus
from boldstream.errors import ConfigError

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


def test_await_room__returns_where_there_is_some_and_gives_it_back():
    for _ in range(2):
        await_room(ClusterConfig(wait_minutes=1), [{"CPU": 1.0}] * count_cpus())
    assert not any(group["state"] == "CREATED" for group in ray.util.placement_group_table().values())


def test_await_room__says_what_did_not_come():
    with pytest.raises(ConfigError, match=r"no room for 200 GPU and 2 CPU \(it has \d+ CPU and \d+ GPU\), after \d s"):
        await_room(ClusterConfig(), [{"GPU": 100.0, "CPU": 1.0}] * 2)
    await_room(ClusterConfig(wait_minutes=1), [{"CPU": 1.0}])


NODE = """
import time
from concurrent.futures import ThreadPoolExecutor
from ray.cluster_utils import Cluster
from boldstream.cluster import ClusterConfig, await_room, connect, count_cpus, count_gpus

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
config = ClusterConfig(address=cluster.address, wait_minutes=2)

def wait():
    connect(config)
    yield count_cpus(), count_gpus()
    await_room(config, [{"GPU": 1.0, "CPU": 1.0}])
    yield count_cpus(), count_gpus()

with ThreadPoolExecutor(1) as pool:
    found = pool.submit(list, wait())
    for resources in ({"num_cpus": 2}, {"num_cpus": 1, "num_gpus": 1}):  # Ray starts nodes in the main thread only
        time.sleep(2)
        cluster.add_node(**resources)
    print(found.result())
"""


def test_await_room__waits_for_nodes_that_come_later():
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run([sys.executable, "-c", NODE], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[(2, 0), (3, 1)]"  # Ray says meanwhile what it lacks


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

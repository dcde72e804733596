"""What a local Ray keeps between two operators."""

import os
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

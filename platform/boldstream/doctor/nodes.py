"""The doctor on a cluster: a job that looks at every node, in the environment that jobs have there.

    python -m boldstream.doctor.nodes --warehouse s3://lab/warehouse

`boldstream doctor --address …` submits it and reads its last line.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from boldstream.doctor.clock import judge_clock
from boldstream.doctor.finding import MARK, OK, SKIPPED, WRONG, Finding, to_json
from boldstream.doctor.machine import check_disk, check_gpu, check_python, judge_versions, read_versions
from boldstream.errors import first_line

NODE_S = 60.0


def look(name: str, warehouse: str | None, promised_gpus: int, least_gb: float) -> tuple[list[Finding], dict[str, str]]:
    """Look at the node that this runs on; return what is found and its versions."""
    import ray

    session = Path(ray._private.worker.global_worker.node.get_session_dir_path())
    found = [check_python(name), check_disk(name, session, "Ray's session", least_gb), check_gpu(name, promised_gpus)]
    found += check_services(name, warehouse, on_cluster=True)
    return found, read_versions()


def check_services(where: str, warehouse: str | None, *, on_cluster: bool) -> list[Finding]:
    """Check MLflow, and storage of a warehouse."""
    from boldstream.doctor.storage import check_storage
    from boldstream.doctor.tracking import check_tracking

    found = check_tracking(where, on_cluster=on_cluster)
    if warehouse:
        return found + check_storage(where, warehouse)
    return [*found, Finding("storage", where, SKIPPED, "no warehouse is named", "name yours with --warehouse")]


def tell_time() -> float:
    """Return this node's Unix time."""
    return time.time()


def look_at_nodes(warehouse: str | None, least_gb: float) -> list[Finding]:
    """Look at every node of the connected cluster, all at once, and at the catalog from this one."""
    from ray.exceptions import RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    import ray
    from boldstream.doctor.catalog import check_catalog

    nodes = [node for node in ray.nodes() if node["Alive"]]
    looks = {}
    for number, node in enumerate(nodes, 1):
        name = f"{node['NodeManagerAddress']}/{number}"
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        options: dict[str, Any] = {"num_cpus": 0, "scheduling_strategy": there, "max_retries": 0}
        task = ray.remote(look).options(**options)
        gpus = int(node["Resources"].get("GPU", 0))
        looks[name] = task.remote(name, warehouse, gpus, least_gb), ray.remote(tell_time).options(**options)
    found, ours = [], read_versions()
    for name, (looking, clock) in looks.items():
        try:
            seen, versions = ray.get(looking, timeout=NODE_S)
            sent = time.time()
            told = ray.get(clock.remote(), timeout=NODE_S)
            found += [_node_clock(name, told, sent, time.time()), judge_versions(versions, name, ours)]
            found += seen
        except RayError as error:
            mend = "look at the node in the dashboard, and at its logs in /tmp/ray/session_latest/logs"
            found.append(Finding("ray", name, WRONG, f"the node does not answer: {first_line(error)}", mend))
    if warehouse:
        found.append(check_catalog("head", warehouse))
    count = f"{len(nodes)} nodes, {ray.cluster_resources().get('CPU', 0):g} CPUs"
    return [Finding("nodes", "head", OK, count), *found]


def _node_clock(name: str, told: float, sent: float, received: float) -> Finding:
    from boldstream.remote.answer import skew_of

    return judge_clock("the node's clock", name, skew_of(told, sent, received))


def main() -> None:
    """Look at all nodes and print the findings in one line."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--warehouse")
    parser.add_argument("--min-free-gb", type=float, required=True)
    told = parser.parse_args()
    import ray

    ray.init(logging_level="WARNING", log_to_driver=False)
    sys.stdout.write(f"{MARK}{to_json(look_at_nodes(told.warehouse, told.min_free_gb))}\n")


if __name__ == "__main__":
    main()

"""The faults, and what one of them does to one run."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from boldstream.artifacts.embeddings import embedding_tables
from boldstream.storage import Warehouse
from faults.lab import N_SCANS, NODE, ROOT
from synthetic import ingest_config

GONE_S = 20
NO_SPACE = re.compile("No space left on device|disk is full")


@dataclass(frozen=True)
class Survival:
    """How a run came through: `alone` if the first command ended well, and not only the second."""

    fault: str
    seed: int
    alone: bool
    problems: str
    seconds: float


@dataclass(frozen=True)
class Fault:
    """One kind of fault.

    Attributes
    ----------
    told : str
        What happens, for the table.
    strike : callable or None
        Called with the lab, the running job and the seed's random numbers, at a random moment of the run.
    mode : str
        What the proxy does from the first request to the last.
    status : set
        How the first command may end.
    """

    told: str
    strike: Callable | None = None
    mode: str = "pass"
    status: frozenset = frozenset({0})


def kill_one(*words):
    """Return a strike that kills one process that does such work, as soon as there is one."""

    def strike(lab, job, chance):
        while job.process.poll() is None:
            if found := lab.workers(*words):
                os.kill(chance.choice(sorted(found)), signal.SIGKILL)
                return
            time.sleep(0.005)

    return strike


def kill_node(lab, job, chance):
    """Kill a node with all that is on it, and let another one come, as an autoscaler would."""
    node = chance.choice(sorted(lab.cluster.worker_nodes, key=lambda node: node.unique_id))
    lab.cluster.remove_node(node, allow_graceful=False)
    lab.cluster.add_node(**NODE)


def stop_s3(lab, job, chance):
    lab.server.stop()
    time.sleep(GONE_S)
    lab.server.start()


FAULTS = {
    "actor": Fault("encoder actor killed (-9)", kill_one("BrainEncoder")),
    "worker": Fault("reading or writing worker killed (-9)", kill_one("read_scans", "write_rows")),
    "node": Fault("one of two nodes killed, a new one joins", kill_node),
    "driver": Fault(
        "driver killed (-9)", lambda lab, job, chance: job.process.kill(), status=frozenset({-signal.SIGKILL})
    ),
    "interrupt": Fault(
        "Ctrl-C", lambda lab, job, chance: job.process.send_signal(signal.SIGINT), status=frozenset({130})
    ),
    "s3-gone": Fault(f"S3 server stopped for {GONE_S} s", stop_s3),
    "s3-errors": Fault("10 % of S3 requests end in 500, 503 or a reset", mode="errors"),
    "s3-slow": Fault("S3 reads at 32 kB/s", mode="slow"),
    "s3-stall": Fault("2 % of S3 answers hang for 5 s", mode="stall"),
}
DISK = "disk-full"
DISK_TOLD = "warehouse's disk full, space made, same command"


def suffer(lab, name, seed, *attempts):
    """Make a table under faults, compare it with the whole one.

    Parameters
    ----------
    name : str
        Of the table, with the seed: what the random moments follow from.
    attempts : tuple of str
        Faults of the first command, of the same command given again, and so on; none: the one called `name`. If the
        last does not end well, the command is given once more without any.
    """
    if name == DISK:
        return fill_disk(lab, seed)
    output, chance = f"{name}-{seed}", random.Random(f"{name} {seed}")
    survival = Survival(name, seed, alone=True, problems="", seconds=0.0)
    plan = attempts or [(name,)]
    for number, faults in enumerate([*plan, ()], 1):
        job = attempt(lab, output, [FAULTS[one] for one in faults], chance)
        status = job.wait()
        allowed = {0}.union(*(FAULTS[one].status for one in faults))
        problems = "" if status in allowed else f"status {status}: {job.last_line()}"
        survival = replace(
            survival,
            alone=survival.alone and status == 0,
            problems="; ".join(filter(None, [survival.problems, problems])),
            seconds=survival.seconds + job.seconds,
        )
        if status == 0 and number >= len(plan):
            break
    return judged(lab, survival, status)


def attempt(lab, output, faults, chance):
    """Give the command once, and strike at random moments: after so many new files of vectors."""
    there = lab.shards(output)
    moments = sorted(there + chance.randint(1, max(1, int(0.6 * (N_SCANS - there)))) for _ in faults)
    lab.proxy.mode = next((fault.mode for fault in faults if fault.mode != "pass"), "pass")
    try:
        job = lab.embed(output)
        for fault, moment in zip(faults, moments, strict=True):
            while fault.strike and lab.shards(output) < moment and job.process.poll() is None:
                time.sleep(0.01)
            if fault.strike:
                fault.strike(lab, job, chance)
        job.wait()
    finally:
        lab.proxy.mode = "pass"
    return job


def judged(lab, survival, status, warehouse=None):
    """Add to what went wrong how the table differs from the whole one, where there is a table."""
    if status != 0:
        return survival
    problems = lab.compare(f"{survival.fault}-{survival.seed}", warehouse).problems
    return replace(survival, problems="; ".join(filter(None, [survival.problems, problems])))


# ---- a full disk -------------------------------------------------------------------------------------------------


class Disk:
    """A small disk in memory with the cohort on it, whose size can be changed while it is used (Linux, as root)."""

    def __init__(self, lab):
        self.path = lab.folder / "disk"
        self.path.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "boldstream", self.path], check=True)
        lab.exit.callback(subprocess.run, ["umount", "--lazy", self.path], check=True)
        config = lab.folder / "on_disk.yaml"
        values = ingest_config(lab.folder, shard_size=1, warehouse=str(self.path))
        config.write_text(yaml.safe_dump(values.model_dump(mode="json")))
        self.environment = lab.environment()
        del self.environment["BOLDSTREAM_CATALOG_URI"]  # the catalog is on the disk too
        command = [sys.executable, ROOT / "jobs" / "ingest.py", "--config", config]
        subprocess.run(command, env=self.environment, cwd=lab.folder, check=True, capture_output=True)

    def resize(self, size):
        subprocess.run(["mount", "-o", f"remount,size={size}", self.path], check=True)

    @property
    def used(self):
        found = os.statvfs(self.path)
        return (found.f_blocks - found.f_bfree) * found.f_frsize


def can_mount():
    """Say whether this process may mount a disk."""
    return os.geteuid() == 0 and int(_capabilities(), 16) >> 21 & 1 == 1


def _capabilities():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith("CapEff:"))


def fill_disk(lab, seed):
    """Let a warehouse's disk run full in the middle, then make space and give the same command again."""
    chance, output = random.Random(f"{DISK} {seed}"), f"{DISK}-{seed}"
    if lab.disk is None:
        lab.disk = Disk(lab)
    disk = lab.disk
    # The vectors' files alone need 4 kB each: with less room the run cannot end.
    disk.resize(disk.used + 4096 * chance.randint(5, int(0.8 * N_SCANS)))
    try:
        first = lab.embed(output, disk.environment, warehouse=str(disk.path))
        status = first.wait()
        problems = [] if status == 2 else [f"status {status} instead of 2"]
        problems += [*_told_cleanly(first, disk), *_half_written(lab, output, disk)]
    finally:
        disk.resize("64m")
    second = lab.embed(output, disk.environment, warehouse=str(disk.path))
    if (ended := second.wait()) != 0:
        problems.append(f"again: status {ended}: {second.last_line()}")
    survival = Survival(DISK, seed, False, "; ".join(problems), first.seconds + second.seconds)
    warehouse = Warehouse.at(str(disk.path))
    try:
        return judged(lab, survival, ended, warehouse)
    finally:
        warehouse.catalog.close()


def _told_cleanly(job, disk):
    """The run's last words are one line that says where there is no space, and what to do."""
    text, line = job.log.read_text(), job.last_line()
    if "Traceback" in text:
        yield "a traceback"
    if not line.startswith("StorageError: ") or str(disk.path) not in line or not NO_SPACE.search(line):
        yield f"said {line!r}"


def _half_written(lab, output, disk):
    """What the stopped run has committed is whole, and no version of it is published."""
    warehouse = Warehouse.at(str(disk.path))
    table, _ = embedding_tables(warehouse, output)
    if table.exists:
        rows = table.column(["row_key", "vector_sha256"]).to_pylist()
        keys = [row["row_key"] for row in rows]
        wrong = [row["row_key"] for row in rows if lab.whole.get(row["row_key"]) != row["vector_sha256"]]
        if table.versions or wrong or len(keys) != len(set(keys)):
            yield f"half written: versions {table.versions}, {len(wrong)} wrong of {len(keys)}"
    warehouse.catalog.close()

"""A small cluster, a small study on a real S3 server, and its table as a run makes it that nothing interrupts."""

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow.fs as pafs
import yaml

from boldstream.artifacts.embeddings import embedding_tables, failures_table
from boldstream.storage import Warehouse
from faults.proxy import Proxy
from seaweed import BUCKET, Seaweed
from synthetic import ingest_config, write_study

ROOT = Path(__file__).parents[2]
N_SCANS = 60
WAREHOUSE = f"s3://{BUCKET}/warehouse"
LONGEST_S = 300
NODE = {"num_cpus": 3, "object_store_memory": 100 * 2**20}

PREPARE = """
import sys
from boldstream.gradients import GradientConfig, fit_gradient
from boldstream.ingest import IngestConfig, ingest_cohort
from boldstream.pretrain import PretrainConfig, pretrain

for door, config_class in (
    (ingest_cohort, IngestConfig), (fit_gradient, GradientConfig), (pretrain, PretrainConfig)
):
    print(door(config_class.from_yaml(f"{sys.argv[1]}/{door.__name__}.yaml")))
"""


@dataclass(frozen=True)
class Found:
    """What a table holds, beside what it should."""

    lost: int
    doubled: int
    changed: int
    set_aside: int
    digest: str | None

    @property
    def problems(self):
        counted = {name: value for name, value in vars(self).items() if name != "digest" and value}
        return ", ".join(f"{value} {name}" for name, value in counted.items())


class Job:
    """One embed command as a process of its own."""

    def __init__(self, config, env, log):
        self.log, self.started, self.ended = log, time.monotonic(), None
        with log.open("w") as out:
            self.process = subprocess.Popen(
                [sys.executable, ROOT / "jobs" / "embed.py", "--config", config],
                cwd=config.parent,
                env=env,
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def wait(self):
        """Return the exit status, or "timeout"."""
        try:
            return self.process.wait(LONGEST_S)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)  # its log then tells where each thread hangs
            self.process.wait(30)
            return "timeout"
        finally:
            self.ended = self.ended or time.monotonic()

    @property
    def seconds(self):
        return (self.ended or time.monotonic()) - self.started

    def last_line(self):
        """Return the command's last line; Ray's raylets may have the last word."""
        lines = [line for line in self.log.read_text().strip().splitlines() if "(raylet)" not in line]
        return lines[-1] if lines else ""

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(30)


class Lab:
    """A context: enter it, and all is running and the whole table is made.

    Attributes
    ----------
    whole : dict
        Key and vector hash of every row of the uninterrupted run.
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        self.exit = contextlib.ExitStack()
        self.number = 0
        self.disk = None

    def __enter__(self):
        with self.exit as stack:
            self.server = Seaweed(_made(self.folder / "seaweed"))
            stack.callback(lambda: self.server.stop())
            self.server.start()
            self.proxy = Proxy("127.0.0.1", self.server.ports["s3.port"])
            stack.callback(self.proxy.close)
            tracking = {"MLFLOW_TRACKING_URI": f"sqlite:///{self.folder}/mlflow.db", "PYTHONPATH": _python_path()}
            tracking["PYTHONFAULTHANDLER"] = "1"
            tracking["RAY_worker_niceness"] = "0"  # beside whatever else this machine does, the lab is to end in time
            # BOLDSTREAM_CATALOG_URI is for the jobs alone: the disk's own warehouse has its catalog beside it
            self.s3_catalog = {"BOLDSTREAM_CATALOG_URI": f"sqlite:///{self.folder}/catalog.db"}
            stack.enter_context(_environment(self.server.environment(self.proxy.endpoint) | tracking))
            stack.callback(lambda: self.cluster.shutdown())
            self.cluster = _cluster()
            self._prepare()
            with _environment(self.s3_catalog):
                self.warehouse = Warehouse.at(WAREHOUSE)
                stack.callback(self.warehouse.catalog.close)
            self._make_whole()
            self.exit = stack.pop_all()  # all went well: it is closed when the lab is left
        return self

    def __exit__(self, *error):
        self.exit.close()

    def _prepare(self):
        write_study(self.folder, [f"{i:03d}" for i in range(N_SCANS)], n_timepoints=200)
        ingest = ingest_config(self.folder, shard_size=1, warehouse=WAREHOUSE).model_dump(mode="json")
        common = {"cohort": "study", "warehouse": WAREHOUSE}
        sizes = {"size": "tiny", "n_timepoints": 32, "patch_size": 8, "scaling": "zscore", "steps": 0, "holdout": 0}
        configs = {
            "ingest_cohort": ingest,
            "fit_gradient": common | {"output": "g", "n_components": 3},
            "pretrain": common | {"output": "toy", "gradient": "g", **sizes},
            "toy_v1": {"id": "toy_v1", "window": {"length": 32, "stride": 14}},
        }
        for name, values in configs.items():
            (self.folder / f"{name}.yaml").write_text(yaml.safe_dump(values))
        found = subprocess.run(
            [sys.executable, "-c", PREPARE, self.folder],
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert found.returncode == 0, found.stderr[-4000:]

    def _make_whole(self):
        job = self.embed("whole")
        status = job.wait()
        assert status == 0, job.log.read_text()[-4000:]
        self.seconds = job.seconds
        self.whole, self.digest = {}, None
        rows, digest, aside = self._rows("whole", self.warehouse)
        self.whole, self.digest = dict(rows), digest
        assert (len(rows), aside) == (N_SCANS, 0)

    def environment(self, **more):
        return os.environ | self.s3_catalog | {"RAY_ADDRESS": self.cluster.address, "OMP_NUM_THREADS": "1"} | more

    def embed(self, output, env=None, **values):
        """Start the command that makes a table."""
        self.number += 1
        config = self.folder / f"{output}.yaml"
        # a window a forward pass and a scan a shard: the vectors are the same to the bit, however the run is cut
        known = {
            "output": output,
            "cohort": "study",
            "model": "models:/toy/1",
            "strategy": f"{self.folder}/toy_v1.yaml",
        }
        config.write_text(yaml.safe_dump(known | {"warehouse": WAREHOUSE, "batch_size": 1} | values))
        log = _made(self.folder / "logs") / f"{self.number:03d}-{output}.txt"
        job = Job(config, env or self.environment(), log)
        self.exit.callback(job.end)
        return job

    def logs(self, output):
        """Return the ends of what the commands that made a table have said."""
        found = sorted((self.folder / "logs").glob(f"*-{output}.txt"))
        return "\n".join(f"{log.name}:\n{log.read_text()[-6000:]}" for log in found)

    def shards(self, output):
        """Return how many files of vectors the workers have written so far, asking the server itself."""
        folder = pafs.FileSelector(f"{BUCKET}/warehouse/embeddings/{output}/data", allow_not_found=True)
        return len(self.server.filesystem().get_file_info(folder))

    def _rows(self, output, warehouse):
        """Return key and hash of the newest version's rows, its digest, and how many rows were set aside."""
        table, quarantine = embedding_tables(warehouse, output)
        failures = failures_table(warehouse, output)
        aside = sum(found.column(["scan_key"]).num_rows for found in (quarantine, failures))
        newest = table.iceberg.snapshot_by_name(f"v{table.newest()}")
        found = table.iceberg.scan(snapshot_id=newest.snapshot_id).to_arrow()
        hashes = [hashlib.sha256(vector.tobytes()).hexdigest() for vector in _vectors(found)]
        return list(zip(found["row_key"].to_pylist(), hashes, strict=True)), table.manifest().digest, aside

    def compare(self, output, warehouse=None):
        """Compare a table with the whole one: every row, by its key and the hash of its vector."""
        rows, digest, aside = self._rows(output, warehouse or self.warehouse)
        keys = [key for key, _ in rows]
        changed = sum(self.whole.get(key, found) != found for key, found in rows) + (digest != self.digest)
        lost = len(self.whole.keys() - set(keys))
        return Found(lost, len(keys) - len(set(keys)), changed, aside, digest)

    def workers(self, *words):
        """Return process ids of Ray's workers whose title has one of the words, with the node of each."""
        owners = {node.all_processes["raylet"][0].process.pid: node for node in self.cluster.worker_nodes}
        found = {}
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
                title = (path / "cmdline").read_text()
                if parent in owners and any(word in title for word in words):
                    found[int(path.name)] = owners[parent]
        return found


def _cluster():
    from ray.cluster_utils import Cluster

    # as on KubeRay: the head computes nothing, so that a node that is lost always takes work with it
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "object_store_memory": 100 * 2**20, "include_dashboard": False},
    )
    for _ in range(2):
        cluster.add_node(**NODE)
    return cluster


def _vectors(table):
    return [vector.values.to_numpy() for vector in table["embedding"].combine_chunks()]


def _made(folder):
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _python_path():
    return os.pathsep.join(filter(None, [str(ROOT / "platform"), os.environ.get("PYTHONPATH")]))


@contextlib.contextmanager
def _environment(values):
    """Set variables of this process, and so of the cluster's, for a while."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

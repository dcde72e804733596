"""What Ray costs: scans/s of the embed room against a bare loop over the same encoder and the same files.

    python tests/benchmarks/embed_overhead.py [--quick] [--only 5ms|50ms|small] [--on disk|s3]

2,000 scans of 450 regions x 160 timepoints, on local disk and on S3 (SeaweedFS on this machine). The encoder takes 5 or
50 ms a scan and leaves the CPU alone meanwhile, as a GPU does; the real ViT-S runs on some of the scans, on all cores.
The bare loop is one process with as many threads: read a Parquet file, cut windows, encode 16 at a time, average, write
Parquet. Both read and write the same bytes. The room's fixed start-up (MLflow run, catalog, actor, weights) is measured
on a cohort of two scans and told apart: `steady` is the speed of the scans beyond those two.
"""

import argparse
import json
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

sys.path.insert(1, str(Path(__file__).parent.parent))

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml
from random_cohort import write_cohort
from untrained_model import register, write_model

import ray
from boldstream.artifacts.cohort import iter_timeseries, open_cohort
from boldstream.cluster import ClusterConfig, connect
from boldstream.embed import EmbedConfig, embed_cohort
from boldstream.encoders.interface import WindowEncoder, load_encoder
from boldstream.encoders.windows import cut_windows
from boldstream.storage import filesystem, publish_bytes
from boldstream.strategy import Strategy
from planted_encoders import Sleeper, plant
from seaweed import BUCKET, serve

N_ROIS, N_TIMEPOINTS, BATCH = 450, 160, 16
CLUSTER = ClusterConfig(object_store_gb=0.5)
STRATEGY = "window: {length: 160, stride: 160}\nid: bench\n"


made: set[str] = set()


@dataclass(frozen=True)
class Case:
    """One comparison: an encoder, how many scans, how often, and what share of the bare loop's speed is aimed at."""

    name: str
    size: str
    seconds: float | None
    n_scans: int
    n_quick: int
    repeats: int
    target: float


CASES = (
    Case("5ms", "tiny", 0.005, 2000, 600, 3, 0.85),
    Case("50ms", "tiny", 0.05, 2000, 0, 1, 0.95),
    Case("small", "small", None, 24, 0, 1, 0.95),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="600 scans, 5 ms, local disk, once")
    parser.add_argument("--only", choices=[case.name for case in CASES], help="one encoder")
    parser.add_argument("--on", choices=["disk", "s3"], help="one storage")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    cases = [case for case in CASES if options.only in (None, case.name) and (case.n_quick or not options.quick)]
    places = ["disk"] if options.quick else [options.on] if options.on else ["disk", "s3"]
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{scratch}/mlflow.db"
        if "s3" in places:
            (scratch / "s3").mkdir()
            os.environ |= stack.enter_context(serve(scratch / "s3"))
        start_ray()
        results = [measure(case, place, scratch, quick=options.quick) for place in places for case in cases]
    worst = min(results, key=lambda result: result["ratio"] / result["aim"])
    print(json.dumps({key: value for key, value in worst.items() if key != "aim"}))


def start_ray() -> None:
    """Start a local Ray whose workers load encoders that sleep where their model says so."""
    hook = {"worker_process_setup_hook": plant(Sleeper), "env_vars": {"PYTHONPATH": os.pathsep.join(sys.path)}}
    ray.init(
        address="local", num_cpus=max(4, os.cpu_count() or 1), object_store_memory=CLUSTER.object_store_bytes,
        runtime_env=hook, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR,
    )  # fmt: skip
    connect(CLUSTER)


def measure(case: Case, place: str, scratch: Path, *, quick: bool) -> dict[str, object]:
    """Embed a random cohort both ways and print the comparison."""
    n_scans, repeats = (case.n_quick, 1) if quick else (case.n_scans, case.repeats)
    warehouse = warehouse_of(scratch, place)
    for name, count in ((f"many-{n_scans}", n_scans), ("two", 2)):
        if f"{place}-{name}" not in made:
            write_cohort(warehouse, name, count, N_TIMEPOINTS, N_ROIS, shard_size=64)
            made.add(f"{place}-{name}")
    provenance = {} if case.seconds is None else {"seconds": case.seconds}
    folder = write_model(scratch / f"{place}-{case.name}", case.size, N_ROIS, **provenance)
    model = register(folder, f"bench-{place}-{case.name}")
    strategy = scratch / "bench.yaml"
    strategy.write_text(STRATEGY)
    torch.set_num_threads(os.cpu_count() or 1)
    encoder = Sleeper(load_encoder(folder))
    times: dict[str, list[float]] = {"many": [], "two": [], "bare": []}

    def embed(cohort: str, output: str) -> float:
        config = EmbedConfig(
            output=output, cohort=cohort, model=model, strategy=str(strategy), warehouse=warehouse, batch_size=BATCH,
            cluster=CLUSTER,
        )  # fmt: skip
        return seconds_of(embed_cohort, config)

    embed("two", f"{case.name}-first")  # starts the workers that all others find
    for repeat in range(repeats):
        times["two"].append(embed("two", f"{case.name}-two-{repeat}"))
        times["many"].append(embed(f"many-{n_scans}", f"{case.name}-many-{repeat}"))
        bare = f"{warehouse}/bare-{case.name}-{repeat}.parquet"
        times["bare"].append(seconds_of(bare_loop, f"many-{n_scans}", warehouse, encoder, bare))
    two, many, bare_s = (statistics.median(times[name]) for name in ("two", "many", "bare"))
    ours, baseline = (n_scans - 2) / max(many - two, 1e-9), n_scans / bare_s
    print(f"{case.name} on {place}: {n_scans} scans of {N_ROIS} x {N_TIMEPOINTS}, median of {repeats}")
    print(f"  bare loop        {baseline:8.1f} scans/s   ({bare_s:.1f} s)")
    print(f"  room, steady     {ours:8.1f} scans/s   ratio {ours / baseline:.3f}   (aim {case.target})")
    print(f"  room, all of it  {n_scans / many:8.1f} scans/s   ratio {bare_s / many:.3f}   (start-up {two:.1f} s)")
    return {
        "name": f"embed_overhead ({case.name} on {place}, steady)", "ratio": ours / baseline, "aim": case.target,
        "target": f">= {case.target}", "met": ours / baseline >= case.target, "ours": ours, "baseline": baseline,
        "unit": "scans/s",
    }  # fmt: skip


def warehouse_of(scratch: Path, place: str) -> str:
    """Return the warehouse of a storage; on S3 its catalog lies on the local disk."""
    if place == "disk":
        os.environ.pop("BOLDSTREAM_CATALOG_URI", None)
        return str(scratch / "warehouse")
    os.environ["BOLDSTREAM_CATALOG_URI"] = f"sqlite:///{scratch}/s3.db"
    return f"s3://{BUCKET}/warehouse"


def seconds_of(work: Callable[..., object], *arguments: object) -> float:
    started = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - started


def bare_loop(cohort: str, warehouse: str, encoder: WindowEncoder, out: str) -> None:
    """Do the same with nothing but pyarrow and torch."""
    spec = Strategy.from_mapping(yaml.safe_load(STRATEGY), where="bench").window
    vectors, keys = [], []
    for file in open_cohort(cohort, warehouse).files:
        fs, path = filesystem(file.uri)
        rows = pq.read_table(path, filesystem=fs)
        windows = [cut_windows(x, 2.0, spec).values for x in iter_timeseries(rows)]
        values = np.concatenate(windows)
        for start in range(0, len(values), BATCH):
            vectors.append(encoder.encode(values[start : start + BATCH]).mean(dim=(1, 2)).numpy())
        keys += rows["scan_key"].to_pylist()
    buffer = BytesIO()
    pq.write_table(pa.table({"scan_key": keys, "embedding": list(np.concatenate(vectors))}), buffer)
    publish_bytes(out if "://" in out else Path(out).as_uri(), buffer.getvalue())


if __name__ == "__main__":
    main()

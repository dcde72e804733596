"""What Ray costs: scans/s of the embed room against a bare loop over the same encoder and the same files.

    python tests/benchmarks/embed_overhead.py [--quick]

The bare loop runs in one process with as many threads: read Parquet, cut windows, encode, average, write Parquet.
The room's fixed start-up (MLflow run, catalog, actor, weights) is measured on a cohort of two scans and told apart:
`steady` is the speed of the scans beyond those two. Also prints the peak memory of the driver while it embeds.
"""

import argparse
import json
import logging
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from boldstream.artifacts.cohort import iter_timeseries, open_cohort
from boldstream.cluster import ClusterConfig, connect
from boldstream.embed import EmbedConfig, Strategy, embed_cohort
from boldstream.encoders.interface import WindowEncoder, load_encoder
from boldstream.encoders.windows import cut_windows
from boldstream.gradients import GradientConfig, fit_gradient
from boldstream.ingest import IngestConfig, ingest_cohort
from boldstream.ingest.config import SourceConfig
from boldstream.pretrain import PretrainConfig, pretrain
from boldstream.registry import download_model, resolve_model
from boldstream.storage import local_path

N_ROIS, N_TIMEPOINTS, BATCH = 100, 200, 16
CLUSTER = ClusterConfig(object_store_gb=0.5)
STRATEGY = "window: {length: 160, stride: 160}\nid: bench\nproject_dim: null\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer scans, one repeat (under 45 s on 2 cores)")
    quick = parser.parse_args().quick
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{scratch}/mlflow.db"
        connect(CLUSTER)
        results = [
            measure("tiny", 100 if quick else 600, 1 if quick else 3, Path(scratch)),
            measure("small", 8 if quick else 40, 1 if quick else 3, Path(scratch)),
        ]
    print(json.dumps(results[-1]))


def measure(size: str, n_scans: int, repeats: int, scratch: Path) -> dict[str, object]:
    """Embed a synthetic cohort both ways and print the comparison."""
    warehouse = str(scratch / f"warehouse-{size}")
    strategy = scratch / "bench.yaml"
    strategy.write_text(STRATEGY)
    for name, count in (("many", n_scans), ("two", 2)):
        make_cohort(scratch / f"source-{size}-{name}", name, count, warehouse)
    fit_gradient(GradientConfig(output="g", cohort="two", n_components=10, warehouse=warehouse, cluster=CLUSTER))
    model = pretrain(
        PretrainConfig(
            output=f"bench-{size}", cohort="two", gradient="g", size=size, scaling="zscore", steps=0,
            warehouse=warehouse, cluster=CLUSTER,
        )
    )  # fmt: skip
    encoder = load_encoder(download_model(resolve_model(model.pointer), scratch / f"model-{size}"))
    torch.set_num_threads(os.cpu_count() or 1)
    times: dict[str, list[float]] = {"many": [], "two": [], "bare": []}
    peak = 0.0
    for repeat in range(repeats):
        for name in ("two", "many"):
            config = EmbedConfig(
                output=f"{name}-{repeat}", cohort=name, model=model.pointer, strategy=str(strategy),
                warehouse=warehouse, batch_size=BATCH, cluster=CLUSTER,
            )  # fmt: skip
            with peak_memory() as memory:
                started = time.perf_counter()
                embed_cohort(config)
                times[name].append(time.perf_counter() - started)
            peak = max(peak, memory[0])
        started = time.perf_counter()
        bare_loop(warehouse, encoder, Strategy.from_yaml(strategy), scratch / f"bare-{size}.parquet")
        times["bare"].append(time.perf_counter() - started)
    two, many, bare = (statistics.median(times[name]) for name in ("two", "many", "bare"))
    ours, baseline = (n_scans - 2) / max(many - two, 1e-9), n_scans / bare
    print(f"{size}: {n_scans} scans of {N_ROIS} x {N_TIMEPOINTS}, median of {repeats}")
    print(f"  bare loop        {baseline:8.1f} scans/s   ({bare:.1f} s)")
    print(f"  room, steady     {ours:8.1f} scans/s   ratio {ours / baseline:.2f}")
    print(f"  room, all of it  {n_scans / many:8.1f} scans/s   ratio {bare / many:.2f}   (start-up {two:.1f} s)")
    print(f"  driver           {peak:8.0f} MB peak, {peak - memory[1]:.0f} MB of it while embedding")
    return {
        "name": f"embed_overhead ({size}, steady)", "ratio": ours / baseline, "target": None, "met": None,
        "ours": ours, "baseline": baseline, "unit": "scans/s",
    }  # fmt: skip


def make_cohort(source: Path, name: str, n_scans: int, warehouse: str) -> None:
    """Write random walks as .npy files and ingest them (the speed does not depend on the values)."""
    source.mkdir()
    rng = np.random.default_rng(0)
    for i in range(n_scans):
        np.save(source / f"sub-{i:04d}.npy", rng.standard_normal((N_TIMEPOINTS, N_ROIS), dtype=np.float32))
    labels = source.with_suffix(".txt")
    labels.write_text("\n".join(f"roi-{i}" for i in range(N_ROIS)))
    ingest_cohort(
        IngestConfig(
            output=name, source=SourceConfig(root=str(source), files="sub-{subject}.npy"), t_r=2.0,
            atlas="bench", atlas_labels=str(labels),
            warehouse=warehouse, cluster=CLUSTER,
        )
    )  # fmt: skip


def bare_loop(warehouse: str, encoder: WindowEncoder, strategy: Strategy, out: Path) -> None:
    """Do the same with nothing but pyarrow and torch."""
    vectors, keys = [], []
    for file in open_cohort("many", warehouse).files:
        rows = pq.read_table(local_path(file.uri))
        windows = [cut_windows(x, 2.0, strategy.window).values for x in iter_timeseries(rows)]
        values = np.concatenate(windows)
        for start in range(0, len(values), BATCH):
            vectors.append(encoder.encode(values[start : start + BATCH]).mean(dim=(1, 2)).numpy())
        keys += rows["scan_key"].to_pylist()
    pq.write_table(pa.table({"scan_key": keys, "embedding": list(np.concatenate(vectors))}), out)


@contextmanager
def peak_memory() -> Iterator[list[float]]:
    """Sample this process's resident memory; gives [peak, start] in MB when the block has ended."""

    def resident() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    start = resident()
    found, done = [start, start], threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            found[0] = max(found[0], resident())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        done.set()
        thread.join()


if __name__ == "__main__":
    main()

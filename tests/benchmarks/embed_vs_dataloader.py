"""The embed room against what a person would write today: DataLoader, explicit attention, one .npy a scan.

    python tests/benchmarks/embed_vs_dataloader.py [--quick]

The same weights on both sides, ViT-S and ViT-B, 450 regions (200 with --quick) x 160 timepoints, one window a scan. The
script reads one .npy a scan through a `torch.utils.data.DataLoader` with one worker, runs the encoder in batches of 8
with attention that holds the N x N scores (the reference's `normal` attention), averages, and `np.save`s every vector.
The room is `embed_cohort` as a job runs it, start-up included: MLflow, catalog, Ray actor, exactly-once bookkeeping.
float32 on the CPU; the vectors must agree (cosine >= 0.9999) before a ratio is told.
"""

import argparse
import json
import logging
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(1, str(Path(__file__).parent.parent))

import numpy as np
import pyarrow.parquet as pq
import torch
from attention import explicit
from random_cohort import write_cohort
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from untrained_model import register, write_model

import ray
from boldstream.artifacts.cohort import iter_timeseries, open_cohort
from boldstream.artifacts.embeddings import open_table
from boldstream.cluster import ClusterConfig
from boldstream.embed import EmbedConfig, embed_cohort
from boldstream.encoders.interface import load_encoder
from boldstream.storage import local_path

N_TIMEPOINTS, BATCH = 160, 8
AIM, COSINE = {"cpu": 2.0, "cuda": 3.0}, 0.9999
FULL = (("small", 16, 450), ("base", 8, 450))
QUICK = (("small", 8, 200),)
"""Size, scans and regions: a scan of 450 regions takes ViT-S some 10 s on two cores, ViT-B some 30 s."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="ViT-S only, fewer scans and regions")
    cases = QUICK if parser.parse_args().quick else FULL
    logging.disable(logging.WARNING)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{scratch}/mlflow.db"
        results = [compare(*case, device, scratch) for case in cases]
        ray.shutdown()
    print(json.dumps(min(results, key=lambda result: result["ratio"])))


def compare(size: str, n_scans: int, n_rois: int, device: str, scratch: Path) -> dict[str, object]:
    """Embed a random cohort both ways, in turns, and print the comparison."""
    warehouse, name = str(scratch / "warehouse"), f"scans-{n_scans}"
    write_cohort(warehouse, name, n_scans, N_TIMEPOINTS, n_rois, shard_size=8)
    series = scratch / name
    series.mkdir()
    for file in open_cohort(name, warehouse).files:
        rows = pq.read_table(local_path(file.uri))
        for key, values in zip(rows["scan_key"].to_pylist(), iter_timeseries(rows), strict=True):
            np.save(series / f"{key}.npy", values)
    model = write_model(scratch / size, size, n_rois)
    pointer, strategy = register(model, f"bench-{size}"), scratch / "bench.yaml"
    strategy.write_text("window: {length: 160, stride: 160}\nid: bench\n")
    times: dict[str, list[float]] = {"script": [], "room": []}
    for repeat in range(2):
        vectors = scratch / f"vectors-{size}-{repeat}"
        vectors.mkdir()
        started = time.perf_counter()
        run_script(model, series, vectors, device)
        times["script"].append(time.perf_counter() - started)
        config = EmbedConfig(
            output=f"{size}-{repeat}", cohort=name, model=pointer, strategy=str(strategy), warehouse=warehouse,
            precision="float32" if device == "cpu" else "auto", cluster=ClusterConfig(object_store_gb=0.5),
        )  # fmt: skip
        started = time.perf_counter()
        ref = embed_cohort(config)
        times["room"].append(time.perf_counter() - started)
    table = open_table(ref.pointer, warehouse)
    theirs = np.stack([np.load(vectors / f"{key}.npy") for key in table.rows()["scan_key"]])
    ours = table.vectors()
    cosine = ((ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)).min()
    assert cosine >= COSINE, f"the vectors differ: least cosine {cosine}"
    script, room = min(times["script"]), min(times["room"])
    print(f"{size} on {device}: {n_scans} scans of {n_rois} x {N_TIMEPOINTS}, best of 2, least cosine {cosine:.6f}")
    print(f"  script {n_scans / script:7.2f} scans/s ({script:.1f} s)")
    print(f"  room   {n_scans / room:7.2f} scans/s ({room:.1f} s, start-up included)   ratio {script / room:.2f}")
    return {
        "name": f"embed_vs_dataloader ({size}, {device})", "ratio": script / room, "target": f">= {AIM[device]:g}",
        "met": script / room >= AIM[device], "ours": n_scans / room, "baseline": n_scans / script, "unit": "scans/s",
    }  # fmt: skip


class Scans(Dataset):
    """A folder of .npy files."""

    def __init__(self, folder: Path) -> None:
        self.paths = sorted(folder.glob("*.npy"))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, place: int) -> tuple[str, torch.Tensor]:
        path = self.paths[place]
        return path.stem, torch.from_numpy(np.load(path))


def run_script(model: Path, series: Path, vectors: Path, device: str) -> None:
    """Do what a folder of training scripts would do to embed."""
    fused = F.scaled_dot_product_attention
    F.scaled_dot_product_attention = explicit
    try:
        encoder = load_encoder(model, device=device)
        with torch.inference_mode():
            for keys, values in DataLoader(Scans(series), batch_size=BATCH, num_workers=1):
                tokens = encoder.encode(values.numpy())
                for key, vector in zip(keys, tokens.mean(dim=(1, 2)).cpu().numpy(), strict=True):
                    np.save(vectors / f"{key}.npy", vector)
    finally:
        F.scaled_dot_product_attention = fused


if __name__ == "__main__":
    main()

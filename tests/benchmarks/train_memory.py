"""Peak memory of the training worker: a cohort of 10,000 scans against one of 1,000.

    python tests/benchmarks/train_memory.py [--quick]

The same short pretraining (tiny, as many steps, enough to visit every scan of the larger cohort) on cohorts of white
noise, 64 timepoints x 50 regions: 128 MB of series in the larger one. A worker's peak is the kernel's own high-water
mark of its resident memory; it counts pages of Ray's shared object store that the worker has touched, which are
told apart as sampled. Also prints the peaks of the driver and of the largest process that reads windows. Linux only.
"""

import argparse
import contextlib
import json
import logging
import os
import statistics
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from random_cohort import write_cohort, write_gradient

from boldstream.cluster import ClusterConfig, connect
from boldstream.pretrain import PretrainConfig, pretrain

N_TIMEPOINTS, PATCH_SIZE, N_ROIS, BATCH = 64, 32, 50, 64
CLUSTER = ClusterConfig(object_store_gb=0.3)
TARGET = 1.05
NEVER = 1_000_000
TRAIN_WORKER, RAY_WORKER = "RayTrainWorker", "ray::"
Peaks = dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="400 and 1,600 scans, one repeat")
    quick = parser.parse_args().quick
    few, many, repeats = (400, 1600, 1) if quick else (1000, 10_000, 3)
    logging.disable(logging.WARNING)
    found: dict[int, list[Peaks]] = {few: [], many: []}
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{scratch}/mlflow.db"
        write_gradient(scratch, "g", N_ROIS)
        for n_scans in found:
            write_cohort(scratch, f"c{n_scans}", n_scans, N_TIMEPOINTS, N_ROIS)
        connect(CLUSTER)
        for repeat in range(repeats):
            for n_scans, peaks in found.items():
                with peak_memory() as peak:
                    train(scratch, f"c{n_scans}", f"m{n_scans}-{repeat}", steps=many // BATCH)
                peaks.append(peak)
    median = {n: {who: statistics.median(p[who] for p in peaks) for who in peaks[0]} for n, peaks in found.items()}
    print(f"tiny, {many // BATCH} steps of {BATCH} windows {N_ROIS} x {N_TIMEPOINTS}, peak MB, median of {repeats}")
    print(f"  {'':34s} {few:6d} scans {many:6d} scans   ratio")
    for who, baseline in median[few].items():
        ours = median[many][who]
        print(f"  {who:34s} {baseline:12.1f} {ours:12.1f}   {ours / max(baseline, 0.1):5.3f}")
    ours, baseline = median[many]["training worker"], median[few]["training worker"]
    ratio = ours / baseline
    print(
        json.dumps(
            {
                "name": f"train_memory ({many} against {few} scans)", "ratio": ratio, "target": TARGET,
                "met": ratio <= TARGET, "ours": ours, "baseline": baseline, "unit": "MB",
            }
        )
    )  # fmt: skip


def train(warehouse: str, cohort: str, output: str, steps: int) -> None:
    pretrain(
        PretrainConfig.model_validate(
            {
                "output": output, "cohort": cohort, "gradient": "g", "size": "tiny", "n_timepoints": N_TIMEPOINTS,
                "patch_size": PATCH_SIZE, "scaling": "zscore", "steps": steps, "optim": {"batch_size": BATCH},
                "checkpoint": {"every_steps": NEVER}, "monitor": {"every_epochs": NEVER},
                "workers": {"gpu": "no"}, "warehouse": warehouse, "cluster": CLUSTER,
            }
        )
    )  # fmt: skip


@contextlib.contextmanager
def peak_memory() -> Iterator[Peaks]:
    """Watch this process and the processes of its Ray; gives their peaks in MB when the block has ended."""
    found = {"training worker": 0.0, "  of it its own": 0.0, "driver": 0.0, "largest other worker (reading)": 0.0}
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.2):
            for process, name in own_processes():
                with contextlib.suppress(OSError, KeyError):  # it may end meanwhile
                    memory = status(process)
                    if TRAIN_WORKER in name:
                        who = "training worker"
                        own = memory["RssAnon"] + memory["RssFile"]
                        found["  of it its own"] = max(found["  of it its own"], own)
                    else:
                        who = "largest other worker (reading)" if name.startswith(RAY_WORKER) else "driver"
                    found[who] = max(found[who], memory["VmHWM"])

    for process, _ in own_processes():
        with contextlib.suppress(OSError):
            (process / "clear_refs").write_text("5")  # high-water marks start afresh
    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        done.set()
        thread.join()
    assert found["training worker"], f"no process named {TRAIN_WORKER} was seen"


def own_processes() -> list[tuple[Path, str]]:
    """Return this process, and the workers that Ray's raylet below it has started, with their titles."""
    ours = os.getpid()
    found = [(Path("/proc/self"), "driver")]
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            title = (process / "cmdline").read_bytes().rstrip(b"\0").decode(errors="replace")
            if title.startswith(RAY_WORKER) and parent(parent(int(process.name))) == ours:
                found.append((process, title))
    return found


def parent(process: int) -> int:
    """Return the parent's number (0 for none)."""
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1]) if process else 0


def status(process: Path) -> dict[str, float]:
    """Return the sizes of a process in MB."""
    lines = (line.split() for line in (process / "status").read_text().splitlines())
    return {name.rstrip(":"): int(value[0]) * 1.024e-3 for name, *value in lines if value[-1:] == ["kB"]}


if __name__ == "__main__":
    main()

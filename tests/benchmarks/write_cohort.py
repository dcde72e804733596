"""Writing a cohort: shards against bare pyarrow, and the driver's memory while scans come in.

    python tests/benchmarks/write_cohort.py [--quick]

The writer: from the rows of a shard in memory (64 scans of 450 regions x 160 timepoints, with every column of quality
control) to its published Parquet file, as the ingest room does it, against `pyarrow.parquet.write_table` of the same
table, made beforehand, to a file; same compression, row groups and dictionaries, in turns. The claim is in CPU
seconds: other people's work on the machine changes the wall time. `with its dictionaries`: as pyarrow writes floats if
nobody tells it not to.

The driver: fresh processes ingest N and 4 N scans from .npy files by `ingest_cohort`, on one local Ray. Their peak
resident memory is told for three stages, set back in between; what 4 N needs more than N, by 3 N, is the growth a scan,
extrapolated to 100,000 scans. N is 1,250. With --quick it is 800, the scans are tiny, as the driver sees none of their
values, both cohorts are ingested at once, and there is no quality page.
"""

import argparse
import cProfile
import json
import logging
import os
import pstats
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from threadpoolctl import threadpool_limits

import boldstream.ingest.run as room
from boldstream.artifacts.cohort import cohort_schema
from boldstream.artifacts.shards import ROW_GROUP_SIZE, write_shard
from boldstream.cluster import ClusterConfig, connect
from boldstream.ingest import IngestConfig
from boldstream.ingest.config import SourceConfig
from boldstream.ingest.plan import plan_scans
from boldstream.ingest.regions import load_regions
from boldstream.ingest.shard import IngestTask, cohort_row, ingest_shard
from boldstream.parcellation.qc import measure_scan

N_ROIS, N_TIMEPOINTS, SHARD = 450, 160, 64
TINY = (20, 24)
N_COHORT, TARGET, FLAT_SHARE = 100_000, 0.8, 0.01
STAGES = ("read and write", "judge and publish", "quality page")
TEXTS = {
    "ours": "rows -> published shard        ",
    "bare": "table -> file, bare pyarrow    ",
    "default": "the same with its dictionaries ",
}
PARTS = {"reading": "read_scan", "quality": "measure_scan", "writing": "write_shard"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer repeats, tiny scans for the driver's memory")
    parser.add_argument("--driver", help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    if options.driver:
        print(json.dumps(drive(Path(options.driver), options.quick)))
        return
    repeats, n_scans, shape = (9, 800, TINY) if options.quick else (41, 1250, (N_ROIS, N_TIMEPOINTS))
    with tempfile.TemporaryDirectory() as scratch, threadpool_limits(1):
        task, plans = shard_of(Path(scratch) / "shard")
        ours, bare = measure_writer(task, [cohort_row(plan, task) for plan in plans], repeats)
        profile_shard(task, plans)
        measure_quality(repeats)
        flat = measure_driver(Path(scratch), n_scans, shape, options.quick)
    ratio = ours / bare
    print(f"writer at {ratio:.0%} of bare pyarrow (target {TARGET:.0%}); driver's memory flat: {flat}")
    print(
        json.dumps(
            {
                "name": "write_cohort (writer)", "ratio": ratio, "target": TARGET, "met": ratio >= TARGET and flat,
                "ours": ours, "baseline": bare, "unit": "MB/CPU s",
            }
        )
    )  # fmt: skip


def make_source(folder: Path, n_scans: int, n_rois: int, n_timepoints: int) -> None:
    """Write white noise as .npy files, and names of the regions beside the folder."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(n_scans):
        np.save(folder / f"sub-{i:06d}.npy", rng.standard_normal((n_timepoints, n_rois), dtype=np.float32))
    folder.with_suffix(".txt").write_text("\n".join(f"{side}_{i}" for i in range(n_rois // 2) for side in "LR"))


def config_of(source: Path) -> IngestConfig:
    return IngestConfig(
        output=source.name, source=SourceConfig(root=str(source), files="sub-{subject}.npy"), t_r=0.72, atlas="bench",
        atlas_labels=str(source.with_suffix(".txt")), warehouse=str(source.with_suffix(".warehouse")), shard_size=SHARD,
        cluster=ClusterConfig(object_store_gb=0.3),
    )  # fmt: skip


# ---- the writer ------------------------------------------------------------------------------------------------------


def shard_of(source: Path) -> tuple[IngestTask, list[Any]]:
    """Make a shard's scans and return the task that reads them, as the driver plans it."""
    make_source(source, SHARD, N_ROIS, N_TIMEPOINTS)
    config = config_of(source)
    plan = plan_scans(config)
    uris = (f"{config.warehouse}/cohorts", f"{config.warehouse}/quarantine")
    return IngestTask(config, load_regions(config, plan.scans), cohort_schema(plan.phenotypes), *uris), plan.scans


def measure_writer(task: IngestTask, rows: list[dict[str, Any]], repeats: int) -> tuple[float, float]:
    """Return MB a CPU second of ours and of bare pyarrow."""
    table = pa.Table.from_pylist(rows, task.schema)
    bare = task.config.source.root + ".parquet"
    strings = [field.name for field in table.schema if pa.types.is_string(field.type)]
    like_ours: dict[str, Any] = {"compression": "zstd", "row_group_size": ROW_GROUP_SIZE}
    ways: dict[str, tuple[str, Callable[[], object]]] = {
        "ours": (
            f"{task.cohort_uri}/data/shard.parquet",
            lambda: write_shard(task.cohort_uri, "shard.parquet", pa.Table.from_pylist(rows, task.schema)),
        ),
        "bare": (bare, lambda: pq.write_table(table, bare, use_dictionary=strings, **like_ours)),
        "default": (bare, lambda: pq.write_table(table, bare, **like_ours)),
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for repeat in range(repeats):
        for name in list(ways)[:: 1 if repeat % 2 else -1]:
            path, way = ways[name]
            started = time.perf_counter(), time.process_time()
            way()
            times[name].append((time.perf_counter() - started[0], time.process_time() - started[1]))
            Path(path).unlink()  # not timed: nobody is to pay for the pages of a file that he replaces
    wall, cpu = ({name: statistics.median(t[i] for t in times[name]) for name in ways} for i in (0, 1))
    size = sum(row["timeseries"].nbytes for row in rows) / 1e6
    print(f"writer: {len(rows)} scans of {N_ROIS} x {N_TIMEPOINTS}, {size:.1f} MB, medians of {repeats} in turns")
    for name, text in TEXTS.items():
        print(f"  {text} {cpu[name] * 1e3:6.1f} ms CPU, {size / cpu[name]:4.0f} MB/s   {wall[name] * 1e3:6.1f} ms wall")
    print(f"  ratio {cpu['bare'] / cpu['ours']:.2f} in CPU seconds, {wall['bare'] / wall['ours']:.2f} in wall time")
    return size / cpu["ours"], size / cpu["bare"]


def profile_shard(task: IngestTask, plans: list[Any]) -> None:
    """Print where the time of one shard goes, in one process that has done one before."""
    shard = {"scans": json.dumps([plan.as_dict() for plan in plans])}
    ingest_shard(shard, task=task)
    profile = cProfile.Profile()
    profile.runcall(ingest_shard, shard, task=task)
    found = {name: stats for (_, _, name), stats in pstats.Stats(profile).stats.items()}  # type: ignore[attr-defined]
    _, _, own, whole, _ = found["ingest_shard"]
    parts = {part: found[name][3] for part, name in PARTS.items()}
    parts["writing"] += own  # its own time is Table.from_pylist's, which a profile does not see
    parts["the rest"] = whole - sum(parts.values())
    shares = ", ".join(f"{part} {seconds / whole:.0%}" for part, seconds in parts.items())
    print(f"a shard in one process: {whole / SHARD * 1e3:.1f} ms a scan: {shares}")


def measure_quality(repeats: int) -> None:
    """Print what quality control costs a scan; the first of a process draws the sketch's matrix."""
    for n_rois in (N_ROIS, 200):
        x = np.random.default_rng(0).standard_normal((N_TIMEPOINTS, n_rois), dtype=np.float32)
        times = []
        for _ in range(repeats + 1):
            started = time.perf_counter()
            measure_scan(x, 0.72)
            times.append(time.perf_counter() - started)
        print(f"quality of {n_rois} x {N_TIMEPOINTS}: {statistics.median(times[1:]) * 1e3:.1f} ms a scan")


# ---- the driver ------------------------------------------------------------------------------------------------------


def measure_driver(scratch: Path, n_scans: int, shape: tuple[int, int], quick: bool) -> bool:
    """Ingest N and 4 N scans, print memory and speed, and say whether the memory is flat.

    Where it is to be quick, both are ingested at once and nothing is timed.
    """
    import ray

    connect(ClusterConfig(object_store_gb=0.3))
    address = ray.get_runtime_context().gcs_address
    counts = (n_scans, 4 * n_scans)
    children, answers = [], []
    for count in counts:
        source = scratch / f"source-{count}"
        make_source(source, count, *shape)
        place = {"RAY_ADDRESS": address, "MLFLOW_TRACKING_URI": f"sqlite:///{source}.db"}
        command = [sys.executable, __file__, "--driver", str(source), *(["--quick"] if quick else [])]
        children.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | place))
        if not quick:
            answers.append(children[-1].communicate()[0])
    answers = answers or [child.communicate()[0] for child in children]
    assert not any(child.returncode for child in children), "a driver failed; its error is above"
    found = [json.loads(answer.splitlines()[-1]) for answer in answers]
    few, many = found
    more = counts[1] - counts[0]
    print(f"ingest of {counts[0]} and {counts[1]} scans of {shape[0]} x {shape[1]}")
    if not quick:
        told = ", ".join(f"{stage} {many[stage]['seconds']:.0f} s" for stage in STAGES)
        print(f"  {many['speed']:.0f} scans/s from the first shard on; with the start of all workers: {told}")
    print(f"  driver's peak memory, MB       {counts[0]:6d} {counts[1]:6d}   KB a scan   more at {N_COHORT}")
    peaks, growths = [], []
    for stage in STAGES[:2] if quick else STAGES:
        low, high = few[stage]["peak"], many[stage]["peak"]
        growth = (high - low) / more
        growths.append(growth * N_COHORT)
        peaks.append(high + growth * (N_COHORT - counts[1]))
        print(f"    {stage:26s} {low:8.0f} {high:6.0f}   {growth * 1e3:9.2f}   {growths[-1]:8.0f} MB")
    data = N_COHORT * N_ROIS * N_TIMEPOINTS * 4 / 1e6
    print(f"  at {N_COHORT} scans: {max(peaks):.0f} MB. Flat: no stage grows by {FLAT_SHARE:.0%} of the data or more,")
    print(f"  which is {FLAT_SHARE * data:.0f} of {data:.0f} MB; the most is {max(growths) / data:.1%}")
    return max(growths) < FLAT_SHARE * data


def drive(source: Path, quick: bool) -> dict[str, Any]:
    """Ingest a source in this process; return peak memory (MB) and seconds of every stage, and scans/s."""
    found: dict[str, Any] = {}
    receipts: list[tuple[float, int]] = []
    started = [time.perf_counter()]

    def close(stage: str) -> None:
        status = Path("/proc/self/status").read_text().splitlines()
        peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
        found[stage] = {"peak": peak * 1024 / 1e6, "seconds": time.perf_counter() - started[0]}
        Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM back to what is resident now
        started[0] = time.perf_counter()

    def close_at(name: str, stage: str) -> None:
        inner = getattr(room, name)

        def outer(*args: object) -> object:
            close(stage)
            return inner(*args)

        setattr(room, name, outer)

    class Timed(room.Progress):  # type: ignore[name-defined, misc]
        def add(self, done: int, *others: int) -> None:
            receipts.append((time.perf_counter(), done))
            super().add(done, *others)

    room.Progress = Timed  # type: ignore[attr-defined]
    close_at("judge_cohort", STAGES[0])
    if quick:
        room._show_quality = lambda *_: None  # type: ignore[assignment]
    else:
        close_at("material_of", STAGES[1])
    room.ingest_cohort(config_of(source))
    close(STAGES[1 if quick else 2])
    found["speed"] = sum(done for _, done in receipts[1:]) / (receipts[-1][0] - receipts[0][0])
    return found


if __name__ == "__main__":
    main()

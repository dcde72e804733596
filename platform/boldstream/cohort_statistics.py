"""Statistics of scans of a cohort: two passes of Ray Data tasks over its files, merged on the driver."""

import pickle
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from boldstream.analysis.roi_statistics import Histogram, Moments, RoiStatistics
from boldstream.analysis.splits import hold_out
from boldstream.artifacts.cohort import Cohort, iter_timeseries
from boldstream.artifacts.files import DataFile, read_parquet
from boldstream.artifacts.tables import VersionedTable
from boldstream.parcellation.gradients import MeanConnectivity, functional_connectivity

READ = ["scan_key", "timeseries", "n_timepoints", "n_rois"]
LIGHT = ["scan_key", "subject", "t_r", "n_timepoints"]


def measure_cohort(cohort: VersionedTable, holdout: float, seed: int) -> tuple[RoiStatistics, dict[str, Any]]:
    """Measure the scans that a table holds now, those of held-out subjects left out.

    Returns
    -------
    statistics : RoiStatistics
    fitted_on : dict
        The split and what it left, for the manifest.
    """
    light = cohort.column(LIGHT)
    subjects = sorted(set(light["subject"].to_pylist()))
    out = sorted(hold_out(subjects, holdout, seed))
    if len(out) == len(subjects):
        out = []  # two subjects at most: nobody would be left
    tasks = cohort.current_files()
    files = [DataFile(uri, task.file.record_count, task.file.file_size_in_bytes) for uri, task in tasks.items()]
    is_out = pc.is_in(light["subject"], value_set=pa.array(out, pa.string()))
    found = measure_scans(files, light, light.filter(is_out)["scan_key"].to_pylist())
    return found, {
        "split": {"holdout": holdout, "seed": seed},
        "held_out_subjects": out,
        "n_scans": found.n_scans,
        "n_subjects": len(subjects) - len(out),
        "largest_quantile_error": float(found.quantile_error.max()),
    }


def statistics_of(cohort: Cohort, scan_keys: Iterable[str]) -> RoiStatistics:
    """Return the statistics of some scans of a cohort: those that it carries if they are of just these scans.

    Raises
    ------
    CohortError
        If those that it carries are not what its manifest tells.
    """
    wanted = set(scan_keys)
    light = cohort.table.column(LIGHT, cohort.manifest.version)
    carried = cohort.statistics()
    if carried is not None:
        out = set(cohort.manifest.content["statistics"]["held_out_subjects"])
        owners = zip(light["scan_key"].to_pylist(), light["subject"].to_pylist(), strict=True)
        if {key for key, subject in owners if subject not in out} == wanted:
            return RoiStatistics.from_bytes(carried)
    return measure_scans(cohort.files, light, [key for key in light["scan_key"].to_pylist() if key not in wanted])


def measure_scans(files: Sequence[DataFile], light: pa.Table, out: Collection[str]) -> RoiStatistics:
    """Measure all scans of some files but those left out.

    Parameters
    ----------
    files : sequence of DataFile
    light : pyarrow.Table
        Columns `LIGHT` of their rows.
    out : collection of str
        Scan keys that are left out.
    """
    files = sorted(files, key=lambda file: file.uri)
    *moments, connectivity = _first_pass(files, out)
    histograms = _second_pass(files, out, moments)
    kept = light.filter(pc.invert(pc.is_in(light["scan_key"], value_set=pa.array(out, pa.string()))))
    lengths = kept["n_timepoints"].to_numpy()
    t_rs = {np.nan if value is None else value for value in kept["t_r"].to_pylist()}
    return RoiStatistics.gathered(
        moments,
        histograms,
        connectivity,
        t_r=np.sort(np.array(list(t_rs), dtype=np.float64)),
        length=np.array([lengths.min(), np.median(lengths), lengths.max()], dtype=np.float64),
    )


def _first_pass(files: list[DataFile], out: Collection[str]) -> tuple[Moments, Moments, Moments, MeanConnectivity]:
    merged: Any = None
    for parts in _passed(files, moments_of_block, {"out": out}):
        if merged is None:
            merged = parts
        else:
            for whole, part in zip(merged, parts, strict=True):
                whole.merge(part)
    values, means, sds, connectivity = merged
    return values, means, sds, connectivity


def _second_pass(files: list[DataFile], out: Collection[str], moments: Sequence[Moments]) -> list[Histogram]:
    merged = [Histogram(one) for one in moments]
    for counts, means, sds in _passed(files, counts_of_block, {"out": out, "values": moments[0]}):
        merged[0].merge(counts)
        merged[1].add(means)
        merged[2].add(sds)
    return merged


def _passed(files: list[DataFile], act: Any, known: dict[str, Any]) -> Iterator[Any]:
    """Yield what a function makes of every file that has scans to measure, in the files' order."""
    dataset = read_parquet(files, READ).map_batches(
        act, fn_kwargs=known, batch_format="pyarrow", batch_size=None, zero_copy_batch=True
    )
    # float sums are taken in one order, so that the same scans in the same files give the same bytes
    dataset.context.execution_options.preserve_order = True
    for row in dataset.iter_rows():
        if row["state"]:
            yield pickle.loads(row["state"])  # our own task's


def moments_of_block(batch: pa.Table, *, out: Collection[str]) -> pa.Table:
    """Measure the scans of one file, one after the other."""
    n_rois = batch["n_rois"][0].as_py()
    values, means, sds, connectivity = Moments(n_rois), Moments(n_rois), Moments(n_rois), MeanConnectivity(n_rois)
    for series in _scans(batch, out):
        x = series.astype(np.float64)
        values.add(x)
        means.add(x.mean(axis=0, keepdims=True))
        sds.add(x.std(axis=0, keepdims=True))
        connectivity.add(functional_connectivity(x))
    return _row((values, means, sds, connectivity) if values.count else None)


def counts_of_block(batch: pa.Table, *, out: Collection[str], values: Moments) -> pa.Table:
    """Count the values of one file's scans; their means and standard deviations are few, and go as they are."""
    counted = Histogram(values)
    means, sds = [], []
    for series in _scans(batch, out):
        x = series.astype(np.float64)
        counted.add(x)
        means.append(x.mean(axis=0))
        sds.append(x.std(axis=0))
    return _row((counted.counts.astype(np.uint32), np.stack(means), np.stack(sds)) if means else None)


def _scans(batch: pa.Table, out: Collection[str]) -> Iterator[Any]:
    held_out = pc.is_in(batch["scan_key"], value_set=pa.array(list(out), pa.string()))
    yield from iter_timeseries(batch.filter(pc.invert(held_out)))


def _row(state: Any) -> pa.Table:
    return pa.table({"state": [pickle.dumps(state) if state is not None else b""]})

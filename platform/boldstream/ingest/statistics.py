"""Statistics of a cohort's training scans: two passes of Ray Data tasks over its files, merged on the driver."""

import pickle
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from boldstream.analysis.roi_statistics import Histogram, Moments, RoiStatistics
from boldstream.analysis.splits import hold_out
from boldstream.artifacts.cohort import iter_timeseries
from boldstream.artifacts.files import DataFile, read_parquet
from boldstream.artifacts.tables import VersionedTable
from boldstream.ingest.config import SplitConfig
from boldstream.parcellation.gradients import MeanConnectivity, functional_connectivity

READ = ["subject", "timeseries", "n_timepoints", "n_rois"]


def measure_cohort(cohort: VersionedTable, split: SplitConfig) -> tuple[RoiStatistics, dict[str, Any]]:
    """Measure the scans that a table holds now, those of held-out subjects left out.

    Returns
    -------
    statistics : RoiStatistics
    fitted_on : dict
        The split and what it left, for the manifest.
    """
    light = cohort.column(["subject", "t_r", "n_timepoints"])
    subjects = sorted(set(light["subject"].to_pylist()))
    out = sorted(hold_out(subjects, split.holdout, split.seed))
    if len(out) == len(subjects):
        out = []  # two subjects at most: nobody would be left
    tasks = cohort.current_files()
    files = [DataFile(uri, task.file.record_count, task.file.file_size_in_bytes) for uri, task in sorted(tasks.items())]
    values, means, sds, connectivity = _first_pass(files, out)
    histograms = _second_pass(files, out, (values, means, sds))
    kept = light.filter(pc.invert(pc.is_in(light["subject"], value_set=pa.array(out, pa.string()))))
    lengths = kept["n_timepoints"].to_numpy()
    t_rs = {np.nan if value is None else value for value in kept["t_r"].to_pylist()}
    found = RoiStatistics(
        n_scans=means.count,
        n_timepoints=values.count,
        mean=values.mean,
        sd=values.sd,
        low=values.low,
        high=values.high,
        quantiles=histograms[0].quantiles(),
        quantile_error=histograms[0].width,
        scan_mean_quantiles=histograms[1].quantiles(),
        scan_sd_quantiles=histograms[2].quantiles(),
        scan_mean_error=histograms[1].width,
        scan_sd_error=histograms[2].width,
        z_sum=connectivity.z_sum,
        z_count=connectivity.count,
        t_r=np.sort(np.array(list(t_rs), dtype=np.float64)),
        length=np.array([lengths.min(), np.median(lengths), lengths.max()], dtype=np.float64),
    )
    return found, {
        "split": split.model_dump(mode="json"),
        "held_out_subjects": out,
        "n_scans": found.n_scans,
        "n_subjects": len(subjects) - len(out),
        "largest_quantile_error": float(found.quantile_error.max()),
    }


def _first_pass(files: list[DataFile], out: list[str]) -> tuple[Moments, Moments, Moments, MeanConnectivity]:
    merged: Any = None
    for parts in _passed(files, moments_of_block, {"out": out}):
        if merged is None:
            merged = parts
        else:
            for whole, part in zip(merged, parts, strict=True):
                whole.merge(part)
    values, means, sds, connectivity = merged
    return values, means, sds, connectivity


def _second_pass(files: list[DataFile], out: list[str], moments: tuple[Moments, Moments, Moments]) -> list[Histogram]:
    merged = [Histogram(one) for one in moments]
    for parts in _passed(files, counts_of_block, {"out": out, "moments": moments}):
        for whole, part in zip(merged, parts, strict=True):
            whole.merge(part)
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


def counts_of_block(batch: pa.Table, *, out: Collection[str], moments: tuple[Moments, Moments, Moments]) -> pa.Table:
    """Count the values of one file's scans."""
    values, means, sds = (Histogram(one) for one in moments)
    for series in _scans(batch, out):
        x = series.astype(np.float64)
        values.add(x)
        means.add(x.mean(axis=0, keepdims=True))
        sds.add(x.std(axis=0, keepdims=True))
    return _row([values.counts, means.counts, sds.counts])


def _scans(batch: pa.Table, out: Collection[str]) -> Iterator[Any]:
    held_out = pc.is_in(batch["subject"], value_set=pa.array(list(out), pa.string()))
    yield from iter_timeseries(batch.filter(pc.invert(held_out)))


def _row(state: Any) -> pa.Table:
    return pa.table({"state": [pickle.dumps(state) if state is not None else b""]})

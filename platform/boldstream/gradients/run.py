"""The gradients room: mean connectivity of a cohort in Ray Data tasks, one diffusion map on the driver."""

import logging

import numpy as np
import pyarrow as pa

from boldstream.analysis.roi_statistics import RoiStatistics
from boldstream.artifacts.cohort import Cohort, iter_timeseries, open_cohort
from boldstream.artifacts.gradient import find_gradient, publish_gradient
from boldstream.artifacts.manifest import Parent
from boldstream.cluster import connect
from boldstream.errors import CohortError
from boldstream.gradients.config import GradientConfig
from boldstream.parcellation.gradients import MeanConnectivity, diffusion_gradient, functional_connectivity
from boldstream.progress import Progress
from boldstream.refs import GradientRef
from boldstream.storage import Warehouse
from boldstream.tracking import JobRun, job_run

logger = logging.getLogger(__name__)


def fit_gradient(config: GradientConfig) -> GradientRef:
    """Compute the functional gradient of a cohort: a diffusion map of its mean connectivity.

    The mean is over Fisher's z of every scan's Pearson correlations. The same command again returns what is there.

    Raises
    ------
    CohortError
        If the cohort is not there or not whole, or has no statistics for ``scans: training``.
    GradientError
        If there are not more regions than components, or a region never varies.
    OutputExistsError
        If the gradient exists and was made with other settings.
    """
    cohort = open_cohort(config.cohort, config.warehouse)
    warehouse = Warehouse.at(config.warehouse)
    identity = {"cohort": cohort.ref.pointer, "n_components": config.n_components, "alpha": config.alpha}
    if config.scans != "all":
        identity["scans"] = config.scans
    with job_run("gradients", config.output, config) as run:
        run.log_parent(cohort.ref, cohort.manifest.rows)
        if ref := find_gradient(warehouse, config.output, identity):
            logger.info("gradients: %s is there already", ref.pointer)
            run.log_output(ref)
            return ref
        if config.scans == "training":
            connectivity = _of_training_scans(cohort)
        else:
            connect(config.cluster)
            connectivity = mean_connectivity(cohort, run)
        values = diffusion_gradient(connectivity, config.n_components, config.alpha)
        ref, manifest = publish_gradient(
            warehouse,
            config.output,
            values,
            atlas=cohort.atlas,
            roi_names=cohort.roi_names,
            config=config.model_dump(mode="json"),
            identity=identity,
            parents=[Parent.of(cohort.ref)],
            mlflow_run_id=run.run_id,
        )
        run.log_output(ref, manifest)
        return ref


def _of_training_scans(cohort: Cohort) -> np.ndarray:
    """Return the mean connectivity that the cohort carries, (n_rois, n_rois)."""
    data = cohort.statistics()
    if data is None:
        raise CohortError(
            f"cohort {cohort.label} has no statistics of its training scans: it was made by an earlier boldstream; "
            "ingest it again under a new name, or take scans: all"
        )
    return RoiStatistics.from_bytes(data).connectivity().result()


def mean_connectivity(cohort: Cohort, run: JobRun) -> np.ndarray:
    """Return the mean functional connectivity of a cohort, (n_rois, n_rois), a file a task."""
    n_rois = len(cohort.roi_names)
    dataset = cohort.read(["timeseries", "n_timepoints", "n_rois"]).map_batches(
        connectivity_of_block, batch_format="pyarrow", batch_size=None
    )
    # Sums in the files' order, whatever the order in which tasks end: the same gradient every time.
    dataset.context.execution_options.preserve_order = True
    total = MeanConnectivity(n_rois)
    progress = Progress(run, "gradients", cohort.manifest.rows)
    for row in dataset.iter_rows():
        part = MeanConnectivity(n_rois)
        part.z_sum = np.asarray(row["z_sum"]).reshape(n_rois, n_rois)
        part.count = np.asarray(row["count"]).reshape(n_rois, n_rois)
        total.merge(part)
        progress.add(row["n_scans"])
    progress.close()
    return total.result()


def connectivity_of_block(batch: pa.Table) -> pa.Table:
    """Sum the connectivity of a block's scans; one row with the two (n_rois * n_rois) arrays."""
    total = MeanConnectivity(batch["n_rois"][0].as_py())
    for timeseries in iter_timeseries(batch):
        total.add(functional_connectivity(timeseries))
    return pa.table({"z_sum": [total.z_sum.ravel()], "count": [total.count.ravel()], "n_scans": [batch.num_rows]})

"""Scans of made-up people: their brain's regions and connectivity, and one scan as if it had been read."""

import hashlib

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from boldstream.artifacts.cohort import Cohort, iter_timeseries, open_cohort
from boldstream.errors import AtlasError, SourceError, StorageError
from boldstream.ingest.config import IngestConfig
from boldstream.ingest.plan import ScanPlan
from boldstream.ingest.read import ReadScan
from boldstream.parcellation.atlas import NUMBERED, Atlas, check_same
from boldstream.parcellation.atlas_catalog import catalog_entry, load_region_names
from boldstream.parcellation.gradients import MeanConnectivity, functional_connectivity
from boldstream.refs import CohortRef
from boldstream.storage import filesystem, read_bytes
from boldstream.synthesis import Brain, SyntheticSpec, draw_person, draw_scan, make_brain
from boldstream.synthesis.connectivity import (
    MATRIX_SUFFIXES,
    model_connectivity,
    read_connectivity,
    with_mixtures_before,
)

N_SCANS = 200
"""So many scans of a cohort give its mean connectivity."""


def name_regions(config: IngestConfig) -> Atlas:
    """Return the regions of made-up people: those of a known atlas or a table of names, else so many with a side.

    Raises
    ------
    AtlasError
        If the atlas is unknown and `synthetic.n_rois` does not say how many regions, or says something else.
    """
    n_rois = config.synthetic.n_rois
    if config.atlas_labels or catalog_entry(config.atlas) is not None or config.atlas in NUMBERED:
        atlas = load_region_names(config.atlas, config.atlas_labels)
        if n_rois not in (None, atlas.n_rois):
            raise AtlasError(f"synthetic.n_rois is {n_rois}, atlas {config.atlas!r} has {atlas.n_rois} regions")
        return atlas
    if n_rois is None:
        raise AtlasError(
            f"atlas {config.atlas!r} is unknown: say how many regions to make up (synthetic.n_rois), or name them "
            "(atlas_labels)"
        )
    left = (n_rois + 1) // 2
    names = [f"LH-{i:03d}" for i in range(1, left + 1)] + [f"RH-{i:03d}" for i in range(1, n_rois - left + 1)]
    return Atlas(config.atlas, tuple(names))


def load_brain(config: IngestConfig, atlas: Atlas) -> tuple[Brain, CohortRef | None]:
    """Return what all made-up people have in common, and the cohort that it is taken from, if it is.

    A matrix that lacks the regions before Schaefer's cortex is filled up with mixtures of the cortex.

    Raises
    ------
    SourceError
        If the connectivity cannot be read or has another number of regions.
    AtlasError, CohortError
        If it is to come from a cohort that is not there, or has other regions.
    """
    where, parent = config.synthetic.connectivity, None
    if not where:
        found = model_connectivity(atlas.roi_names)
    elif where.endswith(MATRIX_SUFFIXES):
        try:
            found = read_connectivity(read_bytes(where), where)
        except StorageError as error:
            raise SourceError(f"synthetic.connectivity: {error}") from None
        entry = catalog_entry(config.atlas)
        if entry and 0 < entry.n_before == atlas.n_rois - len(found):
            found = with_mixtures_before(found, entry.n_before)
        if len(found) != atlas.n_rois:
            raise SourceError(
                f"synthetic.connectivity: {where} has {len(found)} regions, atlas {config.atlas!r} {atlas.n_rois}"
            )
    else:
        cohort = open_cohort(where, config.warehouse)
        found, parent = _of_cohort(cohort, atlas), cohort.ref
    return make_brain(found, config.synthetic), parent


def _of_cohort(cohort: Cohort, atlas: Atlas) -> NDArray[np.float64]:
    """Return the mean connectivity of a cohort's first scans by file."""
    check_same(atlas, Atlas(cohort.atlas, cohort.roi_names), where="source synthetic", other=f"cohort {cohort.label!r}")
    mean, n_scans = MeanConnectivity(atlas.n_rois), 0
    for file in sorted(cohort.files, key=lambda file: file.uri):
        fs, path = filesystem(file.uri)
        rows = pq.read_table(path, columns=["timeseries", "n_timepoints", "n_rois"], filesystem=fs)
        for values in iter_timeseries(rows.slice(0, N_SCANS - n_scans)):
            mean.add(functional_connectivity(values))
            n_scans += 1
        if n_scans >= N_SCANS:
            break
    return mean.result()


def make_scan(plan: ScanPlan, spec: SyntheticSpec, brain: Brain) -> ReadScan:
    """Draw the scan that a plan names; its digest is that of its values."""
    known = plan.values
    person = draw_person(int(known["subject"]), spec, brain.n_modes)
    values = draw_scan(person, int(known["session"]), brain, spec, known["t_r"])
    return ReadScan(values, sha256=hashlib.sha256(values.tobytes()).hexdigest())

"""Which regions a cohort has, in which order, and how the source's data come to it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from boldstream.errors import AtlasError, ScanError, StorageError
from boldstream.ingest.config import IngestConfig
from boldstream.ingest.plan import ScanPlan
from boldstream.parcellation.atlas import NUMBERED, Atlas, numbered_atlas
from boldstream.parcellation.atlas_catalog import catalog_entry, load_label_volume, load_ordering, load_region_names
from boldstream.parcellation.label_volume import LabelVolume
from boldstream.parcellation.xcpd import read_xcpd
from boldstream.refs import CohortRef
from boldstream.storage import read_bytes

if TYPE_CHECKING:
    from boldstream.parcellation.cifti import CiftiLabels
    from boldstream.synthesis import Brain

DLABEL = ".dlabel.nii"
MNI = "MNI152"


@dataclass(frozen=True, eq=False)
class Regions:
    """The regions of a cohort and of its source.

    Attributes
    ----------
    atlas : Atlas
        The cohort's.
    source : Atlas
        Regions as the source's data have them.
    order : array of int64, shape (n_rois,), or None
        Column ``order[j]`` of the source is column ``j`` of the cohort; None: as they are.
    volume : LabelVolume or None
        Where volumes are averaged.
    grayordinates : CiftiLabels or None
        Where dense CIFTI series are averaged.
    notes : tuple of str
        What was done to the order, for the manifest.
    brain : Brain or None
        Of people who are made up.
    parent : CohortRef or None
        The cohort that their connectivity is taken from.
    """

    atlas: Atlas
    source: Atlas
    order: NDArray[np.int64] | None = None
    volume: LabelVolume | None = None
    grayordinates: "CiftiLabels | None" = None
    notes: tuple[str, ...] = ()
    brain: "Brain | None" = None
    parent: CohortRef | None = None

    @property
    def digest(self) -> str | None:
        """What tells two images of the same regions apart; None where there is no image."""
        image = self.volume or self.grayordinates
        return image.digest if image else None


def load_regions(config: IngestConfig, plans: Sequence[ScanPlan]) -> Regions:
    """Return the regions of a cohort, from its atlas or, where that is no file and no known name, from a scan.

    Raises
    ------
    AtlasError
        If the atlas is unknown, cannot be fetched, or does not fit the kind of source.
    """
    kind = config.source.kind
    if kind == "synthetic":
        from boldstream.ingest.synthetic_scan import load_brain, name_regions

        atlas = name_regions(config)
        brain, parent = load_brain(config, atlas)
        return Regions(atlas, atlas, brain=brain, parent=parent)
    if kind == "fmriprep":
        volume = load_label_volume(
            config.atlas,
            config.atlas_file,
            config.atlas_labels,
            order=config.atlas_order,
            order_labels=config.atlas_order_labels,
        )
        notes = (*volume.notes, *_notes_on_space(volume, plans))
        return Regions(volume.atlas, volume.atlas, volume=volume, notes=notes)
    if kind == "cifti" and config.atlas_file:
        from boldstream.parcellation.cifti import read_dlabel

        if not config.atlas_file.endswith(DLABEL):
            raise AtlasError(f"atlas_file: dense CIFTI series need a {DLABEL}, not {config.atlas_file}")
        labels = read_dlabel(config.atlas_file, name=config.atlas)
        return Regions(labels.atlas, labels.atlas, grayordinates=labels)
    if config.atlas_file:
        raise AtlasError(f"atlas_file: series of kind {kind!r} are averaged already; remove it")
    return _ordered(_names(config, plans), config)


def _notes_on_space(volume: LabelVolume, plans: Sequence[ScanPlan]) -> list[str]:
    """Compare the template spaces of the scans with the atlas's, where both are known.

    The versions of MNI152 differ by a few millimetres: that is noted. Anything else is refused.
    """
    spaces = sorted({plan.space for plan in plans if plan.space} - {volume.space})
    if volume.space is None or not spaces:
        return []
    if foreign := [space for space in spaces if not (space.startswith(MNI) and volume.space.startswith(MNI))]:
        raise AtlasError(
            f"atlas {volume.atlas.name!r} is in space {volume.space}, scans are in {', '.join(foreign)}; choose "
            "scans by source.space, or give the atlas in their space: atlas_file"
        )
    return [f"the atlas is in space {volume.space}, scans are in {', '.join(spaces)}"]


def _names(config: IngestConfig, plans: Sequence[ScanPlan]) -> Atlas:
    """Return the region names of series."""
    by_name = catalog_entry(config.atlas) is not None or config.atlas in NUMBERED
    if config.atlas_labels or by_name:
        return load_region_names(config.atlas, config.atlas_labels)
    if config.source.kind in ("xcpd", "cifti"):
        return Atlas(config.atlas, _names_of_first(plans))
    return numbered_atlas(config.atlas)  # which refuses it


def _names_of_first(plans: Sequence[ScanPlan]) -> tuple[str, ...]:
    """Return the regions that the first readable series names."""
    problem = "there is no readable series"
    for plan in plans:
        if plan.problem:
            continue
        try:
            data = read_bytes(plan.source_uri)
            if plan.source_uri.endswith(".ptseries.nii"):
                from boldstream.parcellation.cifti import read_ptseries

                return read_ptseries(data).roi_names
            return read_xcpd(data, None).roi_names
        except (ScanError, StorageError) as error:
            problem = f"{plan.told_uri}: {plan.told(str(error))}"
    raise AtlasError(f"no region names are given (atlas_labels), and no series names them ({problem})")


def _ordered(source: Atlas, config: IngestConfig) -> Regions:
    """Return the regions of series, brought to the order that `atlas_order` tells."""
    if not config.atlas_order:
        return Regions(source, source)
    entry = catalog_entry(config.atlas)
    ordering = load_ordering(
        source, config.atlas_order, config.atlas_order_labels, n_fixed=entry.n_before if entry else 0
    )
    return Regions(ordering.target, ordering.source, ordering.order, notes=(ordering.note,))

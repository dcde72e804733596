"""Atlases by name: how many regions they have, who publishes them under which licence, and how they are read."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from boldstream.errors import AtlasError, did_you_mean
from boldstream.parcellation.atlas import NUMBERED, Atlas, numbered_atlas
from boldstream.parcellation.fetched_atlases import (
    SCHAEFER_NAME,
    fetch_aal,
    fetch_craddock,
    fetch_harvard_oxford,
    fetch_schaefer,
)
from boldstream.parcellation.label_table import read_label_table
from boldstream.parcellation.label_volume import LabelVolume, read_label_volume
from boldstream.parcellation.network_order import check_places, network_order
from boldstream.parcellation.permutation import (
    Ordering,
    apply_permutation,
    fix_first,
    permutation_between,
    read_permutation,
    select_regions,
)
from boldstream.parcellation.roi_order import N_SUBCORTICAL, check_names

CBIG = "github.com/ThomasYeoLab/CBIG"
SUBCORTEX = "github.com/yetianmed/subcortex"
FREE_CITED = "free with citation (Tian et al. 2020, doi 10.1038/s41593-020-00711-6)"
CRADDOCK = "CC BY-NC-SA (non-commercial)"
TO_17 = "cortex permuted from 7- to 17-network order"

Fetcher = Callable[[str, str | None], LabelVolume]
"""Takes the atlas's name and the folder of downloads."""


@dataclass(frozen=True)
class CatalogEntry:
    """What boldstream knows of an atlas.

    Attributes
    ----------
    name : str
    n_rois : int
    publisher : str
        Where it is published.
    licence : str
        As the publisher, or nilearn's description, says.
    fetch : callable or None
        How nilearn gets it; None: by file only.
    networks : {7, 17} or None
        Order of Schaefer's parcels; None where there are none.
    n_before : int
        Regions before Schaefer's.
    """

    name: str
    n_rois: int
    publisher: str
    licence: str
    fetch: Fetcher | None = None
    networks: Literal[7, 17] | None = None
    n_before: int = 0


def catalog_entry(name: str) -> CatalogEntry | None:
    """Return what is known of an atlas, None if its name is unknown."""
    if match := SCHAEFER_NAME.fullmatch(name):
        networks: Literal[7, 17] = 7 if match["networks"] == "7" else 17
        return CatalogEntry(name, int(match["n"]), CBIG, "MIT", fetch_schaefer, networks)
    return FIXED.get(name)


def load_region_names(name: str, labels: str | Path | None = None, cache: str | None = None) -> Atlas:
    """Return an atlas's region names in order, without its volume where that is possible.

    Parameters
    ----------
    name : str
    labels : path, optional
        File for `read_label_table`; needed where `name` is neither numbered nor to be fetched.
    cache : str, optional
        Folder of nilearn's downloads.

    Raises
    ------
    AtlasError
        If the table cannot be used, the name is unknown, or the atlas cannot be fetched.
    """
    if labels:
        atlas = Atlas(name=name, roi_names=read_label_table(labels).names)
        entry = catalog_entry(name)
        if entry and entry.n_rois != atlas.n_rois:
            raise AtlasError(f"{labels}: names {atlas.n_rois} regions, atlas {name!r} has {entry.n_rois}")
        return atlas
    return numbered_atlas(name) if name in NUMBERED else load_label_volume(name, cache=cache).atlas


def load_label_volume(
    name: str,
    path: str | Path | None = None,
    labels: str | Path | None = None,
    cache: str | None = None,
    *,
    order: str | Path | None = None,
    order_labels: str | Path | None = None,
) -> LabelVolume:
    """Return an atlas by name, fetched by nilearn, or by file.

    Parameters
    ----------
    name : str
        One of the catalog's, or any other if `path` is given.
    path, labels : path, optional
        Image of labels and its table, as in `read_label_volume`.
    cache : str, optional
        Folder of nilearn's downloads; empty: nilearn's own (``~/nilearn_data``, or ``$NILEARN_DATA``).
    order, order_labels : path, optional
        For an atlas in 17-network order whose file is in 7-network order: the permutation (``.npy``, ``.txt``) with
        the table of names in the new order, or the cortex in 17-network order (``.nii.gz``) with its table. Without
        them the cortex in that order is fetched.

    Raises
    ------
    AtlasError
        If the name is unknown, the atlas cannot be fetched, files cannot be used, or regions are in another order
        than the name says.
    """
    entry = catalog_entry(name)
    if path is None or path == "":
        volume = _fetch(name, entry, cache)
    else:
        if entry and entry.networks and not labels:
            raise AtlasError(
                f"{path}: nothing tells in which order the regions of atlas {name!r} are; give the table of the "
                "image's labels: atlas_labels"
            )
        volume = read_label_volume(path, name=name, labels_table=labels or None)
    where = str(path or f"atlas {name!r}")
    if entry and volume.n_rois != entry.n_rois:
        raise AtlasError(f"{where}: has {volume.n_rois} regions, atlas {name!r} has {entry.n_rois}")
    if entry and entry.networks:
        volume = _in_order(volume, entry, where, cache, order, order_labels)
    elif order:
        raise AtlasError(f"atlas {name!r} is not in 17-network order: there is no use for {order}")
    return volume


def _fetch(name: str, entry: CatalogEntry | None, cache: str | None) -> LabelVolume:
    """Return an atlas that nilearn gets, from its cache or from the network."""
    if entry is None:
        names = [*FIXED, "schaefer400_7n", "schaefer400_17n"]
        hint = did_you_mean(name, names)
        raise AtlasError(
            f"atlas {name!r} has no volume by that name{f' ({hint})' if hint else ''}; known: {', '.join(FIXED)}, "
            "schaefer<100-1000>_7n, schaefer<100-1000>_17n; give any other as atlas_file and atlas_labels"
        )
    if entry.fetch is None:
        raise AtlasError(
            f"atlas {name!r} comes by file only: get it from {entry.publisher} ({entry.licence}) and give its image as "
            "atlas_file and its region names as atlas_labels"
        )
    try:
        return entry.fetch(name, cache)
    except (OSError, ValueError) as error:  # requests' errors are OSErrors; nilearn raises ValueError on its cache
        reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"[:100]
        raise AtlasError(
            f"atlas {name!r} could not be fetched by nilearn from {entry.publisher} ({reason}); "
            "where there is no network, give its image as atlas_file and its region names as atlas_labels"
        ) from None


def _in_order(
    volume: LabelVolume,
    entry: CatalogEntry,
    where: str,
    cache: str | None,
    order: str | Path | None,
    order_labels: str | Path | None,
) -> LabelVolume:
    """Return a volume with Schaefer's parcels in the order that the catalog says, or refuse it."""
    found = network_order(volume.atlas)
    if found is None:
        raise AtlasError(f"{where}: no region has a name of Schaefer's (first {volume.atlas.roi_names[0]!r})")
    if found == entry.networks and order:
        raise AtlasError(f"{where}: is in {found}-network order already: there is no use for {order}")
    if found == 17 and entry.networks == 7:
        raise AtlasError(f"{where}: is in 17-network order; name it {entry.name.replace('_7n', '_17n')!r}")
    if found == 7 and entry.networks == 17:
        ordering = _ordering(volume, entry, cache, order, order_labels)
        volume = apply_permutation(volume, ordering.order, ordering.target, note=ordering.note)
    if entry.networks == 17:
        check_places(volume, where)
    if entry.n_before == N_SUBCORTICAL:
        check_names(volume.atlas)
    return volume


def _ordering(
    volume: LabelVolume,
    entry: CatalogEntry,
    cache: str | None,
    order: str | Path | None,
    order_labels: str | Path | None,
) -> Ordering:
    """Return how a volume in 7-network order comes to 17-network order."""
    if order and not str(order).endswith((".nii", ".nii.gz")):
        return load_ordering(volume.atlas, order, order_labels, n_fixed=entry.n_before)
    n_cortical = entry.n_rois - entry.n_before
    name = f"schaefer{n_cortical}_17n"
    if order and not order_labels:
        raise AtlasError(f"{order}: give the table of its labels: atlas_order_labels")
    # loaded by its own name, the cortex is checked to be in 17-network order
    try:
        seventeen = load_label_volume(name, order, order_labels, cache)
    except AtlasError as error:
        raise AtlasError(
            f"atlas {entry.name!r} is in 17-network order and its file in 7-network order; what tells the permutation "
            f"(atlas_order with atlas_order_labels) is not usable: {error}"
        ) from None
    cortex = permutation_between(select_regions(volume, entry.n_before), seventeen)
    names = (*volume.atlas.roi_names[: entry.n_before], *seventeen.atlas.roi_names)
    return Ordering(fix_first(cortex, entry.n_before), volume.atlas, Atlas(entry.name, names), TO_17)


def load_ordering(
    source: Atlas, order: str | Path, labels: str | Path | None, *, n_fixed: int = 0, note: str = TO_17
) -> Ordering:
    """Return how series or volumes in one order come to another, from a permutation's file.

    Parameters
    ----------
    source : Atlas
        Region names in the order that the data have.
    order : path
        File for `read_permutation`.
    labels : path
        Table of the names in the new order; for all regions, or without the first `n_fixed`.
    n_fixed : int
        Regions at the beginning that stay where they are (Tian's, before the cortex).
    note : str

    Raises
    ------
    AtlasError
        If files cannot be used, or names contradict the permutation.
    """
    if not labels:
        raise AtlasError(f"{order}: give the table of the region names in the new order too: atlas_order_labels")
    names = read_label_table(labels).names
    if n_fixed and len(names) == source.n_rois - n_fixed:
        names = (*source.roi_names[:n_fixed], *names)
    permutation = read_permutation(order, source.n_rois, n_fixed=n_fixed)
    return Ordering(permutation, source, Atlas(source.name, names), note)


FIXED = {
    entry.name: entry
    for entry in (
        CatalogEntry("schaefer400_tian_s3", 450, f"{SUBCORTEX} and {CBIG}", f"MIT; {FREE_CITED}", None, 17, 50),
        *(CatalogEntry(f"tian_s{s}", n, SUBCORTEX, FREE_CITED) for s, n in ((1, 16), (2, 32), (3, 50), (4, 54))),
        CatalogEntry("cc200", 200, "nitrc.org/projects/cluster_roi", CRADDOCK, fetch_craddock),
        CatalogEntry("cc400", 392, "nitrc.org/projects/cluster_roi", CRADDOCK, fetch_craddock),
        CatalogEntry("aal", 116, "gin.cnrs.fr/en/tools/aal", "see publisher", fetch_aal),
        CatalogEntry("aal3", 166, "gin.cnrs.fr/en/tools/aal", "see publisher", fetch_aal),
        CatalogEntry("harvard_oxford", 96, "fsl.fmrib.ox.ac.uk", "FSL licence (non-commercial)", fetch_harvard_oxford),
    )
}
"""Atlases by name, besides ``schaefer<N>_7n`` and ``schaefer<N>_17n``."""

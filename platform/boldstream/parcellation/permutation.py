"""Bring regions into another atlas's order: Schaefer's parcels are numbered one way for 7 networks, another for 17.

A permutation `order` has one entry for every region of the target: region ``order[j]`` of the source is region ``j``
of the target.
"""

import io
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from boldstream.errors import AtlasError
from boldstream.parcellation.atlas import Atlas
from boldstream.parcellation.label_volume import LabelVolume
from boldstream.parcellation.network_order import check_networks_kept

LEAST_DICE = 0.8
"""Least overlap of two parcels that count as one. Above 2/3, a parcel cannot match two others that are disjoint, so
with equally many parcels on both sides the match is one to one."""

MESH_MM = 1e-3
"""Largest difference of affines that count as one grid."""


@dataclass(frozen=True, eq=False)
class Ordering:
    """How the regions of one atlas become those of another, checked by the names on both sides.

    Attributes
    ----------
    order : array of int64, shape (n_rois,)
        Region ``order[j]`` of `source` is region ``j`` of `target`.
    source, target : Atlas
    note : str
        What it does, for the cohort's manifest.

    Raises
    ------
    AtlasError
        If `order` is no permutation of the regions, or takes regions to another hemisphere or other networks.
    """

    order: NDArray[np.int64]
    source: Atlas
    target: Atlas
    note: str

    def __post_init__(self) -> None:
        begin = f"order of {self.target.name!r} from {self.source.name!r}"
        if self.source.n_rois != self.target.n_rois:
            raise AtlasError(f"{begin}: {self.source.n_rois} regions cannot become {self.target.n_rois}")
        check_permutation(self.order, self.source.n_rois, where=begin)
        check_networks_kept(self.source, self.target, self.order)


def check_permutation(order: NDArray[np.integer], n_rois: int, *, where: str) -> None:
    """Refuse an order that does not have every number from 0 to n_rois - 1 once.

    Raises
    ------
    AtlasError
    """
    if order.shape != (n_rois,):
        raise AtlasError(f"{where}: has shape {order.shape}, the atlas {n_rois} regions")
    outside = order[(order < 0) | (order >= n_rois)]
    if outside.size:
        raise AtlasError(f"{where}: {outside[0]} is no region; a permutation counts from 0 to {n_rois - 1}")
    counts = np.bincount(order, minlength=n_rois)
    if (counts != 1).any():
        twice, never = np.flatnonzero(counts > 1)[0], np.flatnonzero(counts == 0)[0]
        raise AtlasError(f"{where}: is no permutation, {twice} stands {counts[twice]} times and {never} never")


def read_permutation(path: str | Path, n_rois: int, *, n_fixed: int = 0) -> NDArray[np.int64]:
    """Read a permutation from a ``.npy`` file, or from a ``.txt`` file with whole numbers between blanks or lines.

    It counts from 0, or throughout from 1.

    Parameters
    ----------
    path : path
    n_rois : int
        Regions of the atlas.
    n_fixed : int
        The file may leave the first `n_fixed` regions out, which then stay where they are (the subcortex, in a file
        for the cortex).

    Returns
    -------
    array of int64, shape (n_rois,)

    Raises
    ------
    AtlasError
        If the file cannot be read or holds no permutation of so many regions.
    """
    path = Path(path)
    try:
        if path.suffix == ".npy":
            found = np.load(io.BytesIO(path.read_bytes()), allow_pickle=False)
        elif path.suffix == ".txt":
            found = np.array(path.read_text(encoding="utf-8-sig").split(), dtype=np.int64)
        else:
            raise AtlasError(f"{path}: a permutation comes in a .npy or .txt file, not {path.suffix!r}")
    except (OSError, EOFError, ValueError, OverflowError, zipfile.BadZipFile) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise AtlasError(f"{path}: cannot be read as a permutation ({reason})") from None
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "iu" or found.ndim != 1:
        raise AtlasError(f"{path}: a permutation is one list of whole numbers")
    order = found.astype(np.int64)
    if order.size and order.min() == 1 and order.max() == order.size:
        order -= 1
    if n_fixed and order.size == n_rois - n_fixed:
        check_permutation(order, n_rois - n_fixed, where=str(path))
        return fix_first(order, n_fixed)
    check_permutation(order, n_rois, where=str(path))
    return order


def fix_first(order: NDArray[np.int64], n_fixed: int) -> NDArray[np.int64]:
    """Put `n_fixed` regions that stay where they are before a permutation of the others."""
    return np.concatenate([np.arange(n_fixed, dtype=np.int64), order + n_fixed])


def permutation_between(a: LabelVolume, b: LabelVolume) -> NDArray[np.int64]:
    """Match the parcels of two atlases that differ in their numbers only, voxel by voxel.

    Parameters
    ----------
    a, b : LabelVolume
        On the same grid.

    Returns
    -------
    array of int64, shape (n_rois,)
        Region ``order[j]`` of `a` is region ``j`` of `b`: the one with the largest Dice overlap.

    Raises
    ------
    AtlasError
        If grids or numbers of regions differ, or a region of `b` overlaps none of `a` by a Dice of 0.8.
    """
    begin = f"atlases {a.atlas.name!r} and {b.atlas.name!r}"
    if a.n_rois != b.n_rois:
        raise AtlasError(f"{begin} have {a.n_rois} and {b.n_rois} regions: not the same parcels")
    if a.data.shape != b.data.shape or not np.allclose(a.affine, b.affine, rtol=0, atol=MESH_MM):
        raise AtlasError(
            f"{begin} are not on the same grid ({a.data.shape} and {b.data.shape} voxels, or other affines); take both "
            "in the same space and resolution. The permutation is the same in all of them"
        )
    rows_a, rows_b = _rows(a), _rows(b)
    n = a.n_rois
    both = (rows_a >= 0) & (rows_b >= 0)
    overlap = np.bincount(rows_b[both] * n + rows_a[both], minlength=n * n).reshape(n, n)
    size_a, size_b = (np.bincount(rows[rows >= 0], minlength=n) for rows in (rows_a, rows_b))
    dice = 2 * overlap / np.maximum(size_b[:, None] + size_a[None, :], 1)
    order = dice.argmax(axis=1)
    best = dice[np.arange(n), order]
    if (best < LEAST_DICE).any():
        worst = int(best.argmin())
        raise AtlasError(
            f"{begin}: {int((best < LEAST_DICE).sum())} of {n} regions have no counterpart; worst "
            f"{b.atlas.roi_names[worst]!r}, which overlaps {a.atlas.roi_names[order[worst]]!r} best, by a Dice of "
            f"{best[worst]:.2f} (at least {LEAST_DICE}): not the same parcels"
        )
    return order.astype(np.int64)


def _rows(volume: LabelVolume) -> NDArray[np.int64]:
    """Return the row of every voxel's region, -1 for background and labels that are no region."""
    labels = np.asarray(volume.labels)
    ascending = labels.argsort()
    flat = volume.data.ravel()
    at = np.minimum(np.searchsorted(labels[ascending], flat), len(labels) - 1)
    return np.where(labels[ascending][at] == flat, ascending[at], -1)


def apply_permutation(volume: LabelVolume, order: NDArray[np.int64], atlas: Atlas, *, note: str = "") -> LabelVolume:
    """Bring a volume's regions into another order; the image stays as it is.

    Parameters
    ----------
    volume : LabelVolume
    order : array of int64, shape (n_rois,)
    atlas : Atlas
        Region names in the new order.
    note : str
        What it was, for `LabelVolume.notes`; a plain sentence by default.

    Raises
    ------
    AtlasError
        As `Ordering`.
    """
    note = note or f"regions permuted from the order of {volume.atlas.name} to that of {atlas.name}"
    ordering = Ordering(order, volume.atlas, atlas, note)
    labels = tuple(volume.labels[i] for i in ordering.order)
    return replace(volume, atlas=atlas, labels=labels, notes=(*volume.notes, note))


def reorder_columns(values: NDArray[np.float32], order: NDArray[np.int64]) -> NDArray[np.float32]:
    """Bring the columns of a series, shape (n_timepoints, n_rois), into the target's order.

    Raises
    ------
    AtlasError
        If the series has another number of regions than `order`.
    """
    if values.ndim != 2 or values.shape[1] != len(order):
        raise AtlasError(f"a series of shape {values.shape} cannot take an order of {len(order)} regions")
    return np.ascontiguousarray(values[:, order])


def select_regions(volume: LabelVolume, first: int) -> LabelVolume:
    """Return the regions from number `first` (from 0) on; the others' voxels stay in the image, as no region."""
    atlas = Atlas(name=volume.atlas.name, roi_names=volume.atlas.roi_names[first:])
    return replace(volume, atlas=atlas, labels=volume.labels[first:])

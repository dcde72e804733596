"""Series from CIFTI-2 files: parcels as they are, grayordinates averaged over an atlas's labels."""

import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.parsers.expat import ExpatError

import numpy as np
from nibabel.cifti2 import BrainModelAxis, Cifti2HeaderError, Cifti2Image, LabelAxis, ParcelsAxis, SeriesAxis
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError, HeaderTypeError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray
from scipy import sparse

from boldstream.errors import AtlasError, ScanError, first_line
from boldstream.parcellation.atlas import Atlas

NO_REGION = "???"
BLOCK_BYTES = 1 << 24
MIN_ROIS_IN_VIEW = 0.5
"""A file that holds grayordinates of a smaller share of the regions is in another space than the atlas."""

DAMAGED = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    Cifti2HeaderError,
    ExpatError,
    HeaderDataError,
    HeaderTypeError,
    ImageFileError,
    LookupError,
    MemoryError,
    OSError,
    TypeError,
    ValueError,
    WrapStructError,
)
"""What nibabel raises on damaged files (found by feeding it such files)."""


@dataclass(frozen=True)
class CiftiSeries:
    """One scan's series from a CIFTI file.

    Attributes
    ----------
    values : array of float32, shape (n_timepoints, n_rois)
    roi_names : tuple of str
        Region of every column.
    t_r : float or None
        Seconds between timepoints; None where the file says 0.
    coverage : array of float32, shape (n_rois,), or None
        Share of each region's grayordinates with signal, 0 to 1; None where the file holds parcels.
    """

    values: NDArray[np.float32]
    roi_names: tuple[str, ...]
    t_r: float | None
    coverage: NDArray[np.float32] | None


@dataclass(frozen=True)
class LabelledStructure:
    """An atlas's labels in one structure of the brain (``CIFTI_STRUCTURE_CORTEX_LEFT``).

    Attributes
    ----------
    places : array of int
        Vertices, shape (n,), or voxels, shape (n, 3).
    rois : array of int, shape (n,)
        Region of each place, counted from 0; -1 for none.
    n_vertices : int or None
        Of the whole surface; None for voxels.
    """

    places: NDArray[np.int64]
    rois: NDArray[np.int64]
    n_vertices: int | None


@dataclass(frozen=True)
class CiftiLabels:
    """An atlas of grayordinates, as a .dlabel.nii holds it.

    Attributes
    ----------
    atlas : Atlas
        Region names by ascending key of the label table.
    labels : tuple of int
        Those keys.
    structures : dict of str to LabelledStructure
    affine : array of float64, shape (4, 4), or None
        Voxel indices to millimetres; None where there are no voxels.
    """

    atlas: Atlas
    labels: tuple[int, ...]
    structures: dict[str, LabelledStructure]
    affine: NDArray[np.float64] | None

    @property
    def digest(self) -> str:
        """The sha256 of where every region is."""
        parts = [name.encode() + s.places.tobytes() + s.rois.tobytes() for name, s in sorted(self.structures.items())]
        return hashlib.sha256(b"".join(parts)).hexdigest()


def read_ptseries(data: bytes) -> CiftiSeries:
    """Read a .ptseries.nii: a series of every parcel.

    Raises
    ------
    ScanError
        ``unreadable`` if it is none, is damaged, or does not count in seconds.
    """
    image, series, parcels = _open_scan(data, ParcelsAxis, ".ptseries.nii")
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(_read(image, slice(None)), dtype=np.float32)
    return CiftiSeries(values, tuple(map(str, parcels.name)), _t_r(series), None)


def extract_dtseries(data: bytes, labels: CiftiLabels) -> CiftiSeries:
    """Average a .dtseries.nii over the regions of an atlas.

    Grayordinates are matched by structure and vertex or voxel. Those without signal (not finite at some timepoint, or
    the same value at all of them) are left out of the mean and of `coverage`; a region without any is 0 throughout.

    Parameters
    ----------
    data : bytes
    labels : CiftiLabels

    Raises
    ------
    ScanError
        ``unreadable`` if it is none, is damaged, or does not count in seconds; ``other_space`` if its surfaces or
        voxels are not the atlas's, or it lacks more than half of the regions.
    """
    image, series, models = _open_scan(data, BrainModelAxis, ".dtseries.nii")
    roi_of = _match(models, labels)
    n_timepoints, n_rois = series.size, labels.atlas.n_rois
    n_present = len(np.unique(roi_of[roi_of >= 0]))
    if n_present < max(MIN_ROIS_IN_VIEW * n_rois, 1):
        raise ScanError(
            "other_space", f"{n_present} of {n_rois} regions of {labels.atlas.name} have grayordinates in the file"
        )
    sums, n_used = np.zeros((n_rois, n_timepoints)), np.zeros(n_rois)
    step = max(1, BLOCK_BYTES // (8 * n_timepoints))
    for start in range(0, len(roi_of), step):
        rois = roi_of[start : start + step]
        if (rois < 0).all():
            continue
        x = _read(image, slice(start, start + len(rois))).T  # a grayordinate's series lies in one piece of the file
        signal = np.isfinite(x).all(axis=1)
        signal &= (x != x[:, :1]).any(axis=1) if n_timepoints > 1 else x[:, 0] != 0
        used = np.flatnonzero(signal & (rois >= 0))
        pick = sparse.csr_array((np.ones(len(used)), (rois[used], used)), shape=(n_rois, len(rois)))
        sums += pick @ np.where(signal[:, None], x, 0)
        n_used += np.bincount(rois[used], minlength=n_rois)
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray((sums / np.maximum(n_used, 1)[:, None]).T, dtype=np.float32)
    n_all = sum(np.bincount(part.rois[part.rois >= 0], minlength=n_rois) for part in labels.structures.values())
    return CiftiSeries(values, labels.atlas.roi_names, _t_r(series), (n_used / n_all).astype(np.float32))


def read_dlabel(path: str | Path, *, name: str | None = None) -> CiftiLabels:
    """Read an atlas of grayordinates from a .dlabel.nii with one map.

    Label 0, labels called ``???`` and labels that no grayordinate has are no regions.

    Parameters
    ----------
    path : path
    name : str, optional
        Name of the atlas; the file's name by default.

    Raises
    ------
    AtlasError
        If the file cannot be read, is no such file, holds several maps, or labels that its table does not name.
    """
    path = Path(path)
    try:
        image = _load(path.read_bytes())
        axes = [image.header.get_axis(i) for i in range(image.ndim)]
        if not (len(axes) == 2 and isinstance(axes[0], LabelAxis) and isinstance(axes[1], BrainModelAxis)):
            raise ValueError(f"holds {_kinds(axes)}, not a .dlabel.nii's LabelAxis, BrainModelAxis")
        _check_shape(image, axes)
        keys = np.asarray(image.dataobj)
    except DAMAGED as error:
        raise AtlasError(f"{path}: cannot be read ({first_line(error)})") from None
    if len(keys) != 1:
        raise AtlasError(
            f"{path}: holds {len(keys)} maps ({', '.join(axes[0].name)}); save the one that you want alone"
        )
    table = {int(key): str(label[0]) for key, label in axes[0].label[0].items()}
    used = np.unique(keys)
    if unnamed := [f"{key:g}" for key in used if key != 0 and key not in table]:
        raise AtlasError(f"{path}: labels {', '.join(unnamed[:3])} are not in its table of {len(table)} names")
    found = tuple(key for key in sorted(table) if key != 0 and table[key] != NO_REGION and key in used)
    try:
        atlas = Atlas(name or path.name.removesuffix(".dlabel.nii"), tuple(table[key] for key in found))
    except AtlasError as error:
        raise AtlasError(f"{path}: {error}") from None
    rois = np.full(keys.shape[1], -1)
    for roi, key in enumerate(found):
        rois[keys[0] == key] = roi
    structures = {
        structure: LabelledStructure(places, rois[part], n_vertices)
        for structure, part, places, n_vertices in _structures(axes[1])
    }
    return CiftiLabels(atlas, found, structures, axes[1].affine)


def _match(models: BrainModelAxis, labels: CiftiLabels) -> NDArray[np.int64]:
    """Return the region of every grayordinate of a scan, -1 for none."""
    roi_of = np.full(len(models), -1)
    for structure, part, places, n_vertices in _structures(models):
        theirs = labels.structures.get(structure)
        if theirs is None:
            continue
        if n_vertices != theirs.n_vertices:
            kinds = [f"{n} vertices" if n else "voxels" for n in (n_vertices, theirs.n_vertices)]
            raise ScanError("other_space", f"{structure} has {kinds[0]}, {labels.atlas.name} {kinds[1]} there")
        if n_vertices is None and labels.affine is not None and not np.allclose(models.affine, labels.affine):
            grids = [affine[:3].round(2).tolist() for affine in (models.affine, labels.affine)]
            raise ScanError("other_space", f"its voxels lie by {grids[0]}, those of {labels.atlas.name} by {grids[1]}")
        wanted, known = _numbers(places), _numbers(theirs.places)
        order = np.argsort(known)
        at = order[np.searchsorted(known[order], wanted).clip(max=len(known) - 1)]
        roi_of[part] = np.where(known[at] == wanted, theirs.rois[at], -1)
    return roi_of


def _structures(models: BrainModelAxis) -> list[tuple[str, slice, NDArray[np.int64], int | None]]:
    """List name, place on the axis, vertices or voxels, and size of the surface of every structure."""
    found = []
    for name, part, model in models.iter_structures():
        n_vertices = models.nvertices.get(str(name))
        places = model.voxel if n_vertices is None else model.vertex
        found.append((str(name), part, np.asarray(places, dtype=np.int64), n_vertices))
    return found


def _numbers(places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return one number a place, also where places are three indices of a voxel."""
    return places if places.ndim == 1 else places @ np.array([1 << 40, 1 << 20, 1])


def _open_scan(data: bytes, columns: type, kind: str) -> tuple[Any, SeriesAxis, Any]:
    """Return image, time axis and the other axis of a scan."""
    try:
        image = _load(data)
        axes = [image.header.get_axis(i) for i in range(image.ndim)]
        if not (len(axes) == 2 and isinstance(axes[0], SeriesAxis) and isinstance(axes[1], columns)):
            raise ValueError(f"holds {_kinds(axes)}, not a {kind}'s SeriesAxis, {columns.__name__}")
        _check_shape(image, axes)
    except DAMAGED as error:
        raise ScanError("unreadable", first_line(error)) from None
    return image, axes[0], axes[1]


def _load(data: bytes) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that axes do not fit the shape: an error here
        return Cifti2Image.from_bytes(data)


def _check_shape(image: Any, axes: list[Any]) -> None:
    if image.shape != tuple(map(len, axes)):
        raise ValueError(f"its header describes {len(axes[0])} x {len(axes[1])} values, its data are {image.shape}")
    if not image.shape[0] or image.get_data_dtype().kind not in "iuf":
        raise ValueError(f"holds {image.get_data_dtype()} of shape {image.shape}, not a table of real numbers")


def _read(image: Any, columns: slice) -> NDArray[Any]:
    try:
        return np.asarray(image.dataobj[:, columns])
    except DAMAGED as error:
        raise ScanError("unreadable", first_line(error)) from None


def _t_r(series: SeriesAxis) -> float | None:
    if series.unit != "SECOND":
        raise ScanError("unreadable", f"its series axis counts in {series.unit}, not in seconds")
    return round(float(series.step), 9) if series.step > 0 else None


def _kinds(axes: list[Any]) -> str:
    return ", ".join(type(axis).__name__ for axis in axes)

"""Average the voxels of every region of an atlas over a 4-D image, without ever holding the image.

The voxels of the atlas are picked from a few volumes at a time, sorted by region, and summed region by region in
float64. `nilearn.maskers.NiftiLabelsMasker` gives the same numbers (see tests/benchmarks/parcellate.py).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from boldstream.errors import ScanError
from boldstream.parcellation.label_volume import LabelVolume
from boldstream.parcellation.volumes import ByteStream, ImageHeader, Unpacked, read_header, read_volumes

MIN_ROIS_IN_VIEW = 0.5
"""An image that holds voxels of a smaller share of the regions is in another space than the atlas."""


@dataclass(frozen=True)
class ExtractedSeries:
    """One scan's series, averaged from its voxels.

    Attributes
    ----------
    values : array of float32, shape (n_timepoints, n_rois)
        Mean over each region's voxels in the image; 0 where it has none (then `coverage` is 0 too).
    t_r : float or None
        Seconds between volumes; None where the header does not say.
    shape : tuple of int
        Voxels of a volume (X, Y, Z).
    zooms : tuple of float
        Size of a voxel in mm.
    affine : array of float64, shape (4, 4)
        Voxel indices to millimetres.
    coverage : array of float32, shape (n_rois,)
        Share of each region that the image sees, 0 to 1: the share of the atlas's voxels inside the image's box,
        times the share of the image's voxels there that have signal (finite at every timepoint, and not the same
        value at all of them as outside a brain mask).
    tsnr : array of float32, shape (n_rois,)
        Median over each region's voxels with signal of temporal mean / temporal standard deviation; NaN where
        there are none.
    """

    values: NDArray[np.float32]
    t_r: float | None
    shape: tuple[int, int, int]
    zooms: tuple[float, float, float]
    affine: NDArray[np.float64]
    coverage: NDArray[np.float32]
    tsnr: NDArray[np.float32]


def extract_series(stream: ByteStream, volume: LabelVolume, *, n_at_once: int = 16) -> ExtractedSeries:
    """Average a 4-D NIfTI image over the regions of an atlas.

    The atlas is brought to the image's grid by nearest neighbour; the image is never resampled. Voxels that are NaN
    or infinite count as 0, as in nilearn; `coverage` tells of them.

    Parameters
    ----------
    stream : ByteStream
        A .nii or .nii.gz (told by its content) from its start; read once, forward.
    volume : LabelVolume
    n_at_once : int
        Volumes held at a time; fewer where they are large.

    Raises
    ------
    ScanError
        ``unreadable``, ``not_4d``, or ``other_space`` if under half of the regions have voxels in the image.
    """
    source = Unpacked(stream)
    header = read_header(source)
    blocks = read_volumes(source, header, n_at_once=n_at_once)
    first = next(blocks)  # before the atlas is resampled: a damaged header may ask for a huge grid
    picked = _pick(volume, header)
    means = [picked.add(first)]
    means.extend(picked.add(block) for block in blocks)
    values = np.zeros((header.n_timepoints, volume.atlas.n_rois), dtype=np.float32)
    with np.errstate(over="ignore"):
        values[:, picked.rois] = np.concatenate(means)
    signal, tsnr = picked.quality()
    inside = _share_in_view(volume, header)
    return ExtractedSeries(
        values=values,
        t_r=header.t_r,
        shape=header.shape,
        zooms=tuple(np.sqrt(np.square(header.affine[:3, :3]).sum(axis=0)).tolist()),
        affine=header.affine,
        coverage=(inside * signal).astype(np.float32),
        tsnr=tsnr.astype(np.float32),
    )


def resample_labels(volume: LabelVolume, shape: tuple[int, int, int], affine: NDArray[np.float64]) -> NDArray[np.int32]:
    """Bring an atlas to another grid by nearest neighbour, to the voxel as nilearn's ``resample_img`` does.

    Parameters
    ----------
    volume : LabelVolume
    shape : tuple of int
    affine : array, shape (4, 4)
        The grid.

    Returns
    -------
    array of int32, shape `shape`
        Labels; 0 outside the atlas.
    """
    if _same_grid(volume, shape, affine):
        return volume.data
    to_atlas = np.eye(4) if np.array_equal(volume.affine, affine) else np.linalg.inv(volume.affine) @ affine
    matrix, offset = to_atlas[:3, :3], to_atlas[:3, 3]
    if np.array_equal(np.diag(np.diag(matrix)), matrix):
        matrix = np.diag(matrix)
    labels = np.zeros(shape, dtype=np.int32, order="F")
    ndimage.affine_transform(volume.data, matrix, offset=offset, output_shape=shape, output=labels, order=0)
    return labels


def _same_grid(volume: LabelVolume, shape: tuple[int, int, int], affine: NDArray[np.float64]) -> bool:
    return volume.data.shape == shape and np.allclose(volume.affine, affine)


def _pick(volume: LabelVolume, header: ImageHeader) -> "_PickedVoxels":
    """Find the voxels of the regions in the image; refuse an image in which most regions have none."""
    labels = resample_labels(volume, header.shape, header.affine).ravel(order="F")
    voxels = np.flatnonzero(labels)
    roi_of = _roi_indices(labels[voxels], volume.labels)
    voxels, roi_of = voxels[roi_of >= 0], roi_of[roi_of >= 0]
    n_found, n_rois = len(np.unique(roi_of)), volume.atlas.n_rois
    if n_found < max(MIN_ROIS_IN_VIEW * n_rois, 1):
        raise ScanError(
            "other_space",
            f"{n_found} of {n_rois} regions of {volume.atlas.name} have voxels in the image (shape {header.shape}, "
            f"affine {header.affine[:3].round(2).tolist()}); is it in {volume.space or 'the space of the atlas'}?",
        )
    by_roi = np.argsort(roi_of, kind="stable")
    return _PickedVoxels(voxels[by_roi], roi_of[by_roi], n_rois, header)


def _roi_indices(labels: NDArray[np.int32], known: tuple[int, ...]) -> NDArray[np.intp]:
    """Return each label's place among the known ones, -1 where it is none of them."""
    sorter = np.argsort(known)
    ascending = np.asarray(known)[sorter]
    at = np.searchsorted(ascending, labels).clip(max=len(known) - 1)
    return np.where(ascending[at] == labels, sorter[at], -1)


def _share_in_view(volume: LabelVolume, header: ImageHeader) -> NDArray[np.float64]:
    """Return the share of each region's voxels in the atlas whose centre lies in the image's box."""
    if _same_grid(volume, header.shape, header.affine):
        return np.ones(volume.atlas.n_rois)
    voxels = np.argwhere(volume.data)
    roi_of = _roi_indices(volume.data[tuple(voxels.T)], volume.labels)
    voxels, roi_of = voxels[roi_of >= 0], roi_of[roi_of >= 0]
    to_image = np.linalg.inv(header.affine) @ volume.affine
    at = voxels @ to_image[:3, :3].T + to_image[:3, 3]
    # a box of half-voxels around the centres, a little wider: grids that are meant to be the same differ by rounding
    inside = ((at > -0.501) & (at < np.array(header.shape) - 0.499)).all(axis=1)
    n_rois = volume.atlas.n_rois
    n_all = np.bincount(roi_of, minlength=n_rois)
    return np.bincount(roi_of, weights=inside, minlength=n_rois) / np.maximum(n_all, 1)


class _PickedVoxels:
    """The atlas's voxels in an image, sorted by region, and what is known of their time courses so far.

    Parameters
    ----------
    voxels : array of int, shape (n_voxels,)
        Places in a volume.
    roi_of : array of int, shape (n_voxels,)
        Region of each, ascending.
    n_rois : int
    header : ImageHeader

    Attributes
    ----------
    rois : array of int, shape (n_found,)
        The regions that have voxels.
    """

    def __init__(self, voxels: NDArray[np.intp], roi_of: NDArray[np.intp], n_rois: int, header: ImageHeader) -> None:
        self.rois, self._starts, self._counts = np.unique(roi_of, return_index=True, return_counts=True)
        self._voxels, self._n_rois, self._header = voxels, n_rois, header
        # sums of differences from the first volume: squares of the values themselves would lose the digits
        self._first: NDArray[np.float64] | None = None
        self._sum = np.zeros(len(voxels))
        self._squares = np.zeros(len(voxels))
        self._finite = np.ones(len(voxels), dtype=bool)
        self._n_timepoints = 0

    def add(self, volumes: NDArray[Any]) -> NDArray[np.float64]:
        """Return the regions' means in some volumes, shape (n, n_found), and count their voxels in."""
        with np.errstate(over="ignore", invalid="ignore"):
            return self._add(volumes)

    def _add(self, volumes: NDArray[Any]) -> NDArray[np.float64]:
        header = self._header
        x = volumes.take(self._voxels, axis=1).astype(np.float64)
        slope, inter = header.slope, header.inter
        if header.dtype.kind == "f":
            # not after the sums: what is not finite counts as 0 after scaling
            if (slope, inter) != (1.0, 0.0):
                x *= slope
                x += inter
                slope, inter = 1.0, 0.0
            finite = np.isfinite(x)
            if not finite.all():
                self._finite &= finite.all(axis=0)
                x[~finite] = 0
        means = np.add.reduceat(x, self._starts, axis=1) / self._counts * slope + inter
        if self._first is None:
            self._first = x[0].copy()
        x -= self._first
        self._sum += x.sum(axis=0)
        self._squares += np.einsum("ij,ij->j", x, x)
        self._n_timepoints += len(x)
        return means

    def quality(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return each region's share of voxels with signal (0 where it has no voxel) and its tSNR (NaN there)."""
        assert self._first is not None
        scaled = self._header.dtype.kind != "f"
        slope, inter = (self._header.slope, self._header.inter) if scaled else (1.0, 0.0)
        shift = self._sum / self._n_timepoints
        with np.errstate(over="ignore", invalid="ignore"):
            sd = np.sqrt(np.maximum(self._squares / self._n_timepoints - shift**2, 0)) * abs(slope)
        mean = (self._first + shift) * slope + inter
        # in a single volume everything is constant; there zeros alone tell
        constant = (self._squares == 0) & ((self._n_timepoints > 1) | (mean == 0))
        signal = self._finite & ~constant
        share, tsnr = np.zeros(self._n_rois), np.full(self._n_rois, np.nan)
        share[self.rois] = np.add.reduceat(signal, self._starts, dtype=np.int64) / self._counts
        usable = signal & (sd > 0)
        ratio = np.divide(mean, sd, out=np.full(len(sd), np.nan), where=usable)
        for roi, start, count in zip(self.rois, self._starts, self._counts, strict=True):
            here = slice(start, start + count)
            if usable[here].any():
                tsnr[roi] = np.median(ratio[here][usable[here]])
        return share, tsnr

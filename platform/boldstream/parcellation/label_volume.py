"""A volume atlas: which voxel belongs to which region."""

import hashlib
import math
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boldstream.errors import AtlasError, few_of
from boldstream.parcellation.atlas import Atlas
from boldstream.parcellation.label_table import LabelTable, read_label_table
from boldstream.parcellation.volumes import MAX_VOXELS

ROUNDING = 1e-3
"""Farthest a stored label may lie from a whole number: a float32 scl_slope moves label 4802 by 3e-4."""

SHOWN = 10
SUFFIXES = (".nii", ".nii.gz")
SPACE = re.compile(r"(?:^|_)(?:tpl|space)-([A-Za-z0-9]+)|(MNI152NLin(?:6|2009[abc])(?:Asym|Sym))")


@dataclass(frozen=True, eq=False)
class LabelVolume:
    """An atlas as an image of labels.

    Attributes
    ----------
    atlas : Atlas
        Region names in the order of a cohort's columns.
    labels : tuple of int
        The label of every region in the image, in the order of `atlas`; 0 is background and no region.
    data : array of int32, shape (X, Y, Z)
        Labels by voxel.
    affine : array of float64, shape (4, 4)
        Voxel indices to millimetres (RAS+).
    space : str or None
        Template space the image is in (``MNI152NLin6Asym``), where it is known.
    notes : tuple of str
        What was done to the publisher's atlas, for the cohort's manifest.

    Raises
    ------
    AtlasError
        If regions and labels do not go together, or the data are not int32 in three dimensions.
    """

    atlas: Atlas
    labels: tuple[int, ...]
    data: NDArray[np.int32]
    affine: NDArray[np.float64]
    space: str | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        begin = f"atlas {self.atlas.name!r}"
        if len(self.labels) != self.atlas.n_rois:
            raise AtlasError(f"{begin} has {self.atlas.n_rois} region names for {len(self.labels)} labels")
        if len(set(self.labels)) != len(self.labels) or min(self.labels) < 1:
            raise AtlasError(f"{begin}: labels must be positive and stand once each")
        if self.data.dtype != np.int32 or self.data.ndim != 3:
            raise AtlasError(f"{begin}: labels by voxel are {self.data.dtype} {self.data.shape}, not int32 (X, Y, Z)")
        if self.affine.shape != (4, 4):
            raise AtlasError(f"{begin}: the affine has shape {self.affine.shape}, not (4, 4)")

    @property
    def n_rois(self) -> int:
        """Number of regions."""
        return self.atlas.n_rois

    @property
    def digest(self) -> str:
        """The sha256 of what decides a series: labels in order, labels by voxel, affine. Names are not in it."""
        affine = self.affine.astype("<f8") + 0.0  # -0.0 and 0.0 are the same place
        parts = (
            np.asarray(self.labels, dtype="<i8").tobytes(),
            np.asarray(self.data.shape, dtype="<i8").tobytes(),
            np.ascontiguousarray(self.data, dtype="<i4").tobytes(),
            np.ascontiguousarray(affine).tobytes(),
        )
        return hashlib.sha256(b"".join(parts)).hexdigest()

    def image(self) -> Any:
        """Return the labels as an int32 `nibabel.Nifti1Image`, which resampling by nearest neighbour keeps whole."""
        import nibabel

        image = nibabel.Nifti1Image(self.data, self.affine)
        image.set_data_dtype(np.int32)
        return image


def read_label_volume(
    path: str | Path, *, name: str, labels_table: str | Path | None = None, space: str | None = None
) -> LabelVolume:
    """Read an image of labels, and the table that names them.

    Regions come in ascending order of their labels.

    Parameters
    ----------
    path : path
        ``.nii`` or ``.nii.gz``, three-dimensional; any type of number, as long as all are whole.
    name : str
        Name of the atlas.
    labels_table : path, optional
        File for `read_label_table`; without it, names are the atlas's name and the label (``CC200-001``).
    space : str, optional
        Template space; by default what the file's name says, if anything (``space-…``, ``tpl-…``, ``MNI152NLin6Asym``).

    Raises
    ------
    AtlasError
        If the image cannot be read or is no image of labels, or the table has other labels than the image.
    """
    path = Path(path)
    values, affine = read_image(path)
    table = read_label_table(labels_table) if labels_table else None
    if space is None and (match := SPACE.search(path.name)):
        space = match[1] or match[2]
    return label_volume(values, affine, name=name, table=table, where=str(path), space=space)


def label_volume(
    values: NDArray[Any],
    affine: NDArray[np.float64],
    *,
    name: str,
    table: LabelTable | None,
    where: str,
    space: str | None = None,
) -> LabelVolume:
    """Make an atlas of an array of labels; `where` says whose it is, for messages.

    Raises
    ------
    AtlasError
        If the array is no image of labels, or the table has other labels.
    """
    data = _whole_labels(values, where)
    labels = tuple(int(label) for label in np.unique(data) if label)
    if not labels:
        raise AtlasError(f"{where}: has no label, all voxels are 0")
    if table is None:
        digits = len(str(labels[-1]))
        names = tuple(f"{name.upper()}-{label:0{digits}d}" for label in labels)
    else:
        _check_table(table, labels, where)
        names = table.names
    return LabelVolume(Atlas(name=name, roi_names=names), labels, data, np.asarray(affine, dtype=np.float64), space)


def read_image(path: Path) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Return a NIfTI file's scaled values and its affine.

    Raises
    ------
    AtlasError
        If the file is missing, of another kind or damaged, or does not say where its voxels are.
    """
    import nibabel
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    if not path.name.endswith(SUFFIXES):
        raise AtlasError(f"{path}: volume atlases come in .nii or .nii.gz files")
    try:
        image = nibabel.load(path)
        if (n_voxels := math.prod(image.shape)) > MAX_VOXELS:
            raise ValueError(f"its header says {n_voxels} voxels, more than {MAX_VOXELS}")
        values = np.asanyarray(image.dataobj)
    except FileNotFoundError:
        raise AtlasError(f"{path}: is not there") from None
    except (ImageFileError, HeaderDataError, OSError, EOFError, ValueError, zlib.error) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise AtlasError(f"{path}: cannot be read as an image ({reason})") from None
    affine = np.asarray(image.affine, dtype=np.float64)
    if int(image.header["qform_code"]) == 0 and int(image.header["sform_code"]) == 0:
        raise AtlasError(f"{path}: its header does not say where the voxels are (qform and sform codes are 0)")
    if not np.isfinite(affine).all() or np.linalg.det(affine[:3, :3]) == 0:
        raise AtlasError(f"{path}: its affine cannot be inverted")
    return values, affine


def _whole_labels(values: NDArray[Any], where: str) -> NDArray[np.int32]:
    """Return values as labels of three dimensions, or refuse them."""
    while values.ndim > 3 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.ndim != 3:
        raise AtlasError(
            f"{where}: has shape {values.shape}, an image of labels has three dimensions; "
            "probabilistic atlases and stacks of atlases are not read"
        )
    if values.dtype.kind not in "iuf":
        raise AtlasError(f"{where}: holds {values.dtype}, not numbers")
    if not np.isfinite(values).all():
        raise AtlasError(f"{where}: {int((~np.isfinite(values)).sum())} voxels are NaN or infinite")
    whole = np.rint(values) if values.dtype.kind == "f" else values  # rint makes float16 of int8
    if (off := np.abs(values - whole) > ROUNDING).any():
        raise AtlasError(
            f"{where}: {int(off.sum())} voxels are no whole numbers, first {values[off][0]:g}: no image of labels, or "
            "one that was resampled with interpolation; resample with nearest neighbour"
        )
    if (whole < 0).any():
        raise AtlasError(f"{where}: {int((whole < 0).sum())} voxels have negative labels, lowest {int(whole.min())}")
    if whole.size and int(whole.max()) > np.iinfo(np.int32).max:
        raise AtlasError(f"{where}: label {int(whole.max())} is larger than int32 holds")
    return np.ascontiguousarray(whole, dtype=np.int32)


def _check_table(table: LabelTable, labels: tuple[int, ...], where: str) -> None:
    """Refuse a table that names other labels than the image has."""
    if table.labels is None:
        if len(table.names) != len(labels):
            raise AtlasError(
                f"{table.where}: has {len(table.names)} names for the {len(labels)} labels ({labels[0]} to "
                f"{labels[-1]}) of {where}; give a table with the columns index and name if labels are missing"
            )
        return
    named = dict(zip(table.labels, table.names, strict=True))
    absent = [f"{label} {name!r}" for label, name in named.items() if label not in set(labels)]
    nameless = [str(label) for label in labels if label not in named]
    parts = [f"{where} has no voxel of {few_of(absent, SHOWN)}"] if absent else []
    parts += [f"the table has no name for label {few_of(nameless, SHOWN)}"] if nameless else []
    if parts:
        raise AtlasError(f"{table.where}: does not go with the image: {'; '.join(parts)}")

"""A volume atlas: which voxel belongs to which region."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from boldstream.parcellation.atlas import Atlas


@dataclass(frozen=True)
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
    """

    atlas: Atlas
    labels: tuple[int, ...]
    data: NDArray[np.int32]
    affine: NDArray[np.float64]
    space: str | None = None

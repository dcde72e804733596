"""The mean connectivity that made-up people share: yours from a file, or a model of one made without data."""

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from boldstream.errors import SourceError, first_line
from boldstream.parcellation.fc_sketch import homotopic_pairs

MATRIX_SUFFIXES = (".npy", ".csv", ".tsv", ".txt")
DELIMITERS = {"csv": ",", "tsv": "\t", "txt": None}
ASYMMETRY = 1e-4

N_NETWORKS, N_FOCI = 7, 3
"""Networks as Yeo et al. (2011) count them, each in so many places of a hemisphere."""
FOCUS_RADIUS = 0.45
SHARES = {"everywhere": 0.04, "network": 0.36, "twins": 0.3, "neighbours": 0.2}
"""Of a region's variance: shared with all regions, with its networks, with its surroundings on both sides, and on its
own side; so that the mean and the spectrum of the whole are those of real connectivity (docs/synthetic.md). The rest
is its own."""
REACH = {"twins": 0.25, "neighbours": 0.35}
"""How far surroundings go, as the SD of a bell on a sphere of radius 1."""
MODEL_STREAM, MIXTURE_STREAM = 11, 12
N_MIXED = 0.05


def read_connectivity(data: bytes, name: str) -> NDArray[np.float64]:
    """Read a matrix of mean connectivity.

    Parameters
    ----------
    data : bytes
        Content of its file: ``.npy``, or text without names, ``.csv``, ``.tsv`` or ``.txt`` (blanks).
    name : str
        Of the file, whose ending says which.

    Returns
    -------
    array, shape (n_rois, n_rois), float64
        Symmetric, 1 on the diagonal.

    Raises
    ------
    SourceError
        If it is no matrix of correlations.
    """
    try:
        if name.endswith(".npy"):
            found = np.asarray(np.load(io.BytesIO(data), allow_pickle=False), dtype=np.float64)
        else:
            found = np.loadtxt(io.StringIO(data.decode()), delimiter=DELIMITERS[name.rpartition(".")[2]], ndmin=2)
    except (ValueError, EOFError) as error:
        raise SourceError(f"connectivity: {name} is no matrix of numbers ({first_line(error)})") from None
    return checked_connectivity(found, name)


def checked_connectivity(found: NDArray[np.floating], where: str) -> NDArray[np.float64]:
    """Return a matrix as symmetric correlations with 1 on the diagonal.

    Raises
    ------
    SourceError
        If it is not square, not finite, not symmetric, or holds values outside -1 to 1; `where` begins the reason.
    """
    fc = np.asarray(found, dtype=np.float64)
    if fc.ndim != 2 or fc.shape[0] != fc.shape[1] or len(fc) < 2:
        raise SourceError(f"connectivity: {where} has shape {fc.shape}, not (n_rois, n_rois)")
    off = fc[~np.eye(len(fc), dtype=bool)]  # of the diagonal people write 0, 1 or (in Fisher's z) infinity
    if not np.isfinite(off).all():
        raise SourceError(f"connectivity: {where} holds {int((~np.isfinite(off)).sum())} values that are not finite")
    if (largest := float(np.abs(off).max())) > 1:
        raise SourceError(f"connectivity: {where} holds {largest:.3g}; give correlations, not Fisher's z")
    fc = fc.copy()
    np.fill_diagonal(fc, 1.0)
    if (apart := float(np.abs(fc - fc.T).max())) > ASYMMETRY:
        raise SourceError(f"connectivity: {where} is not symmetric (largest difference {apart:.3g})")
    return (fc + fc.T) / 2


def with_mixtures_before(connectivity: NDArray[np.float64], n_before: int) -> NDArray[np.float64]:
    """Put regions before the others that are mixtures of them, as for a subcortex that a matrix of the cortex lacks.

    Their weights are drawn from a Dirichlet distribution, the same for every call.

    Parameters
    ----------
    connectivity : array, shape (n_rois, n_rois)
    n_before : int

    Returns
    -------
    array, shape (n_before + n_rois, n_before + n_rois)
        1 on the diagonal.
    """
    rng = np.random.default_rng([MIXTURE_STREAM, n_before, len(connectivity)])
    weights = rng.dirichlet(np.full(len(connectivity), N_MIXED), size=n_before)
    whole = np.vstack([weights, np.eye(len(connectivity))])
    mixed = whole @ connectivity @ whole.T
    np.fill_diagonal(mixed, 1.0)  # what a mixture's own variance lacks is the region's own
    return mixed


def model_connectivity(roi_names: Sequence[str]) -> NDArray[np.float64]:
    """Make connectivity with what all brains' has in common, without any data.

    Regions lie on a spiral over a hemisphere, in their order, left-right twins (by their names) in the same place on
    either side; where no name has a side, the first half is left. Everything is shared a little, more among the 7
    networks, among twins' surroundings, and among neighbours.

    Parameters
    ----------
    roi_names : sequence of str

    Returns
    -------
    array, shape (n_rois, n_rois), float64
        1 on the diagonal; positive definite.
    """
    n_rois = len(roi_names)
    places, is_left = _places(roi_names)
    foci = np.random.default_rng([MODEL_STREAM]).normal(size=(N_NETWORKS, N_FOCI, 3))
    foci /= np.linalg.norm(foci, axis=2, keepdims=True)
    near = np.square(places[:, None, None] - foci).sum(axis=3)
    membership = np.exp(-near / (2 * FOCUS_RADIUS**2)).sum(axis=2)
    membership /= np.linalg.norm(membership, axis=1, keepdims=True)
    distance = np.square(places[:, None] - places).sum(axis=2)
    same_side = is_left[:, None] == is_left
    found = SHARES["everywhere"] + SHARES["network"] * membership @ membership.T
    found += SHARES["twins"] * np.exp(-distance / (2 * REACH["twins"] ** 2))
    found += SHARES["neighbours"] * same_side * np.exp(-distance / (2 * REACH["neighbours"] ** 2))
    found[np.diag_indices(n_rois)] = 1.0
    return found


def _places(roi_names: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return where regions lie on a sphere of radius 1, twins in one place, shape (n_rois, 3), and which are left."""
    n_rois = len(roi_names)
    pairs = homotopic_pairs(tuple(roi_names))
    if len(pairs) == 0:
        half = (n_rois + 1) // 2
        pairs = np.column_stack([np.arange(n_rois - half), np.arange(half, n_rois)])
    is_left = np.ones(n_rois, dtype=bool)
    is_left[pairs[:, 1]] = False
    place_of = np.full(n_rois, -1)
    place_of[is_left] = np.arange(is_left.sum())
    place_of[pairs[:, 1]] = place_of[pairs[:, 0]]
    share = (place_of + 0.5) / is_left.sum()
    height = 1 - 2 * share
    turn = 2 * np.pi * np.sqrt(is_left.sum() / np.pi) * share
    width = np.sqrt(1 - height**2)
    return np.column_stack([width * np.cos(turn), width * np.sin(turn), height]), is_left

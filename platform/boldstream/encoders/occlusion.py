"""What an encoder looks at: how far a window's vector moves when a region is held still for a while."""

import numpy as np
from numpy.typing import NDArray

from boldstream.encoders.interface import WindowEncoder

BATCH_SIZE = 32


def occlusion_map(
    encoder: WindowEncoder, window: NDArray[np.float32], *, batch_size: int = BATCH_SIZE
) -> NDArray[np.float64]:
    """Replace each region in each patch by its mean over the window, and see how far the mean token moves.

    Held still, not set to zero: a series at its own mean stays within what the encoder's scaling knows.

    Parameters
    ----------
    encoder : WindowEncoder
    window : array, shape (n_timepoints, n_rois), float32
    batch_size : int
        Windows in one forward pass.

    Returns
    -------
    array, shape (n_rois, n_patches)
        Euclidean distances, in the vectors' unit.

    Raises
    ------
    ValueError
        If the window is not of the encoder's shape, or its patches are not of one length.

    References
    ----------
    Zeiler & Fergus (2014), Visualizing and understanding convolutional networks, ECCV.
    """
    n_timepoints, n_rois = window.shape
    expected = (encoder.n_timepoints, len(encoder.roi_names))
    if window.shape != expected or n_timepoints % encoder.n_patches:
        raise ValueError(
            f"the window has shape {window.shape}; the encoder takes {expected} in {encoder.n_patches} patches"
        )
    length = n_timepoints // encoder.n_patches
    places = [(roi, patch) for roi in range(n_rois) for patch in range(encoder.n_patches)]
    mean = window.mean(axis=0)
    whole = _vectors(encoder, window[None])[0]
    found = np.empty(len(places))
    for first in range(0, len(places), batch_size):
        some = places[first : first + batch_size]
        windows = np.repeat(window[None], len(some), axis=0)
        for held, (roi, patch) in zip(windows, some, strict=True):
            held[patch * length : (patch + 1) * length, roi] = mean[roi]
        found[first : first + len(some)] = np.linalg.norm(_vectors(encoder, windows) - whole, axis=1)
    return found.reshape(n_rois, encoder.n_patches)


def _vectors(encoder: WindowEncoder, windows: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the mean token of each window, (W, D)."""
    return np.asarray(encoder.encode(windows).mean(dim=(1, 2)).cpu().numpy(), dtype=np.float64)

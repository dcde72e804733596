"""Which regions a linear prediction comes from, where a vector is the mean of its regions' latents."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boldstream.analysis.quality import finite_matrix


def region_terms(latents: ArrayLike, weights: ArrayLike) -> NDArray[np.float64]:
    """Return every region's term of linear predictions: ``w · latent_r / n_rois``, which sum to ``w · vector``.

    Parameters
    ----------
    latents : array, shape (n_rois, d)
    weights : array, shape (n_targets, d)

    Returns
    -------
    array, shape (n_targets, n_rois)

    Raises
    ------
    ValueError
        If shapes do not fit or values are not finite.
    """
    x, w = finite_matrix(latents, "latents"), finite_matrix(weights, "weights")
    if x.shape[1] != w.shape[1]:
        raise ValueError(f"latents have {x.shape[1]} dimensions, weights {w.shape[1]}")
    return np.asarray(w @ x.T / len(x))


def region_shares(terms: ArrayLike) -> NDArray[np.float64]:
    """Return each region's share of the variance of a prediction.

    The covariance over scans of a region's term with the sum of all, by the sum's variance: shares sum to 1, and one
    below 0 belongs to a region that works against the others. All are 0 where the prediction is constant.

    Parameters
    ----------
    terms : array, shape (n, n_rois)

    Raises
    ------
    ValueError
        If values are not finite.
    """
    x = finite_matrix(terms, "terms")
    centred = x - x.mean(axis=0)
    total = centred.sum(axis=1)
    variance = float(total @ total)
    return np.asarray(centred.T @ total / variance) if variance > 0 else np.zeros(x.shape[1])

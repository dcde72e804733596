"""Made-up latents of regions of which one holds a target."""

import numpy as np

SPECIAL = 3
"""The region, known by its first dimension; the target is in its second."""


def latents_of(y, n_rois, n_dims, rng):
    """Latents (n, n_rois, n_dims), float32: noise but for the target in one region."""
    x = rng.normal(size=(len(y), n_rois, n_dims))
    x[:, :, 0] *= 0.1
    x[:, SPECIAL, 0] += 3.0
    x[:, SPECIAL, 1] = y + 0.3 * rng.normal(size=len(y))
    return x.astype(np.float32)

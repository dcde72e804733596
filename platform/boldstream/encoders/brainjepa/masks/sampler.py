"""The door to the mask samplers."""

import numpy as np
from torch import Tensor

from boldstream.encoders.brainjepa.masks.layout import Masks
from boldstream.encoders.brainjepa.masks.paper import sample_paper
from boldstream.encoders.brainjepa.masks.reference import sample_reference
from boldstream.encoders.brainjepa.specs import MaskSpec

SAMPLERS = {"paper": sample_paper, "reference": sample_reference}


def sample_masks(n_rois: int, n_patches: int, keys_B: Tensor, spec: MaskSpec, *, seed: int, step: int) -> Masks:
    """Draw context and targets for a batch.

    Parameters
    ----------
    n_rois, n_patches : int
        The grid; at least two regions.
    keys_B : tensor, shape (B,), int64, on the CPU
        Where the blocks lie in each window: a hash of (seed, epoch, scan key, window).
    spec : MaskSpec
    seed, step : int
        How large the blocks are. Ranks and micro-batches of one optimizer step give the same.

    Returns
    -------
    Masks

    Raises
    ------
    ValueError
        If the grid has fewer than two regions or no patch, or there is no key.
    TrainingError
        With ``policy: reference``, if a window is left without context or targets (atlases of under five regions).
    """
    if n_rois < 2 or n_patches < 1:
        raise ValueError(f"masks need at least 2 regions and 1 patch, got {n_rois} and {n_patches}")
    if not len(keys_B):
        raise ValueError("masks need at least one window, got none")
    return SAMPLERS[spec.policy](n_rois, n_patches, keys_B, spec, np.random.default_rng([seed, step]))

"""``policy: paper``: one template of roles a step, laid over every window by its own permutation and turn.

The template is a grid whose rows and columns have roles; all sizes and overlaps are in it. Each window shuffles the
rows over its regions and turns the columns around the window's circle of patches, both uniformly. So every region
and every patch has every role equally often, every window has equally many tokens of every kind, and nothing is cut
off. A context of six of ten patches that is contiguous and does not wrap would show the middle ones more often than
the first and the last: that is why the columns turn.

Shape suffixes: B batch, R rois, P patches.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from boldstream.encoders.brainjepa.masks.counter import permutations, uniform, words
from boldstream.encoders.brainjepa.masks.layout import CROSS_ROI, CROSS_TIME, DOUBLE_CROSS, Masks, clip, share_of
from boldstream.encoders.brainjepa.specs import MaskSpec

CONTEXT, UNUSED = 3, 4


def sample_paper(n_rois: int, n_patches: int, keys_B: Tensor, spec: MaskSpec, rng: np.random.Generator) -> Masks:
    """Draw masks that favour no region, no patch and no kind of target (see `sampler.sample_masks`)."""
    template_RP = draw_template(n_rois, n_patches, spec, rng)
    draws = words(keys_B, n_rois + 1)
    roi_BR = permutations(draws[:, :n_rois])
    turn_B1 = (uniform(draws[:, n_rois:]) * n_patches).long()

    patch_BP = (torch.arange(n_patches) + turn_B1) % n_patches

    row, column = np.nonzero(template_RP < CONTEXT)
    target_index = _take(roi_BR, row) * n_patches + _take(patch_BP, column)
    target_kind = torch.from_numpy(template_RP[row, column]).expand(len(keys_B), -1)

    # a rectangle: sort its sides, not its tokens
    observed, seen = (np.flatnonzero((template_RP == CONTEXT).any(axis=axis)) for axis in (1, 0))
    rois, patches = (np.sort(_take(*side).numpy(), axis=1) for side in ((roi_BR, observed), (patch_BP, seen)))
    context_index = torch.from_numpy(rois[:, :, None] * n_patches + patches[:, None]).flatten(1)
    return Masks(context_index, target_index, target_kind)


def _take(axis_BK: Tensor, at: NDArray[np.int64]) -> Tensor:
    """Return what lies on each window's axis at the template's rows or columns."""
    return axis_BK.index_select(1, torch.from_numpy(at))


def draw_template(n_rois: int, n_patches: int, spec: MaskSpec, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw the roles of a step, (R, P): a code of `KINDS`, `CONTEXT` or `UNUSED`."""
    n_hidden = clip(share_of(n_rois, spec.cross_roi_rois, rng), 1, n_rois - 1)
    # what hiding leaves of the observation's regions, on average
    n_kept = round(share_of(n_rois, spec.observation, rng) * (1 - n_hidden / n_rois))
    n_observed = clip(n_kept, 1, n_rois - n_hidden)
    sides = _draw_sides(n_patches, spec, rng)
    seen = _draw_window(n_patches, spec, rng)
    seen[np.concatenate(sides)] = False
    run = clip(share_of(n_patches, spec.cross_roi_patches, rng), 1, int(seen.sum()))
    start = rng.integers(0, seen.sum() - run + 1)

    template = np.full((n_rois, n_patches), UNUSED, dtype=np.uint8)
    observed, hidden = slice(n_observed), slice(n_observed, n_observed + n_hidden)
    template[observed, seen] = CONTEXT
    template[hidden, np.flatnonzero(seen)[start : start + run]] = CROSS_ROI
    for columns in sides:
        scale = rng.uniform(*spec.cross_time_rois)
        for kind, first, size in ((CROSS_TIME, 0, n_observed), (DOUBLE_CROSS, n_observed, n_rois - n_observed)):
            rows = first + rng.permutation(size)[: int(scale * size)]
            template[rows[:, None], columns] = kind
    return template


def _draw_sides(n_patches: int, spec: MaskSpec, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """Draw the columns of the Cross-Time and Double-Cross targets, last and first."""
    n_side = spec.side_patches(n_patches)
    return [
        first + rng.permutation(n_side)[: min(share_of(n_patches, spec.cross_time_patches, rng), n_side)]
        for first in (n_patches - n_side, 0)
    ]


def _draw_window(n_patches: int, spec: MaskSpec, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Mark the observation's columns: a contiguous run over the middle one, which no side takes away."""
    length = clip(share_of(n_patches, spec.observation, rng), 1, n_patches)
    middle = n_patches // 2
    start = rng.integers(max(0, middle - length + 1), min(middle, n_patches - length) + 1)
    column = np.arange(n_patches)
    return (column >= start) & (column < start + length)

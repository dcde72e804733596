"""``policy: reference``: the blocks of the published code, with its batch truncation and its exclusive bounds.

For comparison only. Observation and Cross-ROI block start at ``randint(0, room)`` with ``room`` excluded, so of ten
patches the last is never context. Every batch keeps the first tokens of each window, as many as its smallest window
has; the lists go by region and have the Cross-Time and Double-Cross blocks at their end, so the last regions are
hardly ever seen and these two kinds are mostly lost - the more, the larger the batch. Targets can repeat, and the
regions of the side blocks are drawn in two strata, the observed regions *within* the Cross-ROI block and all others.

The same distribution, not the same random numbers. Ten patches give the reference's columns {0, 1, 2} and {7, 8, 9};
for other grids they are the `MaskSpec.side_patches` at each end, sizes are at least 1, and where an excluded bound
leaves no choice the block starts at 0.

Shape suffixes: B batch, R rois, P patches.
"""

import numpy as np
import torch
from torch import Tensor

from boldstream.encoders.brainjepa.masks.counter import uniform, words
from boldstream.encoders.brainjepa.masks.spec import (
    CROSS_ROI,
    CROSS_TIME,
    DOUBLE_CROSS,
    Masks,
    MaskSpec,
    clip,
    share_of,
)
from boldstream.errors import TrainingError


def sample_reference(n_rois: int, n_patches: int, keys_B: Tensor, spec: MaskSpec, rng: np.random.Generator) -> Masks:
    """Draw masks as the published code does (see `sampler.sample_masks`)."""
    R, P = n_rois, n_patches
    n_hidden = clip(share_of(R, spec.cross_roi_rois, rng), 1, R)
    n_run = share_of(P, spec.cross_roi_patches, rng)
    n_observed = clip(share_of(R, spec.observation, rng), 1, R)
    n_window = clip(share_of(P, spec.observation, rng), 1, P)
    n_run = clip(n_run, 1, n_window)

    draws = uniform(words(keys_B, 4 * R + 2 * P + 6))
    *orders, last_draws, first_draws, rest = draws.split([R] * 4 + [P] * 2 + [6], dim=1)
    start, run_start, *scales = rest[:, :, None].unbind(1)
    order_4BR = torch.stack(orders).argsort(dim=2)
    observed, hidden = (_first(order, n) for order, n in zip(order_4BR, (n_observed, n_hidden), strict=False))
    start = (start * max(P - n_window, 1)).long()
    window = _run(start, n_window, P)
    run = _run(start + (run_start * max(n_window - n_run, 1)).long(), n_run, P)

    blocks, columns = [hidden[:, :, None] & run[:, None]], []
    ends = ((last_draws, True), (first_draws, False))
    for order, (column_draws, last), scale, count in zip(order_4BR[2:], ends, scales[::2], scales[1::2], strict=True):
        rois = _strata(order, observed & hidden, _scaled(scale, spec.cross_time_rois))
        columns.append(_columns(column_draws, _scaled(count, spec.cross_time_patches), spec, last=last))
        blocks.append(rois[:, :, None] & columns[-1][:, None])

    kept = observed & ~hidden
    context = kept[:, :, None] & (window & ~columns[0] & ~columns[1])[:, None]
    side_kind = torch.where(kept, CROSS_TIME, DOUBLE_CROSS).to(torch.uint8)[:, :, None].expand(-1, -1, P).flatten(1)
    kinds = torch.cat([torch.full_like(side_kind, CROSS_ROI), side_kind, side_kind], dim=1)
    target = _first_marked(torch.cat([block.flatten(1) for block in blocks], dim=1), "target")
    return Masks(_first_marked(context.flatten(1), "context"), target % (R * P), kinds.gather(1, target))


def _scaled(draw: Tensor, scale: tuple[float, float]) -> Tensor:
    return scale[0] + (scale[1] - scale[0]) * draw


def _first(order_BR: Tensor, count: int) -> Tensor:
    """Mark the first `count` regions of every window's order, (B, R) bool."""
    return torch.zeros_like(order_BR, dtype=torch.bool).scatter_(1, order_BR[:, :count], True)


def _run(start_B1: Tensor, length: int, n_patches: int) -> Tensor:
    """Mark `length` patches from each window's start, (B, P) bool."""
    patch = torch.arange(n_patches, device=start_B1.device)
    return (patch >= start_B1) & (patch < start_B1 + length)


def _strata(order_BR: Tensor, group_BR: Tensor, scale_B1: Tensor) -> Tensor:
    """Mark the same part of the group's and of the other regions, first in each window's order, (B, R) bool."""
    group = group_BR.gather(1, order_BR)
    chosen = torch.zeros_like(group)
    for stratum in (group, ~group):
        rank = stratum.cumsum(dim=1)
        chosen |= stratum & (rank <= (scale_B1 * rank[:, -1:]).long())
    return torch.zeros_like(chosen).scatter_(1, order_BR, chosen)


def _columns(draws_BP: Tensor, scale_B1: Tensor, spec: MaskSpec, *, last: bool) -> Tensor:
    """Mark random patches among the last or the first, as many as the scale says, (B, P) bool."""
    n_patches = draws_BP.shape[1]
    n_side = spec.side_patches(n_patches)
    patch = torch.arange(n_patches, device=draws_BP.device)
    among = patch >= n_patches - n_side if last else patch < n_side
    rank = draws_BP.masked_fill(~among, 2.0).argsort(dim=1).argsort(dim=1)
    return among & (rank < (scale_B1 * n_patches).long())


def _first_marked(mask: Tensor, what: str) -> Tensor:
    """Return as many of each window's first marked positions as the window with the fewest has."""
    rank = mask.cumsum(dim=1, dtype=torch.int32)
    fewest = int(rank[:, -1].min())
    if not fewest:
        raise TrainingError(f"the reference's sampler left a window without {what} tokens; use mask.policy: paper")
    return (mask & (rank <= fewest)).nonzero()[:, 1].view(len(mask), fewest)

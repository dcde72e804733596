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

from boldstream.encoders.brainjepa.masks.counter import permutations, uniform, words
from boldstream.encoders.brainjepa.masks.layout import CROSS_ROI, CROSS_TIME, DOUBLE_CROSS, Masks, clip, share_of
from boldstream.encoders.brainjepa.specs import MaskSpec
from boldstream.errors import TrainingError


def sample_reference(n_rois: int, n_patches: int, keys_B: Tensor, spec: MaskSpec, rng: np.random.Generator) -> Masks:
    """Draw masks as the published code does (see `sampler.sample_masks`)."""
    R, P = n_rois, n_patches
    n_hidden = clip(share_of(R, spec.cross_roi_rois, rng), 1, R)
    n_run = share_of(P, spec.cross_roi_patches, rng)
    n_observed = clip(share_of(R, spec.observation, rng), 1, R)
    n_window = clip(share_of(P, spec.observation, rng), 1, P)
    n_run = clip(n_run, 1, n_window)

    draws = words(keys_B, 4 * R + 2 * P + 6)
    order_B4R = permutations(draws[:, : 4 * R].reshape(-1, 4, R))
    last_draws, first_draws, rest = uniform(draws[:, 4 * R :]).split([P, P, 6], dim=1)
    observed, hidden = _first(order_B4R[:, 0], n_observed), _first(order_B4R[:, 1], n_hidden)
    start = (rest[:, :1] * max(P - n_window, 1)).long()
    run = _run(start + (rest[:, 1:2] * max(n_window - n_run, 1)).long(), n_run, P)

    kept, patches = observed & ~hidden, _run(start, n_window, P)
    sides = []
    for order, column_draws, scale, last in ((2, last_draws, 2, True), (3, first_draws, 4, False)):
        part = _scaled(rest[:, scale : scale + 1], spec.cross_time_rois)
        columns = _columns(
            column_draws, _scaled(rest[:, scale + 1 : scale + 2], spec.cross_time_patches), spec, last=last
        )
        sides.append((_strata(order_B4R[:, order], observed & hidden, part), columns))
        patches = patches & ~columns

    n_context = _fewest(_area(kept, patches), "context")
    context_index = _rectangle(kept, patches, torch.arange(n_context)[None])
    return Masks(context_index, *_targets((hidden, run), sides, kept))


def _targets(
    cross_roi: tuple[Tensor, Tensor], sides: list[tuple[Tensor, Tensor]], kept_BR: Tensor
) -> tuple[Tensor, Tensor]:
    """Return index and kind of the targets: Cross-ROI block, last, first, each ascending, cut to the shortest."""
    area_B1, last_B1, first_B1 = (_area(*block)[:, None] for block in (cross_roi, *sides))
    n_target = _fewest(area_B1 + last_B1 + first_B1, "target")
    n_cross_roi = int(area_B1[0])  # the same in every window
    index = _rectangle(*cross_roi, torch.arange(min(n_cross_roi, n_target))[None])
    kind = torch.full_like(index, CROSS_ROI, dtype=torch.uint8)
    if n_target <= n_cross_roi:
        return index, kind
    position = torch.arange(n_target - n_cross_roi)[None]
    last, first = (_rectangle(*side, at) for side, at in zip(sides, (position, position - last_B1), strict=True))
    side = torch.where(position < last_B1, last, first)
    n_patches = sides[0][1].shape[1]
    side_kind = torch.where(kept_BR.gather(1, side // n_patches), CROSS_TIME, DOUBLE_CROSS).to(torch.uint8)
    return torch.cat([index, side], dim=1), torch.cat([kind, side_kind], dim=1)


def _scaled(draw: Tensor, scale: tuple[float, float]) -> Tensor:
    return scale[0] + (scale[1] - scale[0]) * draw


def _first(order_BR: Tensor, count: int) -> Tensor:
    """Mark the first `count` regions of every window's order, (B, R) bool."""
    return torch.zeros_like(order_BR, dtype=torch.bool).scatter_(1, order_BR[:, :count], True)


def _run(start_B1: Tensor, length: int, n_patches: int) -> Tensor:
    """Mark `length` patches from each window's start, (B, P) bool."""
    patch = torch.arange(n_patches)
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
    patch = torch.arange(n_patches)
    among = patch >= n_patches - n_side if last else patch < n_side
    rank = draws_BP.masked_fill(~among, 2.0).argsort(dim=1).argsort(dim=1)
    return among & (rank < (scale_B1 * n_patches).long())


def _area(rois_BR: Tensor, patches_BP: Tensor) -> Tensor:
    """Return the tokens in each window's rectangle, (B,)."""
    return rois_BR.sum(dim=1) * patches_BP.sum(dim=1)


def _fewest(counts: Tensor, what: str) -> int:
    """Return the length that the batch is cut to."""
    fewest = int(counts.min())
    if not fewest:
        raise TrainingError(f"the reference's sampler left a window without {what} tokens; use mask.policy: paper")
    return fewest


def _rectangle(rois_BR: Tensor, patches_BP: Tensor, position_BN: Tensor) -> Tensor:
    """Return tokens of each window's marked regions x marked patches by their position in ascending order.

    Parameters
    ----------
    rois_BR, patches_BP : tensor, bool
        What each window's rectangle spans.
    position_BN : tensor, shape (B or 1, N), int64
        Positions below the rectangle's area; others give an arbitrary token.
    """
    width_B1 = patches_BP.sum(dim=1, keepdim=True).clamp(min=1)
    row_BN = (position_BN // width_B1).clamp(0, rois_BR.shape[1] - 1)
    roi, patch = (_marked(mask).gather(1, at) for mask, at in ((rois_BR, row_BN), (patches_BP, position_BN % width_B1)))
    return roi * patches_BP.shape[1] + patch


def _marked(mask: Tensor) -> Tensor:
    """Return each row's marked columns, ascending, then zeros."""
    n_columns = mask.shape[1]
    slot = torch.where(mask, mask.cumsum(dim=1) - 1, n_columns)
    columns = torch.arange(n_columns).expand_as(slot)
    return slot.new_zeros(len(mask), n_columns + 1).scatter_(1, slot, columns)

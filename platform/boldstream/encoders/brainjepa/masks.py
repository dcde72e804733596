"""Context and targets of Brain-JEPA's pretraining (paper, Sec. 3.2), vectorised over the batch.

A window is a grid of regions x time patches. In every sample

=================  =====================  =========================
                   observed patches       unobserved patches
=================  =====================  =========================
observed regions   **context**            Cross-Time targets
other regions      Cross-ROI targets      Double-Cross targets
=================  =====================  =========================

Sizes are drawn once a batch and the geometry is such that every sample fills them exactly: nothing is cut
off, so no region or patch is favoured, and the batch size has no part in it. The reference draws blocks that
overlap and keeps the first N tokens of every sample, which starves the last regions of context and loses most
Cross-Time and Double-Cross targets; it also can never show the last patch. Those are not reproduced.

Shape suffixes: B batch, R rois, P patches.
"""

import math
from typing import Self

import pydantic
import torch
from torch import Tensor

from boldstream.config import Config

Range = tuple[float, float]


class MaskSpec(Config):
    """Ranges that the blocks' sizes are drawn from, as parts of all regions or patches (paper, Table 6)."""

    observation: Range = (0.84, 1.0)
    """Regions, and patches, of the observation that the targets are cut out of."""
    cross_roi_rois: Range = (0.45, 0.6)
    """Regions of the Cross-ROI target."""
    cross_roi_patches: Range = (0.2, 0.6)
    """Patches of the Cross-ROI target."""
    cross_time_rois: Range = (0.15, 0.3)
    """Regions of the Cross-Time and Double-Cross targets: of the observed and of the other regions."""
    cross_time_patches: Range = (0.0, 0.4)
    """Patches of the Cross-Time and Double-Cross targets, at each end of the window."""

    @pydantic.model_validator(mode="after")
    def _are_ranges(self) -> Self:
        for name in type(self).model_fields:
            low, high = getattr(self, name)
            if not 0 <= low <= high <= 1:
                raise ValueError(f"{name} [{low}, {high}] is no range within 0 and 1")
        return self


def sample_masks(
    n_rois: int, n_patches: int, batch: int, generator: torch.Generator, spec: MaskSpec
) -> tuple[Tensor, Tensor]:
    """Draw context and targets for a batch.

    Parameters
    ----------
    n_rois, n_patches : int
        The grid; at least two regions.
    batch : int
        Samples.
    generator : torch.Generator
        On the CPU; the only source of randomness.
    spec : MaskSpec

    Returns
    -------
    context_index : tensor, shape (B, N_ctx), int64
        Tokens (``roi * n_patches + patch``) that the encoder sees, ascending.
    target_index : tensor, shape (B, N_tgt), int64
        Tokens to predict, ascending, each once, none of them in the context.

    Raises
    ------
    ValueError
        If the grid has fewer than two regions or no patch.
    """
    if n_rois < 2 or n_patches < 1:
        raise ValueError(f"masks need at least 2 regions and 1 patch, got {n_rois} and {n_patches}")

    def draw(scale: Range) -> float:
        return scale[0] + (scale[1] - scale[0]) * torch.rand((), generator=generator).item()

    n_hidden = _clip(int(n_rois * draw(spec.cross_roi_rois)), 1, n_rois - 1)
    n_observed = _clip(round(int(n_rois * draw(spec.observation)) * (1 - n_hidden / n_rois)), 1, n_rois - n_hidden)
    n_window = _clip(int(n_patches * draw(spec.observation)), 1, n_patches)
    n_run = int(n_patches * draw(spec.cross_roi_patches))
    # the ends that Cross-Time patches come from: three patches each of ten, as in the paper's setting
    end = min(max(math.ceil(n_patches * spec.cross_time_patches[1]) - 1, 0), (n_patches - 1) // 2)
    sides = [(min(int(n_patches * draw(spec.cross_time_patches)), end), draw(spec.cross_time_rois)) for _ in "rl"]

    hidden = _choose(torch.ones(batch, n_rois, dtype=torch.bool), n_hidden, generator)
    observed = _choose(~hidden, n_observed, generator)
    columns = [
        _choose(_ends(batch, n_patches, end, last=last), count, generator)
        for (count, _), last in zip(sides, (True, False), strict=True)
    ]
    kept = ~(columns[0] | columns[1])
    n_context = max(n_window - sum(count for count, _ in sides), 1)
    seen = _run(kept, n_context, generator)
    run = _run(seen, _clip(n_run, 1, n_context), generator)

    target = hidden[:, :, None] & run[:, None, :]
    for (_, scale), column in zip(sides, columns, strict=True):
        target |= _choose_in_both(observed, scale, generator)[:, :, None] & column[:, None, :]
    return _indices(observed[:, :, None] & seen[:, None, :]), _indices(target)


def _choose(candidates_BK: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Mark `count` random candidates in every row, (B, K) bool in and out."""
    keys = torch.rand(candidates_BK.shape, generator=generator).masked_fill(~candidates_BK, 2.0)
    chosen = torch.zeros_like(candidates_BK)
    return chosen.scatter_(1, keys.argsort(dim=1)[:, :count], True)


def _choose_in_both(observed_BR: Tensor, scale: float, generator: torch.Generator) -> Tensor:
    """Mark the same part of the observed regions (Cross-Time) and of the others (Double-Cross)."""
    counts = [int(scale * int(group[:1].sum())) for group in (observed_BR, ~observed_BR)]
    return _choose(observed_BR, counts[0], generator) | _choose(~observed_BR, counts[1], generator)


def _run(candidates_BP: Tensor, length: int, generator: torch.Generator) -> Tensor:
    """Mark `length` consecutive candidates from a random start; rows have equally many candidates."""
    batch = len(candidates_BP)
    spare = int(candidates_BP[0].sum()) - length if batch else 0
    start = torch.randint(0, spare + 1, (batch, 1), generator=generator)
    rank = candidates_BP.cumsum(dim=1) - 1
    return candidates_BP & (rank >= start) & (rank < start + length)


def _ends(batch: int, n_patches: int, end: int, *, last: bool) -> Tensor:
    """Mark the first or the last `end` patches, (B, P) bool."""
    patch = torch.arange(n_patches)
    mask = patch >= n_patches - end if last else patch < end
    return mask.expand(batch, -1)


def _indices(mask_BRP: Tensor) -> Tensor:
    """Return the marked tokens of every sample, ascending; samples have equally many."""
    flat = mask_BRP.flatten(1)
    return flat.nonzero()[:, 1].view(len(flat), -1)


def _clip(value: int, low: int, high: int) -> int:
    return max(low, min(value, high))

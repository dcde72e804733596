"""What masks are made from and what they are."""

import math
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import pydantic
from torch import Tensor

from boldstream.config import Config

Range = tuple[float, float]

KINDS = ("cross_roi", "cross_time", "double_cross")
"""Kinds of targets (the paper's alpha, beta and gamma), in the order of their codes 0, 1, 2."""

CROSS_ROI, CROSS_TIME, DOUBLE_CROSS = range(3)


class MaskSpec(Config):
    """Ranges that the blocks' sizes are drawn from, as parts of all regions or patches (paper, Table 6)."""

    policy: Literal["paper", "reference"] = "paper"
    """paper: every region and patch is context equally often and each kind of target keeps its share;
    reference: the published code's sampler, which cuts every batch to its first tokens."""
    observation: Range = (0.84, 1.0)
    """Regions, and patches, of the observation that the targets are cut out of."""
    cross_roi_rois: Range = (0.45, 0.6)
    """Regions of the Cross-ROI target."""
    cross_roi_patches: Range = (0.2, 0.6)
    """Patches of the Cross-ROI target."""
    cross_time_rois: Range = (0.15, 0.3)
    """Regions of the Cross-Time and Double-Cross targets: of the observed and of the other regions."""
    cross_time_patches: Range = (0.0, 0.4)
    """Patches of the Cross-Time and Double-Cross targets, on each side of the observation."""

    @pydantic.model_validator(mode="after")
    def _are_ranges(self) -> Self:
        for name in type(self).model_fields.keys() - {"policy"}:
            low, high = getattr(self, name)
            if not 0 <= low <= high <= 1:
                raise ValueError(f"{name} [{low}, {high}] is no range within 0 and 1")
        return self

    def side_patches(self, n_patches: int) -> int:
        """Return from how many patches, on each side, Cross-Time patches are chosen.

        As many as can be drawn at most: three of ten in the paper's setting, as the reference has hard-coded.
        The middle patch never is one of them.
        """
        return min(max(math.ceil(n_patches * self.cross_time_patches[1]) - 1, 0), (n_patches - 1) // 2)


@dataclass(frozen=True)
class Masks:
    """Context and targets of a batch.

    Attributes
    ----------
    context_index : tensor, shape (B, N_ctx), int64
        Tokens (``roi * n_patches + patch``) that the encoder sees, ascending.
    target_index : tensor, shape (B, N_tgt), int64
        Tokens to predict, none of them in the context.
    target_kind : tensor, shape (B, N_tgt), uint8
        Code of each target in `KINDS`.
    """

    context_index: Tensor
    target_index: Tensor
    target_kind: Tensor

    def metrics(self) -> dict[str, float]:
        """Return each kind's share of the batch's targets, and context and target tokens a window."""
        counts = self.target_kind.flatten().bincount(minlength=len(KINDS)).tolist()
        shares = {f"{kind}_share": count / sum(counts) for kind, count in zip(KINDS, counts, strict=True)}
        tokens = {"context_tokens": self.context_index.shape[1], "target_tokens": self.target_index.shape[1]}
        return shares | tokens


def share_of(total: int, scale: Range, rng: np.random.Generator) -> int:
    """Draw a number: the whole part of a uniform share of `total`."""
    return int(total * rng.uniform(*scale))


def clip(value: int, low: int, high: int) -> int:
    """Return the value nearest to `value` in [low, high]."""
    return max(low, min(value, high))

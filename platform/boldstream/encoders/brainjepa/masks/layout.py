"""What masks are."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from boldstream.encoders.brainjepa.specs import Range

KINDS = ("cross_roi", "cross_time", "double_cross")
"""Kinds of targets (the paper's alpha, beta and gamma), in the order of their codes 0, 1, 2."""

CROSS_ROI, CROSS_TIME, DOUBLE_CROSS = range(3)


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

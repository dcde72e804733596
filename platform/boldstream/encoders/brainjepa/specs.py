"""What a pretraining is told about masks, objective and optimizer. No torch: a command's --help reads this."""

import math
from typing import Literal, Self

import pydantic

from boldstream.config import Config

Initialisation = Literal["reference", "xavier"]
EmaSchedule = Literal["paper", "reference"]
Range = tuple[float, float]
Regularizer = Literal["none", "vicreg", "contrast"]


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


class ObjectiveSpec(Config):
    """What is minimised."""

    targets: Literal["layer_norm", "position"] = "position"
    """layer_norm: the paper's targets; position: also standardised at every token position over windows."""

    regularizer: Regularizer = "none"
    """Term against collapse: vicreg (tokens vary between scans), contrast (windows of a scan are told from others)."""

    weight: float = pydantic.Field(default=1.0, ge=0)
    """Weight of the regularizer beside the prediction."""

    temperature: float = pydantic.Field(default=0.2, gt=0)
    """Temperature of contrast."""

    @property
    def views(self) -> int:
        """Windows of a scan that follow each other in a micro-batch."""
        return 2 if self.regularizer == "contrast" else 1


class OptimSpec(Config):
    """Optimizer and schedules (reference: AdamW, linear warm-up and half a cosine, EMA towards 1)."""

    batch_size: int = pydantic.Field(default=16, ge=1)
    """Windows in one optimizer step, over all workers."""

    micro_batch: int | None = pydantic.Field(default=None, ge=1)
    """Windows that a worker computes at once; gradients are accumulated over several. Empty: its share of the batch."""

    lr: float = pydantic.Field(default=1e-3, gt=0)
    """Learning rate after warm-up."""

    start_lr: float = pydantic.Field(default=5e-5, ge=0)
    """Learning rate before the first step."""

    final_lr: float = pydantic.Field(default=1e-6, ge=0)
    """Learning rate at the end."""

    warmup_steps: int = pydantic.Field(default=0, ge=0)
    """Steps of linear warm-up."""

    weight_decay: float = pydantic.Field(default=0.04, ge=0)
    """Weight decay at the start (biases and norms have none)."""

    final_weight_decay: float = pydantic.Field(default=0.4, ge=0)
    """Weight decay at the end."""

    ema: float = pydantic.Field(default=0.996, ge=0, le=1)
    """Momentum of the target encoder at the start."""

    final_ema: float = pydantic.Field(default=1.0, ge=0, le=1)
    """Momentum of the target encoder at the end."""

    ema_schedule: EmaSchedule = "paper"
    """paper: linear over all steps; reference: an eighth of the way, as the published run really went."""

    clip_norm: float = pydantic.Field(default=1.0, gt=0)
    """Largest norm of the gradients."""

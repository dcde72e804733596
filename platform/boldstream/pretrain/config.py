"""What the pretrain room is told."""

from typing import ClassVar, Self

import pydantic

from boldstream.cluster import ClusterConfig
from boldstream.config import Config
from boldstream.encoders.brainjepa.config import Size
from boldstream.encoders.brainjepa.masks import MaskSpec
from boldstream.encoders.brainjepa.scaling import ScalingKind
from boldstream.refs import ArtifactName, check_alias


class OptimConfig(Config):
    """Optimizer and schedules (reference: AdamW, linear warm-up and half a cosine, EMA towards 1)."""

    batch_size: int = pydantic.Field(default=16, ge=1)
    """Windows in one optimizer step."""

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

    clip_norm: float = pydantic.Field(default=1.0, gt=0)
    """Largest norm of the gradients."""


class PretrainConfig(Config):
    """Pretrain Brain-JEPA on a cohort and register the model version."""

    output: ArtifactName
    """Name of the registered model."""

    cohort: str
    """Cohort: name, name@version, or the line that the ingest job printed."""

    gradient: str
    """Gradient of the cohort's atlas: name, or the line that the gradients job printed."""

    alias: str = "champion"
    """Alias that the new model version gets in the registry."""

    size: Size = "base"
    """Size of the networks."""

    n_timepoints: int = pydantic.Field(default=160, ge=1)
    """Timepoints in a window, after resampling."""

    patch_size: int = pydantic.Field(default=16, ge=1)
    """Timepoints in a patch."""

    target_t_r: float | None = pydantic.Field(default=None, gt=0)
    """Repetition time to resample scans to, in seconds; empty: as they are."""

    scaling: ScalingKind = "robust"
    """robust: the reference's per-ROI median and IQR over scan means (needs series that kept their mean);
    zscore: each ROI of each window."""

    mask: MaskSpec = MaskSpec()
    """How masks are drawn, and the shares of their blocks."""

    optim: OptimConfig = OptimConfig()
    """Optimizer and schedules."""

    steps: int = pydantic.Field(ge=0)
    """Optimizer steps; 0 registers the untrained twin."""

    windows_per_scan: int = pydantic.Field(default=1, ge=1)
    """Random windows of every scan in one epoch."""

    seed: int = pydantic.Field(default=0, ge=0)
    """Seed of weights, windows and masks."""

    log_every: int = pydantic.Field(default=10, ge=1)
    """Steps between two points of the curves."""

    warehouse: str = "warehouse"
    """Where cohorts and gradients live (path or URI)."""

    cluster: ClusterConfig = ClusterConfig()
    """Where to run."""

    non_identity: ClassVar[frozenset[str]] = frozenset({"warehouse", "cluster", "log_every", "alias"})

    @pydantic.model_validator(mode="after")
    def _check(self) -> Self:
        check_alias(self.alias)
        if self.steps and self.optim.warmup_steps >= self.steps:
            raise ValueError(f"optim.warmup_steps ({self.optim.warmup_steps}) must be below steps ({self.steps})")
        return self

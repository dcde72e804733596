"""What the pretrain room is told."""

from typing import ClassVar, Literal, Self

import pydantic

from boldstream.analysis.collapse import CollapseThresholds
from boldstream.cluster import ClusterConfig, Gpu
from boldstream.config import Config
from boldstream.encoders.brainjepa.config import Size
from boldstream.encoders.brainjepa.scaling import ScalingKind
from boldstream.encoders.brainjepa.specs import Initialisation, MaskSpec, ObjectiveSpec, OptimSpec
from boldstream.refs import ArtifactName, check_alias


class WorkersConfig(Config):
    """How many workers train, and what each of them gets (Ray Train's ScalingConfig)."""

    count: int = pydantic.Field(default=1, ge=1)
    """Workers; each holds the networks and computes its share of every batch."""

    cpus: float = pydantic.Field(default=1.0, gt=0)
    """Logical CPUs a worker; one more is needed for the tasks that read windows."""

    gpu: Gpu = "auto"
    """One GPU a worker; auto: if the cluster has as many."""

    placement: Literal["PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"] = "PACK"
    """How Ray places the workers on the machines."""


class ComputeConfig(Config):
    """How a worker computes. It changes speed and memory, and the last digits."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the matrix products; auto: bfloat16 on a GPU, float32 on a CPU."""

    compile: bool = False
    """Compile the networks with torch.compile (a minute at the start)."""

    recompute: bool = False
    """Activation checkpointing: compute the blocks again in the backward pass instead of keeping them."""

    sharding: Literal["ddp", "fsdp"] = "ddp"
    """ddp: every worker holds all weights; fsdp: weights and optimizer are sharded over the workers (large)."""


class CheckpointConfig(Config):
    """When the training's state is kept, and what happens when a worker dies."""

    every_steps: int = pydantic.Field(default=200, ge=1)
    """Optimizer steps between checkpoints; there is one at the end in any case."""

    keep: int = pydantic.Field(default=2, ge=1)
    """Newest checkpoints that are kept."""

    max_failures: int = pydantic.Field(default=3, ge=0)
    """How often lost workers are replaced, from the last checkpoint, before the job gives up."""

    storage: str | None = None
    """Folder for checkpoints (path or URI, reachable by all workers); empty: training/ in the warehouse."""


class MonitorConfig(Config):
    """What is measured during training: collapse on held-out scans, and small probes."""

    every_epochs: float = pydantic.Field(default=1.0, gt=0)
    """Epochs between two measurements of collapse; there is one at the start and one at the end too."""

    scans: int = pydantic.Field(default=64, ge=2)
    """Scans that collapse is measured on, one window each: held-out ones, or trained ones where none is held out."""

    thresholds: CollapseThresholds = CollapseThresholds()
    """Limits beyond which a measurement is an alarm."""

    from_epoch: float = pydantic.Field(default=1.0, ge=0)
    """Alarms count from this epoch on: fresh networks see little but positions."""

    on_collapse: Literal["warn", "stop"] = "warn"
    """warn: tag the run and the model, say it, go on; stop: end the training."""

    probe_every_epochs: float | None = pydantic.Field(default=None, gt=0)
    """Epochs between probes of age (ridge) and sex (logistic) on the held-out scans; empty: none."""

    probe_scans: int = pydantic.Field(default=512, ge=8)
    """Trained scans that the probes are fitted on, at most."""


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

    initialisation: Initialisation = "xavier"
    """xavier: weights scaled to their widths, as the paper says; reference: standard deviation 0.02, as its code does,
    with which networks as narrow as tiny hardly see the scans."""

    mask: MaskSpec = MaskSpec()
    """How masks are drawn, and the shares of their blocks."""

    objective: ObjectiveSpec = ObjectiveSpec()
    """What is minimised: the paper's prediction, and what keeps it from collapsing."""

    optim: OptimSpec = OptimSpec()
    """Optimizer and schedules."""

    steps: int | None = pydantic.Field(default=None, ge=0)
    """Optimizer steps; 0 registers the untrained twin."""

    epochs: float | None = pydantic.Field(default=None, gt=0)
    """Passes over the training scans, in place of steps."""

    windows_per_scan: int = pydantic.Field(default=1, ge=1)
    """Random windows of every scan in one epoch."""

    holdout: float = pydantic.Field(default=0.1, ge=0, lt=1)
    """Share of subjects that are not trained on, to measure collapse and probes on."""

    seed: int = pydantic.Field(default=0, ge=0)
    """Seed of weights, windows, masks and held-out subjects."""

    compute: ComputeConfig = ComputeConfig()
    """Arithmetic, and what is traded for speed or memory."""

    workers: WorkersConfig = WorkersConfig()
    """Workers that train; it does not change the result beyond rounding."""

    checkpoint: CheckpointConfig = CheckpointConfig()
    """Checkpoints, and failures that are survived."""

    monitor: MonitorConfig = MonitorConfig()
    """Collapse alarms and probes during training."""

    data_licence: str = "not stated"
    """Licence or terms of the cohort's scans, for the model card."""

    log_every: int = pydantic.Field(default=10, ge=1)
    """Steps between two points of the curves."""

    fresh: bool = False
    """Throw away what an unfinished training of this output has left, instead of going on with it."""

    warehouse: str = "warehouse"
    """Where cohorts and gradients live (path or URI)."""

    cluster: ClusterConfig = ClusterConfig()
    """Where to run."""

    non_identity: ClassVar[frozenset[str]] = frozenset(
        {"warehouse", "cluster", "workers", "checkpoint", "monitor", "log_every", "alias", "fresh", "data_licence"}
    )

    @property
    def micro_batch(self) -> int:
        """Windows that a worker computes at once."""
        return self.optim.micro_batch or self.optim.batch_size // self.workers.count

    @pydantic.model_validator(mode="after")
    def _check(self) -> Self:
        check_alias(self.alias)
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give either steps or epochs")
        if self.steps and self.optim.warmup_steps >= self.steps:
            raise ValueError(f"optim.warmup_steps ({self.optim.warmup_steps}) must be below steps ({self.steps})")
        batch_size, count = self.optim.batch_size, self.workers.count
        if batch_size % count or batch_size % (self.micro_batch * count):
            raise ValueError(
                f"optim.batch_size ({batch_size}) is no multiple of workers.count ({count}) times optim.micro_batch "
                f"({self.optim.micro_batch or 'empty'}), so workers would have unequal shares"
            )
        views = self.objective.views
        if self.micro_batch % views or self.windows_per_scan % views:
            raise ValueError(
                f"objective.regularizer: contrast compares {views} windows of a scan, so windows_per_scan "
                f"({self.windows_per_scan}) and optim.micro_batch ({self.micro_batch}) must be multiples of {views}"
            )
        return self

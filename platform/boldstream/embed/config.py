"""What the embed room is told."""

from typing import Any, ClassVar, Literal, Self

import pydantic

from boldstream.cluster import ClusterConfig, Gpu
from boldstream.config import Config
from boldstream.refs import ArtifactName


class ActorPool(Config):
    """The encoders of a run, each an actor of its own; a plain number n means {min: n, max: n}."""

    min: int = pydantic.Field(default=1, ge=1)
    """Encoders that are kept; fewer where the cluster has no room for them, because reading needs a CPU too."""

    max: int | None = pydantic.Field(default=None, ge=1)
    """Encoders that are added while scans wait; none: as many as the GPUs hold, on CPUs as many as min."""

    gpus: float = pydantic.Field(default=1.0, gt=0, le=1)
    """GPUs of one encoder, where the cluster has GPUs (0.5: two share one)."""

    gpu: Gpu = "auto"
    """Encode on GPUs; auto: if the cluster has any when the job starts; yes: also where an autoscaler brings them."""

    cpus: int | None = pydantic.Field(default=None, ge=1)
    """CPUs of one encoder, and its threads where there are no GPUs; none: one CPU, and a share of the cores."""

    @pydantic.model_validator(mode="before")
    @classmethod
    def _from_number(cls, value: Any) -> Any:
        return {"min": value, "max": value} if type(value) is int else value

    @pydantic.model_validator(mode="after")
    def _fits(self) -> Self:
        if self.max is not None and self.max < self.min:
            raise ValueError(f"max {self.max} is less than min {self.min}")
        return self

    def largest(self, n_gpus: int) -> int:
        """Return the most encoders at a time on a cluster with so many GPUs."""
        if self.max is not None:
            return self.max
        return max(self.min, int(n_gpus / self.gpus))


class EmbedConfig(Config):
    """Embed every scan of a cohort with a registered model version."""

    output: ArtifactName
    """Name of the embedding table."""

    cohort: str
    """Cohort: name, name@version, or the line that the ingest job printed."""

    model: str
    """Model version: models:/name@alias or models:/name/3."""

    strategy: str
    """YAML file of the recipe."""

    parts: int = pydantic.Field(default=1, ge=1)
    """Cut every scan into so many parts of equal length and embed each (2: halves, for test-retest)."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the encoder; auto: bfloat16 on a GPU, float32 on a CPU."""

    warehouse: str = "warehouse"
    """Where cohorts and tables live (path or URI)."""

    batch_size: int | Literal["auto"] = "auto"
    """Windows in one forward pass; auto: found while the work goes on. Halved where memory runs out."""

    actors: ActorPool = ActorPool()
    """Encoders side by side: {min, max, gpus, cpus}, or a number."""

    compile: bool = False
    """Compile the encoder with torch.compile (a minute at the start of every actor)."""

    max_attempts: int = pydantic.Field(default=3, ge=1)
    """Runs in which a scan that fails (out of memory, an unexpected error) is tried before it is left."""

    fail_fast: bool = False
    """Stop at the first scan that fails, instead of going on with the others."""

    replace_model: bool = False
    """Make the next version of a table that is of another model version with this one; its older versions stay."""

    first_champion: bool = True
    """Let the first version of the table be its champion; the nightly room decides that itself."""

    cluster: ClusterConfig = ClusterConfig()
    """Where to run."""

    non_identity: ClassVar[frozenset[str]] = frozenset(
        {
            "warehouse",
            "batch_size",
            "actors",
            "compile",
            "max_attempts",
            "fail_fast",
            "replace_model",
            "first_champion",
            "cluster",
        }
    )

    @pydantic.field_validator("batch_size", mode="before")
    @classmethod
    def _windows(cls, value: Any) -> Any:
        """Refuse in one line; of a union, pydantic would tell what is wrong for each member."""
        if value != "auto" and (type(value) is not int or value < 1):
            raise ValueError("is a number of windows, at least 1, or auto")
        return value

"""What the embed room is told, and the recipe that it follows."""

from typing import ClassVar, Literal

import pydantic

from boldstream.cluster import ClusterConfig
from boldstream.config import Config
from boldstream.encoders.windows import WindowSpec
from boldstream.refs import ArtifactName


class Strategy(Config):
    """A named embedding recipe (a file in configs/strategies/)."""

    id: str
    """Name of the recipe, written into every row."""

    window: WindowSpec
    """How windows are cut out of a scan."""

    pool: Literal["mean"] = "mean"
    """How tokens become one vector: their mean over regions, patches and windows."""

    keep_roi_latents: bool = False
    """Also keep the mean over patches and windows of every region, (n_rois, n_dims)."""

    harmonize: Literal["none", "combat"] = "none"
    """Removal of site effects (adjust room)."""

    project_dim: int | None = pydantic.Field(default=512, ge=1)
    """Dimensions after projection (adjust room)."""

    residualize: tuple[Literal["age", "sex", "site", "mean_fd"], ...] = ()
    """Covariates to regress out (adjust room)."""

    def pending(self) -> list[str]:
        """Return the recipe's steps that the embed room leaves to the adjust room, in their order."""
        steps = [f"harmonize: {self.harmonize}"] if self.harmonize != "none" else []
        steps += [f"project_dim: {self.project_dim}"] if self.project_dim else []
        return steps + ([f"residualize: {', '.join(self.residualize)}"] if self.residualize else [])


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

    batch_size: int = pydantic.Field(default=16, ge=1)
    """Windows in one forward pass."""

    actors: int = pydantic.Field(default=1, ge=1)
    """Encoders side by side (one a GPU where there are GPUs)."""

    max_attempts: int = pydantic.Field(default=3, ge=1)
    """Runs in which a scan that fails (out of memory, an unexpected error) is tried before it is left."""

    fail_fast: bool = False
    """Stop at the first scan that fails, instead of going on with the others."""

    cluster: ClusterConfig = ClusterConfig()
    """Where to run."""

    non_identity: ClassVar[frozenset[str]] = frozenset(
        {"warehouse", "batch_size", "actors", "max_attempts", "fail_fast", "cluster"}
    )

"""What the gradients room is told."""

from typing import ClassVar, Literal

import pydantic

from boldstream.cluster import ClusterConfig
from boldstream.config import Config
from boldstream.refs import ArtifactName


class GradientConfig(Config):
    """Compute the functional gradient of a cohort's mean connectivity."""

    output: ArtifactName
    """Name of the gradient."""

    cohort: str
    """Cohort: name, name@version, or the line that the ingest job printed."""

    scans: Literal["all", "training"] = "all"
    """Whose connectivity is averaged: all scans', or the training scans' that the cohort's statistics are of."""

    n_components: int = pydantic.Field(default=30, ge=1)
    """Components to keep (Brain-JEPA: 30)."""

    alpha: float = pydantic.Field(default=0.5, ge=0, le=1)
    """Anisotropic diffusion parameter."""

    warehouse: str = "warehouse"
    """Where cohorts and gradients live (path or URI)."""

    cluster: ClusterConfig = ClusterConfig()
    """Where to run."""

    non_identity: ClassVar[frozenset[str]] = frozenset({"warehouse", "cluster"})

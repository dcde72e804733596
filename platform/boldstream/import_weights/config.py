"""What the import_weights room is told."""

from typing import Annotated, ClassVar, Self

import pydantic

from boldstream.config import Config
from boldstream.encoders.brainjepa.scaling import ScalingKind
from boldstream.refs import ArtifactName, check_alias

UNKNOWN = "unknown"
"""Licence of whoever does not know it."""


class ImportWeightsConfig(Config):
    """Check weights from elsewhere and register them as a model version."""

    output: ArtifactName
    """Name of the registered model."""

    weights: str
    """Checkpoint with all three networks: the reference's .pth.tar, or its conversion to .safetensors."""

    gradient: str
    """Gradient that the weights were pretrained with: comma-separated numbers, a region a line, no header."""

    atlas: str
    """Name of the atlas, as it will stand in the model version."""

    atlas_labels: str
    """File with the region names (.txt, .csv or .tsv), in the order of the gradient's lines."""

    licence: Annotated[str, pydantic.StringConstraints(strip_whitespace=True, min_length=1)]
    """Licence that you have the weights under; ``unknown`` if you do not know."""

    scaling: ScalingKind = "robust"
    """robust: what the weights were pretrained with; needs `statistics`. zscore: each ROI of each window, on which
    they were not pretrained."""

    statistics: str | None = None
    """File (.npz) with the arrays ``medians`` and ``iqrs`` of the robust scaling, a number a region."""

    num_heads: int | None = pydantic.Field(default=None, ge=1)
    """Attention heads, which no weight tells; empty: those of the named size with the weights' width."""

    alias: str = "champion"
    """Alias that the model version gets in the registry."""

    non_identity: ClassVar[frozenset[str]] = frozenset({"alias"})

    @property
    def licence_is_known(self) -> bool:
        """Whether a licence is stated."""
        return self.licence.lower() != UNKNOWN

    @pydantic.model_validator(mode="after")
    def _check(self) -> Self:
        check_alias(self.alias)
        if self.scaling == "robust" and not self.statistics:
            raise ValueError(
                "scaling robust needs statistics: each region's median and interquartile range of the pretraining "
                "scans' temporal means. Brain-JEPA's authors never released theirs (issues 2 and 18 of their "
                "repository); fit them on your own cohort (numpy.savez of arrays medians and iqrs), or choose "
                "scaling: zscore, on which the weights were not pretrained"
            )
        if self.scaling != "robust" and self.statistics:
            raise ValueError(
                f"statistics are of scaling robust, scaling {self.scaling} has none; leave one of them out"
            )
        return self

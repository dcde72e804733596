"""Sizes of a Brain-JEPA model."""

from typing import Any, Literal, Self

import pydantic

from boldstream.config import Config

Size = Literal["tiny", "small", "base", "large"]

# small, base, large: the paper's ViT-S/B/L with its predictors; tiny is ours, for two CPU cores
SIZES: dict[str, dict[str, int]] = {
    "tiny": {"embed_dim": 64, "depth": 4, "num_heads": 4, "predictor_embed_dim": 32, "predictor_depth": 2},
    "small": {
        "embed_dim": 384,
        "depth": 12,
        "num_heads": 6,
        "predictor_embed_dim": 192,
        "predictor_depth": 6,
    },
    "base": {
        "embed_dim": 768,
        "depth": 12,
        "num_heads": 12,
        "predictor_embed_dim": 384,
        "predictor_depth": 6,
    },
    "large": {
        "embed_dim": 1024,
        "depth": 24,
        "num_heads": 16,
        "predictor_embed_dim": 384,
        "predictor_depth": 12,
    },
}


class BrainJEPAConfig(Config):
    """Everything that shapes the weights of a Brain-JEPA model."""

    n_rois: int = pydantic.Field(gt=0)
    """Regions of the atlas."""
    n_timepoints: int = pydantic.Field(default=160, gt=0)
    """Timepoints in a window; those after the last whole patch are not read."""
    patch_size: int = pydantic.Field(default=16, gt=0)
    """Timepoints of one region in a token."""
    gradient_dims: int = pydantic.Field(default=30, gt=0)
    """Components of the functional gradient."""
    embed_dim: int = pydantic.Field(gt=0)
    """Width of the encoder's tokens."""
    depth: int = pydantic.Field(gt=0)
    """Blocks of the encoder."""
    num_heads: int = pydantic.Field(gt=0)
    """Attention heads, of the encoder and of the predictor."""
    mlp_ratio: float = pydantic.Field(default=4.0, gt=0)
    """Width of the blocks' hidden layer relative to the token."""
    predictor_embed_dim: int = pydantic.Field(gt=0)
    """Width of the predictor's tokens."""
    predictor_depth: int = pydantic.Field(gt=0)
    """Blocks of the predictor."""
    layer_norm_eps: float = pydantic.Field(default=1e-6, gt=0)
    """Epsilon of every LayerNorm that has parameters."""

    @property
    def n_patches(self) -> int:
        """Tokens a region: whole patches in a window."""
        return self.n_timepoints // self.patch_size

    @property
    def n_tokens(self) -> int:
        """Tokens a window."""
        return self.n_rois * self.n_patches

    @pydantic.model_validator(mode="after")
    def _fits(self) -> Self:
        if self.n_patches == 0:
            raise ValueError(f"n_timepoints {self.n_timepoints} holds no whole patch of patch_size {self.patch_size}")
        for name in ("embed_dim", "predictor_embed_dim"):
            width = getattr(self, name)
            # half of a position embedding is time, half of that a sine
            if width % 4:
                raise ValueError(f"{name} {width} is not a multiple of 4, as the position embedding needs")
            if width % self.num_heads:
                raise ValueError(f"{name} {width} is not a multiple of num_heads {self.num_heads}")
        return self

    @classmethod
    def sized(cls, size: Size, n_rois: int, **values: Any) -> Self:
        """Return a named size for an atlas; `values` override single fields.

        Parameters
        ----------
        size : {"tiny", "small", "base", "large"}
            ``small``, ``base`` and ``large`` are the paper's; ``tiny`` (0.2 M parameters) is ours.
        n_rois : int
            Regions of the atlas.

        Raises
        ------
        ConfigError
            If a value does not fit the others.
        """
        return cls.from_mapping({**SIZES[size], "n_rois": n_rois, **values}, where=f"model size {size}")

"""Position embedding of Brain-JEPA: time by sines, regions by their functional gradient (paper, Sec. 3.1).

Shape suffixes: N tokens (ROI-major: ``roi * n_patches + patch``), R rois, D width, G gradient dims.
"""

from typing import Any, Self

import torch
from torch import Tensor, nn

from boldstream.encoders.brainjepa.config import BrainJEPAConfig
from boldstream.errors import GradientError


class PositionEmbedding(nn.Module):
    """Position of every token, (1, N, D): half time, half region.

    The region half is a learned projection of the gradient, brought to [-1, 1] by the minimum and maximum of
    the whole matrix. Parameter names are the reference's (`emb_h` holds the *time* half).

    In inference (eval mode, gradients off) the embedding is computed once and kept; train(), a change of
    mode, of weights, of device or of dtype computes it again.

    Parameters
    ----------
    config : BrainJEPAConfig
    width : int
        D.
    gradient : tensor, shape (R, G)
        Functional gradient of the atlas, in the atlas' region order; not part of the state dict.

    Raises
    ------
    GradientError
        If the gradient does not fit the configuration or is not finite.
    """

    gradient: Tensor

    def __init__(self, config: BrainJEPAConfig, width: int, gradient: Tensor) -> None:
        super().__init__()
        check_gradient(gradient, config)
        self.n_patches = config.n_patches
        time = time_embedding(config.n_patches, width // 2).repeat(config.n_rois, 1)
        # made through a Parameter of the default device, so that building on "meta" stays cheap
        self.emb_h = nn.Parameter(torch.empty(config.n_tokens, width // 2), requires_grad=False)
        with torch.no_grad():
            self.emb_h.copy_(time)
        self.predictor_pos_embed_proj = nn.Linear(config.gradient_dims, width // 2)
        self.register_buffer("gradient", gradient.detach().clone().to(torch.float32), persistent=False)
        self._kept: Tensor | None = None
        self._kept_for: tuple[int, ...] = ()
        self.register_load_state_dict_post_hook(_forget_after_loading)

    def forward(self) -> Tensor:
        """Return the embedding, shape (1, N, D), in the weights' dtype."""
        if self.training or torch.is_grad_enabled():
            return self._compute()
        state = self._weights_state()
        if self._kept is None or state != self._kept_for:
            # a tensor made inside inference_mode could not be used outside of it later
            with torch.inference_mode(False), torch.no_grad():
                self._kept = self._compute()
            self._kept_for = state
        return self._kept

    def forget(self) -> None:
        """Drop the kept embedding."""
        self._kept = None

    def train(self, mode: bool = True) -> Self:
        """Set the mode, as every module does, and drop the kept embedding."""
        self.forget()
        return super().train(mode)

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        self.forget()
        return super()._apply(fn, recurse)

    def _weights_state(self) -> tuple[int, ...]:
        """Identify the weights' content: torch counts every in-place change (the EMA's, for one)."""
        tensors = (self.emb_h, *self.predictor_pos_embed_proj.parameters(), self.gradient)
        return tuple(part for t in tensors for part in (t.data_ptr(), 0 if t.is_inference() else t._version))

    def _compute(self) -> Tensor:
        # never under autocast: the rescaling divides by a difference that bfloat16 would round
        with torch.autocast(self.emb_h.device.type, enabled=False):
            region_RD = self.predictor_pos_embed_proj(self.gradient)
            low, high = region_RD.min(), region_RD.max()
            region_RD = (region_RD - low) / (high - low) * 2 - 1
            region_ND = region_RD.repeat_interleave(self.n_patches, dim=0)
            return torch.cat([self.emb_h, region_ND], dim=1).unsqueeze(0)


def time_embedding(n_patches: int, width: int) -> Tensor:
    """Return sines, then cosines, of the patch index, shape (n_patches, width), float32.

    Frequencies fall geometrically from 1 to 1e-4 (exclusive); computed in float64 and rounded once.
    """
    half = width // 2
    with torch.device("cpu"):
        frequency = 10000.0 ** -(torch.arange(half, dtype=torch.float64) / half)
        angle = torch.arange(n_patches, dtype=torch.float64)[:, None] * frequency[None, :]
        return torch.cat([angle.sin(), angle.cos()], dim=1).to(torch.float32)


def check_gradient(gradient: Tensor, config: BrainJEPAConfig) -> None:
    """Refuse a gradient of another shape than the configuration's, not finite, or without any contrast.

    Raises
    ------
    GradientError
    """
    wanted = (config.n_rois, config.gradient_dims)
    if tuple(gradient.shape) != wanted:
        raise GradientError(
            f"gradient has shape {tuple(gradient.shape)}, the model takes {wanted} (n_rois, gradient_dims); "
            "use the gradient of the model's atlas"
        )
    if gradient.is_meta:
        return
    if not torch.isfinite(gradient).all():
        raise GradientError(
            f"gradient holds {int((~torch.isfinite(gradient)).sum())} values that are NaN or infinite; compute it again"
        )
    if config.n_rois > 1 and bool((gradient == gradient[0]).all()):
        raise GradientError("gradient is the same for every region, so regions have no position; compute it again")


def _forget_after_loading(module: nn.Module, _: Any) -> None:
    assert isinstance(module, PositionEmbedding)
    module.forget()

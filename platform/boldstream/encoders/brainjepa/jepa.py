"""The Brain-JEPA objective: predict the target encoder's tokens where the encoder did not look."""

import copy
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from boldstream.encoders.brainjepa.config import BrainJEPAConfig
from boldstream.encoders.brainjepa.encoder import BrainJEPAEncoder, gather_tokens, initialise_xavier
from boldstream.encoders.brainjepa.predictor import BrainJEPAPredictor
from boldstream.encoders.brainjepa.specs import Initialisation


class BrainJEPA(nn.Module):
    """``|| predictor(encoder(x at context), targets) - norm(target_encoder(x))[targets] ||``, smooth L1.

    The target encoder gets no gradient; it follows the encoder by `update_target`. Keys of the state dict are
    ``encoder.*``, ``predictor.*`` and ``target_encoder.*``.

    Parameters
    ----------
    encoder : BrainJEPAEncoder
    predictor : BrainJEPAPredictor
    target_encoder : BrainJEPAEncoder, optional
        A copy of the encoder by default, as at the start of training.
    """

    def __init__(
        self,
        encoder: BrainJEPAEncoder,
        predictor: BrainJEPAPredictor,
        target_encoder: BrainJEPAEncoder | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.predictor = predictor
        self.target_encoder = copy.deepcopy(encoder) if target_encoder is None else target_encoder
        self.target_encoder.requires_grad_(False)

    @classmethod
    def build(cls, config: BrainJEPAConfig, gradient: Tensor, initialisation: Initialisation = "reference") -> Self:
        """Return freshly initialised networks (torch's global random state decides the weights)."""
        encoder, predictor = BrainJEPAEncoder(config, gradient), BrainJEPAPredictor(config, gradient)
        if initialisation == "xavier":
            encoder.apply(initialise_xavier)
            predictor.apply(initialise_xavier)
        return cls(encoder, predictor)

    def targets(self, x: Tensor, target_index: Tensor) -> Tensor:
        """Return the target encoder's tokens at the targets, layer-normed, without gradient.

        The norm has no parameters and eps 1e-5; the target encoder sees the whole window.

        Parameters
        ----------
        x : tensor, shape (B, 1, n_rois, n_timepoints)
        target_index : tensor, shape (B, N_tgt), int64

        Returns
        -------
        tensor, shape (B, N_tgt, D)
        """
        with torch.no_grad():
            tokens = self.target_encoder(x)
            return gather_tokens(F.layer_norm(tokens, tokens.shape[-1:]), target_index)

    def predict(self, x: Tensor, context_index: Tensor, target_index: Tensor) -> Tensor:
        """Return the predicted tokens at the targets, shape (B, N_tgt, D), from the context alone."""
        return self.predictor(self.encoder(x, context_index), context_index, target_index)

    def loss(self, x: Tensor, context_index: Tensor, target_index: Tensor) -> Tensor:
        """Return the smooth L1 distance of prediction and targets, mean over everything.

        Parameters
        ----------
        x : tensor, shape (B, 1, n_rois, n_timepoints)
            Scaled windows.
        context_index, target_index : tensor, shape (B, N_ctx) and (B, N_tgt), int64
            Token indices, ROI-major (see `masks.sample_masks`).

        Returns
        -------
        tensor, scalar
        """
        predicted = self.predict(x, context_index, target_index)
        # outside of autocast's choice: bfloat16 cannot hold the loss's decimals
        wide = torch.promote_types(predicted.dtype, torch.float32)
        return F.smooth_l1_loss(predicted.to(wide), self.targets(x, target_index).to(wide))

    def forward(self, x: Tensor, context_index: Tensor, target_index: Tensor) -> Tensor:
        """Return `loss`; DistributedDataParallel synchronises gradients only through ``forward``."""
        return self.loss(x, context_index, target_index)

    @torch.no_grad()
    def update_target(self, momentum: float) -> None:
        """Move the target encoder towards the encoder: ``k = momentum * k + (1 - momentum) * q``.

        Once an optimizer step, after it. Frozen position tables are the same in both and are left alone, so
        rounding cannot make them drift.
        """
        pairs = [
            (k, q)
            for k, q in zip(self.target_encoder.parameters(), self.encoder.parameters(), strict=True)
            if q.requires_grad
        ]
        torch._foreach_lerp_([k for k, _ in pairs], [q for _, q in pairs], 1.0 - momentum)
        self.target_encoder.pos_embed_proj.forget()

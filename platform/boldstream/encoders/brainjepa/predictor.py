"""Brain-JEPA's predictor: from context tokens to the target encoder's tokens at the targets.

Shape suffixes as in `encoder`; E is the predictor's width.
"""

import torch
from torch import Tensor, nn

from boldstream.encoders.brainjepa.config import BrainJEPAConfig
from boldstream.encoders.brainjepa.encoder import Block, gather_tokens, initialise, run_blocks
from boldstream.encoders.brainjepa.position import PositionEmbedding


class BrainJEPAPredictor(nn.Module):
    """Transformer that sees context tokens and one mask token a target, all targets in one sequence.

    It has the encoder's number of heads, and a position embedding of its own.

    Parameters
    ----------
    config : BrainJEPAConfig
    gradient : tensor, shape (n_rois, gradient_dims)
        Functional gradient in the atlas' region order.

    Raises
    ------
    GradientError
        If the gradient does not fit.
    """

    def __init__(self, config: BrainJEPAConfig, gradient: Tensor) -> None:
        super().__init__()
        width = config.predictor_embed_dim
        self.config = config
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.predictor_embed = nn.Linear(config.embed_dim, width)
        self.predictor_2dpe_proj = PositionEmbedding(config, width, gradient)
        self.predictor_blocks = nn.ModuleList(
            Block(width, config.num_heads, config.mlp_ratio, config.layer_norm_eps)
            for _ in range(config.predictor_depth)
        )
        self.predictor_norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.predictor_proj = nn.Linear(width, config.embed_dim)
        self.recompute = False
        self.apply(initialise)
        nn.init.trunc_normal_(self.mask_token, std=0.02)

    def forward(self, context_BKD: Tensor, context_index: Tensor, target_index: Tensor) -> Tensor:
        """Predict the tokens at the targets.

        Parameters
        ----------
        context_BKD : tensor, shape (B, N_ctx, D)
            Encoder output on the context.
        context_index, target_index : tensor, shape (B, N_ctx) and (B, N_tgt), int64
            Where context and targets lie, ROI-major.

        Returns
        -------
        tensor, shape (B, N_tgt, D)
        """
        position = self.predictor_2dpe_proj()
        context_BKE = self.predictor_embed(context_BKD) + gather_tokens(position, context_index)
        targets_BME = self.mask_token + gather_tokens(position, target_index)
        x_BNE = torch.cat([context_BKE, targets_BME], dim=1)
        x_BNE = run_blocks(self.predictor_blocks, x_BNE, recompute=self.recompute)
        predicted_BME = self.predictor_norm(x_BNE[:, context_index.shape[1] :])
        return self.predictor_proj(predicted_BME)

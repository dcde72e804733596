"""Brain-JEPA's encoder, also its target encoder (paper, Sec. 3; sizes and names as in the released weights).

Shape suffixes: B batch, C = 1 channel, R rois, T timepoints, P patches, N = R * P tokens (ROI-major),
D width, H heads.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from boldstream.encoders.brainjepa.config import BrainJEPAConfig
from boldstream.encoders.brainjepa.position import PositionEmbedding


class Attention(nn.Module):
    """Multi-head self-attention with one joint projection to queries, keys and values."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x_BND: Tensor) -> Tensor:
        """Attend over all N tokens; (B, N, D) in and out."""
        B, N, D = x_BND.shape
        qkv = self.qkv(x_BND).view(B, N, 3, self.num_heads, D // self.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.proj(mixed.transpose(1, 2).reshape(B, N, D))


class Mlp(nn.Module):
    """Two linear layers with an exact GELU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, D) to (…, D)."""
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, width: int, num_heads: int, mlp_ratio: float, eps: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.attn = Attention(width, num_heads)
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.mlp = Mlp(width, int(width * mlp_ratio))

    def forward(self, x_BND: Tensor) -> Tensor:
        """Return (B, N, D)."""
        x_BND = x_BND + self.attn(self.norm1(x_BND))
        return x_BND + self.mlp(self.norm2(x_BND))


class PatchEmbedding(nn.Module):
    """One token for every `patch_size` timepoints of one region."""

    def __init__(self, patch_size: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(1, width, kernel_size=(1, patch_size), stride=(1, patch_size))

    def forward(self, x_BCRT: Tensor) -> Tensor:
        """Return tokens (B, N, D), ROI-major."""
        return self.proj(x_BCRT).flatten(2).transpose(1, 2)


class BrainJEPAEncoder(nn.Module):
    """Vision transformer over (roi, patch) tokens, without a class token.

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
        self.config = config
        self.patch_embed = PatchEmbedding(config.patch_size, config.embed_dim)
        self.pos_embed_proj = PositionEmbedding(config, config.embed_dim, gradient)
        self.blocks = nn.ModuleList(
            Block(config.embed_dim, config.num_heads, config.mlp_ratio, config.layer_norm_eps)
            for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.embed_dim, eps=config.layer_norm_eps)
        self.recompute = False
        self.apply(initialise)

    def forward(self, x_BCRT: Tensor, context_index: Tensor | None = None) -> Tensor:
        """Encode windows, or only the tokens named by `context_index`.

        Parameters
        ----------
        x_BCRT : tensor, shape (B, 1, n_rois, n_timepoints)
        context_index : tensor, shape (B, N_ctx), int64, optional
            Tokens that the blocks see, ROI-major; all of them by default.

        Returns
        -------
        tensor, shape (B, N, D) or (B, N_ctx, D)
            Tokens after the final norm.
        """
        wanted = (1, self.config.n_rois, self.config.n_timepoints)
        if tuple(x_BCRT.shape[1:]) != wanted:
            raise ValueError(f"input has shape {tuple(x_BCRT.shape)}, the encoder takes (B, {wanted})")
        x_BND = self.patch_embed(x_BCRT) + self.pos_embed_proj()
        if context_index is not None:
            x_BND = gather_tokens(x_BND, context_index)
        return self.norm(run_blocks(self.blocks, x_BND, recompute=self.recompute))


def run_blocks(blocks: nn.ModuleList, x_BND: Tensor, *, recompute: bool) -> Tensor:
    """Send tokens through blocks; with `recompute`, keep no activations for the backward pass."""
    for block in blocks:
        again = recompute and torch.is_grad_enabled()
        x_BND = checkpoint(block, x_BND, use_reentrant=False) if again else block(x_BND)
    return x_BND


def gather_tokens(x_BND: Tensor, index: Tensor) -> Tensor:
    """Take tokens by index: (B or 1, N, D) and (B, K) give (B, K, D)."""
    x_BND = x_BND.expand(len(index), -1, -1)
    return x_BND.gather(1, index[..., None].expand(-1, -1, x_BND.shape[-1]))


def initialise(module: nn.Module) -> None:
    """Initialise one module: weights truncated normal with std 0.02, biases 0, norms 1 and 0.

    This is the state that the reference's training really starts from. Its constructor also divides the
    residual projections by sqrt(2 * layer), but a second pass over all linear layers undoes that, and the
    paper's Xavier initialisation is in neither; so we leave both out.
    """
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.LayerNorm):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)


def initialise_xavier(module: nn.Module) -> None:
    """Initialise one module's weights by Glorot & Bengio (2010), uniform, as the paper's appendix B says.

    The patch projection counts as the linear layer that it is. Unlike `initialise`, this keeps the scale of signals in
    networks of every width: with a standard deviation of 0.02 and patches of 16 standardised timepoints, the position
    embedding has ten times a patch's amplitude, and narrow attention hardly tells tokens apart.
    """
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.xavier_uniform_(module.weight.data.flatten(1))


def token_grid(tokens_BND: Tensor, config: BrainJEPAConfig) -> Tensor:
    """View ROI-major tokens (B, N, D) as (B, n_rois, n_patches, D)."""
    return tokens_BND.unflatten(1, (config.n_rois, config.n_patches))


def count_parameters(module: nn.Module) -> tuple[int, int]:
    """Return the number of parameters: all, and those that are trained."""
    sizes = [(p.numel(), p.requires_grad) for p in module.parameters()]
    return sum(n for n, _ in sizes), sum(n for n, trained in sizes if trained)

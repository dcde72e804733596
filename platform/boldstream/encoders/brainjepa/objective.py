"""What pretraining minimises: the paper's prediction of latents, and what keeps them about the scans.

The plain objective has a solution that uses nothing of a scan: tokens that depend on their position alone. It is the
first that training finds, because positions are most of a token at the start (`docs/collapse.md` has the numbers).
Two remedies that leave networks and checkpoints as they are:

- ``targets: position`` standardises the targets at every token position over the training windows: what all scans
  have in common is no part of the loss. Centring targets by running statistics is DINO's remedy (Caron et al., ICCV
  2021), standardising them BYOL's batch norm (Grill et al., NeurIPS 2020); here it is done at each position.
- ``regularizer`` adds a published term on the encoder's context tokens, each without the mean of its position in the
  micro-batch, so that positions cannot satisfy it: ``vicreg``, variance and covariance over tokens (Bardes, Ponce &
  LeCun, ICLR 2022), or ``contrast``, which tells two windows of the same scan from those of others by their mean
  token (InfoNCE; van den Oord et al. 2018; between windows of a scan as in SwiFT's contrastive pretraining).

Shape suffixes: B windows, K context tokens, M targets, N positions, D width.
"""

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from boldstream.encoders.brainjepa.encoder import gather_tokens
from boldstream.encoders.brainjepa.jepa import BrainJEPA
from boldstream.encoders.brainjepa.specs import ObjectiveSpec

EPS = 1e-4
LARGEST = 5.0
"""Standardised targets are clipped to so many standard deviations: a position may hardly have varied so far."""
MEMORY = 0.99
"""Momentum of the targets' running statistics, an optimizer step."""
COVARIANCE = 0.04
"""Weight of VICReg's covariance term relative to its variance term, as published (1 and 25)."""


class Objective(nn.Module):
    """Loss of a micro-batch of windows, with the running statistics that it needs.

    Parameters
    ----------
    jepa : BrainJEPA
    spec : ObjectiveSpec

    Attributes
    ----------
    target_mean, target_variance : tensor, shape (N, D)
        Of the layer-normed targets at every position, over windows; with ``targets: position`` only.
    """

    target_mean: Tensor
    target_variance: Tensor
    _sums: Tensor

    def __init__(self, jepa: BrainJEPA, spec: ObjectiveSpec) -> None:
        super().__init__()
        self.jepa, self.spec = jepa, spec
        if spec.targets == "position":
            shape = (jepa.encoder.config.n_tokens, jepa.encoder.config.embed_dim)
            self.register_buffer("target_mean", torch.zeros(shape))
            self.register_buffer("target_variance", torch.ones(shape))
            self.register_buffer("_sums", torch.zeros(2, *shape), persistent=False)
            self._n_windows = 0

    def forward(self, x: Tensor, context_index: Tensor, target_index: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss, and its parts for the curves.

        Parameters
        ----------
        x : tensor, shape (B, 1, n_rois, n_timepoints)
            Scaled windows; with ``contrast``, two of each scan after each other.
        context_index, target_index : tensor, shape (B, K) and (B, M), int64

        Returns
        -------
        loss : tensor, scalar
        parts : dict of tensor, scalar, without gradient
            ``prediction``, ``explained_between``, and the regularizer's.
        """
        context_BKD = self.jepa.encoder(x, context_index)
        predicted_BMD = self.jepa.predictor(context_BKD, context_index, target_index)
        # outside of autocast's choice: bfloat16 cannot hold the loss's decimals
        wide = torch.promote_types(predicted_BMD.dtype, torch.float32)
        targets_BMD = gather_tokens(self._targets(x), target_index)
        loss = F.smooth_l1_loss(predicted_BMD.to(wide), targets_BMD.to(wide))
        n_positions = self.jepa.encoder.config.n_tokens
        explained = explained_between(predicted_BMD.detach().to(wide), targets_BMD.to(wide), target_index, n_positions)
        parts = {"prediction": loss.detach(), "explained_between": explained}
        if self.spec.regularizer != "none":
            centred_BKD = centre_positions(context_BKD.to(wide), context_index, n_positions)
            if self.spec.regularizer == "vicreg":
                term, found = vicreg(centred_BKD.flatten(0, 1))
            else:
                term, found = contrast(centred_BKD.mean(dim=1), self.spec.temperature)
            loss = loss + self.spec.weight * term
            parts |= found
        return loss, parts

    @torch.no_grad()
    def _targets(self, x: Tensor) -> Tensor:
        """Return the target encoder's tokens of the whole windows, normalised, (B, N, D)."""
        tokens_BND = self.jepa.target_encoder(x)
        tokens_BND = F.layer_norm(tokens_BND.float(), tokens_BND.shape[-1:])
        if self.spec.targets == "layer_norm":
            return tokens_BND
        if self.training:
            self._sums[0] += tokens_BND.sum(dim=0)
            self._sums[1] += tokens_BND.square().sum(dim=0)
            self._n_windows += len(tokens_BND)
        standardised = (tokens_BND - self.target_mean) * torch.rsqrt(self.target_variance + EPS)
        return standardised.clamp(-LARGEST, LARGEST)

    @torch.no_grad()
    def after_step(self, step: int, momentum: float) -> None:
        """Move the target encoder, and the running statistics by what all workers' windows of the step were.

        Parameters
        ----------
        step : int
            Optimizer step, 1 for the first.
        momentum : float
            Of the target encoder.
        """
        self.jepa.update_target(momentum)
        if self.spec.targets != "position":
            return
        n_windows = self._n_windows
        if dist.is_initialized():
            dist.all_reduce(self._sums)
            n_windows *= dist.get_world_size()
        mean, square = self._sums / n_windows
        share = max(1 - MEMORY, 1 / step)
        # with that between steps: a step's few windows have too little of it, a single one none
        variance = (square - mean.square()).clamp(min=0) + (1 - share) * (mean - self.target_mean).square()
        self.target_mean.lerp_(mean, share)
        self.target_variance.lerp_(variance, share)
        self._sums.zero_()
        self._n_windows = 0


def centre_positions(x_BKD: Tensor, index_BK: Tensor, n_positions: int) -> Tensor:
    """Subtract from every token the mean of its position over the micro-batch; 0 where a position stands alone.

    Parameters
    ----------
    x_BKD : tensor, shape (B, K, D)
    index_BK : tensor, shape (B, K), int64
        Position of each token.
    n_positions : int
    """
    index, tokens = index_BK.flatten(), x_BKD.flatten(0, 1)
    sums = tokens.new_zeros(n_positions, tokens.shape[1]).index_add(0, index, tokens)
    counts = torch.bincount(index, minlength=n_positions)
    mean = sums / counts.clamp(min=1)[:, None]
    return ((tokens - mean[index]) * (counts > 1)[index][:, None]).view_as(x_BKD)


def explained_between(predicted_BMD: Tensor, targets_BMD: Tensor, index_BM: Tensor, n_positions: int) -> Tensor:
    """Return which share of the targets' variance between windows, at their positions, the prediction explains.

    What the loss does not show: a position-only solution has 0 here however small its loss is. 0 also where no two
    windows of the micro-batch share a target's position.
    """
    targets, predicted = (centre_positions(x, index_BM, n_positions) for x in (targets_BMD, predicted_BMD))
    variance = targets.square().sum()
    share = 1 - (targets - predicted).square().sum() / variance.clamp(min=EPS)
    return torch.where(variance > EPS, share, torch.zeros_like(share))


def vicreg(tokens: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Return VICReg's variance (hinge at standard deviation 1) and covariance terms of centred tokens (n, D)."""
    covariance = tokens.T @ tokens / len(tokens)
    deviation = (covariance.diagonal() + EPS).sqrt()
    variance = F.relu(1 - deviation).mean()
    rest = covariance - torch.diag(covariance.diagonal())
    spread = rest.square().sum() / len(covariance)
    return variance + COVARIANCE * spread, {"variance": variance.detach(), "covariance": spread.detach()}


def contrast(pooled_BD: Tensor, temperature: float) -> tuple[Tensor, dict[str, Tensor]]:
    """Return how badly each window's vector finds the other window of its scan among all, in nats.

    Parameters
    ----------
    pooled_BD : tensor, shape (B, D)
        Vectors of windows, two of each scan after each other.
    temperature : float
    """
    unit = F.normalize(pooled_BD - pooled_BD.mean(dim=0).detach(), dim=1)
    first, second = unit[0::2], unit[1::2]
    similarity = first @ second.T / temperature
    own = torch.arange(len(first), device=unit.device)
    loss = (F.cross_entropy(similarity, own) + F.cross_entropy(similarity.T, own)) / 2
    found = (similarity.argmax(dim=1) == own).float().mean()
    return loss, {"contrast": loss.detach(), "contrast_accuracy": found.detach()}

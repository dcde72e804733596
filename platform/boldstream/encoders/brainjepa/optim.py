"""How Brain-JEPA's weights move: AdamW with four groups, and schedules by optimizer step."""

import math

import torch

from boldstream.encoders.brainjepa.jepa import BrainJEPA
from boldstream.encoders.brainjepa.specs import EmaSchedule, OptimSpec

REFERENCE_ACCUMULATION = 8


def schedules(step: int, spec: OptimSpec, total: int) -> dict[str, float]:
    """Return learning rate, weight decay and EMA momentum of an optimizer step (1 for the first)."""
    return {
        "lr": learning_rate(
            step, total=total, warmup=spec.warmup_steps, start=spec.start_lr, peak=spec.lr, final=spec.final_lr
        ),
        "weight_decay": weight_decay(step, total=total, start=spec.weight_decay, final=spec.final_weight_decay),
        "ema": momentum(step, total=total, start=spec.ema, final=spec.final_ema, schedule=spec.ema_schedule),
    }


def set_schedules(optimizer: torch.optim.Optimizer, scheduled: dict[str, float]) -> None:
    """Give the optimizer's groups the learning rate and the weight decay of a step."""
    for group in optimizer.param_groups:
        group["lr"] = scheduled["lr"]
        group["weight_decay"] = scheduled["weight_decay"] if group["decays"] else 0.0


def build_optimizer(model: BrainJEPA) -> torch.optim.AdamW:
    """Return AdamW with the reference's four groups: matrices and vectors of encoder and predictor.

    Vectors (biases, norms) have no weight decay. The mask token decays with the matrices, as in the reference.
    """
    groups = []
    for decays in (True, False):
        for network in (model.encoder, model.predictor):
            chosen = [
                parameter
                for name, parameter in network.named_parameters()
                if parameter.requires_grad and (parameter.ndim > 1 and not name.endswith("bias")) == decays
            ]
            groups.append({"params": chosen, "decays": decays})
    return torch.optim.AdamW(groups, betas=(0.9, 0.999), eps=1e-8)


def learning_rate(step: int, *, total: int, warmup: int, start: float, peak: float, final: float) -> float:
    """Return the learning rate of an optimizer step: linear warm-up, then half a cosine.

    Parameters
    ----------
    step : int
        1 for the first step.
    total, warmup : int
        Optimizer steps of the whole training and of its warm-up.
    start, peak, final : float
        Learning rate before the first step, after warm-up, and at the end.
    """
    if step < warmup:
        return start + step / warmup * (peak - start)
    return final + (peak - final) * _half_cosine(step - warmup, total - warmup)


def weight_decay(step: int, *, total: int, start: float, final: float) -> float:
    """Return the weight decay of an optimizer step (1 for the first): half a cosine, `start` to `final`."""
    return final + (start - final) * _half_cosine(step, total)


def momentum(step: int, *, total: int, start: float, final: float, schedule: EmaSchedule = "paper") -> float:
    """Return the target encoder's momentum after an optimizer step (1 for the first), `start` to `final`.

    ``paper`` is linear over the optimizer steps that are really taken. ``reference`` goes an eighth of the way: the
    published run counts micro-batches in its total but advances once an optimizer step, and accumulates over 8, so
    from 0.996 it ends at 0.9965 instead of 1.
    """
    slowness = REFERENCE_ACCUMULATION if schedule == "reference" else 1
    return start + (final - start) * min((step - 1) / (total * slowness), 1.0)


def _half_cosine(step: int, total: int) -> float:
    """Fall from 1 (at 0) to 0 (at `total` and beyond)."""
    return 0.5 * (1.0 + math.cos(math.pi * min(step / max(total, 1), 1.0)))

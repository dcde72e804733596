"""The training loop of one worker: windows in, a trained Brain-JEPA out. It knows neither Ray nor MLflow."""

import math
import time
from collections.abc import Callable, Iterator, Mapping

import torch

from boldstream.encoders.brainjepa.jepa import BrainJEPA, learning_rate, momentum, weight_decay
from boldstream.encoders.brainjepa.masks import sample_masks
from boldstream.encoders.brainjepa.scaling import Scaler
from boldstream.encoders.windows import to_model_input
from boldstream.errors import TrainingError
from boldstream.pretrain.config import PretrainConfig
from boldstream.pretrain.windows import WindowBatch


def train(
    model: BrainJEPA,
    batches: Iterator[WindowBatch],
    scaler: Scaler,
    config: PretrainConfig,
    *,
    device: str,
    on_step: Callable[[int, Mapping[str, float]], None],
) -> None:
    """Train in place for ``config.steps`` optimizer steps.

    Parameters
    ----------
    model : BrainJEPA
    batches : iterator of WindowBatch
        Unscaled windows with their keys; must not end before the last step.
    scaler : Scaler
        The model's own scaling, fitted.
    config : PretrainConfig
    device : str
    on_step : callable
        Gets the step (1 for the first) and its metrics.

    Raises
    ------
    TrainingError
        If the loss is not finite; the message names the step.
    """
    model.to(device).train()
    sizes = model.encoder.config
    optimizer = build_optimizer(model)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    started, n_windows = time.monotonic(), 0
    for step in range(1, config.steps + 1):
        windows, keys = next(batches)
        scheduled = schedules(step, config)
        for group in optimizer.param_groups:
            group["lr"] = scheduled["lr"]
            group["weight_decay"] = scheduled["weight_decay"] if group["decays"] else 0.0
        masks = sample_masks(
            sizes.n_rois, sizes.n_patches, torch.tensor(keys), config.mask, seed=config.seed, step=step
        )
        x_BCRT = to_model_input(scaler.transform(windows)).to(device)
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            loss = model(x_BCRT, masks.context_index.to(device), masks.target_index.to(device))
        value = loss.item()
        if not math.isfinite(value):
            raise TrainingError(
                f"the loss is {value} at step {step} of {config.steps}; lower optim.lr (now {scheduled['lr']:.2g})"
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(trained, config.optim.clip_norm).item()
        optimizer.step()
        model.update_target(scheduled["ema"])
        n_windows += len(windows)
        rate = n_windows / (time.monotonic() - started)
        shares = {f"mask/{name}": share for name, share in masks.metrics().items()}
        on_step(step, {"loss": value, "grad_norm": norm, "windows_per_s": rate, **scheduled, **shares})


def schedules(step: int, config: PretrainConfig) -> dict[str, float]:
    """Return learning rate, weight decay and EMA momentum of an optimizer step (1 for the first)."""
    optim, total = config.optim, config.steps
    return {
        "lr": learning_rate(
            step, total=total, warmup=optim.warmup_steps, start=optim.start_lr, peak=optim.lr, final=optim.final_lr
        ),
        "weight_decay": weight_decay(step, total=total, start=optim.weight_decay, final=optim.final_weight_decay),
        "ema": momentum(step, total=total, start=optim.ema, final=optim.final_ema),
    }


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

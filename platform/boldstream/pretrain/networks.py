"""The networks of one worker: built, put on its device, wrapped for all workers, with their optimizer."""

import contextlib
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from boldstream.encoders.brainjepa.checkpoint import load_strict
from boldstream.encoders.brainjepa.encoder import BrainJEPAEncoder
from boldstream.encoders.brainjepa.jepa import BrainJEPA
from boldstream.encoders.brainjepa.objective import Objective
from boldstream.encoders.brainjepa.optim import build_optimizer
from boldstream.pretrain.task import TrainingTask

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

FULL = StateDictOptions(full_state_dict=True, cpu_offload=True)
SPREAD = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)


class Networks:
    """Objective, optimizer and wrappers of one worker.

    Parameters
    ----------
    task : TrainingTask
    device : torch.device
    n_workers, n_local : int
        Workers in all, and on this machine.

    Attributes
    ----------
    objective : Objective
        The bare module; `train_module` is what computes the loss.
    """

    def __init__(self, task: TrainingTask, device: torch.device, n_workers: int = 1, n_local: int = 1) -> None:
        compute = task.config.compute
        self.device, self.n_workers = device, n_workers
        if device.type == "cpu":
            torch.set_num_threads(max(1, (os.cpu_count() or 1) // n_local))
        jepa = fresh_networks(task)
        self.objective = Objective(jepa, task.config.objective).to(device).train()
        jepa.encoder.recompute = jepa.predictor.recompute = compute.recompute
        self.sharded = compute.sharding == "fsdp"
        if self.sharded:
            shard(jepa)
        half = compute.precision == "bfloat16" or (compute.precision == "auto" and device.type == "cuda")
        self.autocast = torch.autocast(device.type, torch.bfloat16, enabled=half)
        self.optimizer = build_optimizer(jepa)
        self.trained = [parameter for parameter in jepa.parameters() if parameter.requires_grad]
        module: nn.Module = self.objective
        if n_workers > 1 and not self.sharded:
            module = nn.parallel.DistributedDataParallel(module, broadcast_buffers=False)
        # masks have another size every step
        self.train_module = torch.compile(module, dynamic=True) if compute.compile else module
        self._wrapped = module

    @property
    def target_encoder(self) -> BrainJEPAEncoder:
        """The network that embeds."""
        return self.objective.jepa.target_encoder

    def accumulate(self, last: bool) -> "AbstractContextManager[None]":
        """Return a context in which backward keeps gradients local, unless this micro-batch is the step's last."""
        if self.n_workers == 1:
            return contextlib.nullcontext()
        if self.sharded:
            for network in (self.objective.jepa.encoder, self.objective.jepa.predictor):
                network.set_requires_gradient_sync(last)  # type: ignore[operator]
            return contextlib.nullcontext()
        return contextlib.nullcontext() if last else self._wrapped.no_sync()  # type: ignore[operator]

    def clip(self, largest: float) -> float:
        """Clip the gradients to a norm; return the norm before."""
        norm = nn.utils.clip_grad_norm_(self.trained, largest)
        return (norm.full_tensor() if hasattr(norm, "full_tensor") else norm).item()

    def full_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the weights of all networks by name, with the objective's statistics, and the optimizer's state.

        On worker 0 they are whole; with fsdp all workers have to call this.
        """
        model: Mapping[str, Any] = self.objective.state_dict()
        optimizer: Mapping[str, Any] = self.optimizer.state_dict()
        if self.sharded:
            model = get_model_state_dict(self.objective, options=FULL)
            optimizer = get_optimizer_state_dict(self.objective, self.optimizer, options=FULL)
        return {key.removeprefix("jepa."): value for key, value in model.items()}, dict(optimizer)

    def load_full_state(self, model: dict[str, Tensor], optimizer: dict[str, Any], where: str) -> None:
        """Take over what `full_state` gave.

        Raises
        ------
        CheckpointError
            If keys or shapes do not fit.
        """
        own = self.objective.state_dict()
        named: dict[str, Any] = {key if key in own else f"jepa.{key}": value for key, value in model.items()}
        if self.sharded:
            set_model_state_dict(self.objective, named, options=SPREAD)
            set_optimizer_state_dict(self.objective, self.optimizer, optimizer, options=SPREAD)
            return
        load_strict(self.objective, named, where)
        self.optimizer.load_state_dict(optimizer)


def fresh_networks(task: TrainingTask) -> BrainJEPA:
    """Return the networks before the first step; the seed alone decides their weights."""
    torch.manual_seed(task.config.seed)
    return BrainJEPA.build(task.sizes, torch.as_tensor(task.gradient), task.config.initialisation)


def shard(jepa: BrainJEPA) -> None:
    """Shard weights, gradients and optimizer state over all workers, block by block (FSDP).

    Each network is a unit of its own, because the target encoder is also called by itself.
    """
    from torch.distributed.fsdp import fully_shard

    for network, blocks in (
        (jepa.encoder, jepa.encoder.blocks),
        (jepa.target_encoder, jepa.target_encoder.blocks),
        (jepa.predictor, jepa.predictor.predictor_blocks),
    ):
        for block in blocks:
            fully_shard(block)
        # its own root, so torch would keep it whole after a forward pass; the target encoder never has a backward one
        fully_shard(network, reshard_after_forward=True)

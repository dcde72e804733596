"""The state of a training: everything to go on from, as files of a checkpoint folder.

=========================  ==============================================================================
model folder               ``config.json``, ``weights.safetensors`` (all three networks) and
                           ``preprocessing.safetensors`` (gradient, scaling): the checkpoint is a model
``training.pt``            optimizer, the objective's running statistics
``rank-<r>.pt``            random states of worker r
``connectivity.npz``       mean connectivity of the monitored windows and of their latents, for the card
``state.json``             step, number of workers, configuration, measurements and alarms so far
=========================  ==============================================================================

Masks, windows and their order follow from counters (seed, epoch, scan, step), so a step number is all of the
sampler's state. Random states are kept for whatever else may draw.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from boldstream.encoders.brainjepa.checkpoint import read_state, split_networks
from boldstream.encoders.brainjepa.folder import WEIGHTS, save_model
from boldstream.errors import CheckpointError
from boldstream.pretrain.networks import Networks
from boldstream.pretrain.task import TrainingTask
from boldstream.unpack import read_npz

TRAINING = "training.pt"
STATE = "state.json"
CONNECTIVITY = "connectivity.npz"


@dataclass
class Progress:
    """How far a training is.

    Attributes
    ----------
    step : int
        Optimizer steps that are done.
    measurements : list of dict
        What the monitor has measured, in order, each with its step.
    alarms : list of str
        Collapse alarms so far.
    connectivity : dict of array, shape (n_rois, n_rois)
        Of the monitored ``windows`` and of their ``latents``, when last measured.
    """

    step: int = 0
    measurements: list[dict[str, float]] = field(default_factory=list)
    alarms: list[str] = field(default_factory=list)
    connectivity: dict[str, NDArray[np.float64]] = field(default_factory=dict)


def save_state(folder: Path, task: TrainingTask, networks: Networks, progress: Progress, rank: int) -> None:
    """Write this worker's part of a checkpoint; all workers call it, worker 0 writes the networks."""
    torch.save(random_states(), folder / f"rank-{rank}.pt")
    model, optimizer = networks.full_state()
    if rank:
        return
    parts = split_networks({key: value for key, value in model.items() if "." in key}, "objective")
    save_networks(folder, task, parts, progress.step)
    objective = {key: value for key, value in model.items() if "." not in key}
    torch.save({"optimizer": optimizer, "objective": objective}, folder / TRAINING)
    state = {
        "step": progress.step,
        "n_workers": networks.n_workers,
        "config": task.config.identity(),
        "measurements": progress.measurements,
        "alarms": progress.alarms,
    }
    np.savez(folder / CONNECTIVITY, **progress.connectivity)  # type: ignore[arg-type]
    (folder / STATE).write_text(json.dumps(state, indent=1), encoding="utf-8")


def save_networks(
    folder: Path, task: TrainingTask, networks: Mapping[str, nn.Module | Mapping[str, Tensor]], step: int
) -> None:
    """Write a model folder of the networks as they are after a step."""
    save_model(
        folder,
        config=task.sizes,
        atlas=task.atlas,
        roi_names=task.roi_names,
        gradient=task.gradient,
        scaler=task.scaler,
        networks=networks,
        provenance=task.provenance | {"step": step},
    )


def load_state(folder: Path, task: TrainingTask, networks: Networks, rank: int) -> Progress:
    """Take over a checkpoint's state, strictly.

    Random states are taken over on the same number of workers only; nothing that training draws depends on them.

    Raises
    ------
    CheckpointError
        If a file is missing or does not fit.
    """
    try:
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
        connectivity = read_npz((folder / CONNECTIVITY).read_bytes())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder}: the checkpoint is not whole ({error})") from None
    parts = split_networks(read_state(folder / WEIGHTS), str(folder / WEIGHTS))
    saved = read_state(folder / TRAINING)
    model = {f"{network}.{key}": value for network, held in parts.items() for key, value in held.items()}
    networks.load_full_state(model | saved["objective"], saved["optimizer"], str(folder))
    if state["n_workers"] == networks.n_workers:
        restore_random_states(read_state(folder / f"rank-{rank}.pt"))
    return Progress(state["step"], state["measurements"], state["alarms"], connectivity)


def keep_model_only(folder: Path) -> None:
    """Remove what only a training needs from a checkpoint's folder, so that a model folder is left."""
    for path in (folder / TRAINING, folder / STATE, *folder.glob("rank-*.pt")):
        path.unlink()


def random_states() -> dict[str, Any]:
    """Return this process's random states."""
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_states(states: dict[str, Any]) -> None:
    """Take over random states."""
    torch.set_rng_state(states["torch"])
    if states["cuda"] and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])

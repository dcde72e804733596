"""Files laid out like the released Brain-JEPA's, made by the tests: never the authors' own."""

import numpy as np
import torch

from boldstream.encoders.brainjepa.jepa import BrainJEPA
from boldstream.parcellation.roi_order import NETWORKS_17

NETWORKS = ("encoder", "predictor", "target_encoder")


def roi_names():
    """50 names in Tian's manner (right, then left) and 400 in Schaefer's, in the order of 17 networks."""
    tian = [f"THA-{i:02d}-{side}" for side in ("rh", "lh") for i in range(25)]
    schaefer = [
        f"17Networks_{side}_{network}_{i}"
        for side in ("LH", "RH")
        for n, network in enumerate(NETWORKS_17)
        for i in range(1, 13 if n < 13 else 12)
    ]
    return [*tian, *schaefer]


def gradient(n_components=30, noise=0.3, seed=0):
    """450 rows, of which i and i + 25 are alike in the first 50 and nowhere else."""
    rng = np.random.default_rng(seed)
    scale = 1 / np.arange(1, n_components + 1)
    rows = rng.normal(size=(450, n_components))
    rows[25:50] = rows[:25] + noise * rng.normal(size=(25, n_components))
    return rows * scale * 0.05


def write_gradient(path, values):
    """Write a gradient as the reference keeps it."""
    np.savetxt(path, values, delimiter=",", fmt="%.17g")


def random_model(config, values, seed=0):
    """Build the three networks, the target encoder other than the encoder."""
    torch.manual_seed(seed)
    jepa = BrainJEPA.build(config, torch.as_tensor(values, dtype=torch.float32))
    with torch.no_grad():
        for name, tensor in jepa.target_encoder.named_parameters():
            if "emb_h" not in name:
                tensor.add_(0.01)
    return jepa.eval()


def states(jepa, prefix=""):
    """Return the state of every network, keys prefixed."""
    return {
        name: {prefix + key: value.clone() for key, value in getattr(jepa, name).state_dict().items()}
        for name in NETWORKS
    }


def checkpoint(jepa, epoch=299):
    """Return what the reference's training saves."""
    return {
        **states(jepa, "module."),
        "opt": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 1e-6, "params": [0]}]},
        "scaler": None,
        "epoch": epoch,
        "loss": 0.1,
        "batch_size": 16,
        "world_size": 4,
        "lr": 1e-3,
    }


def flat(jepa):
    """Return the tensors as the conversion to safetensors has them."""
    return {f"{name}.{key}": value for name, state in states(jepa).items() for key, value in state.items()}

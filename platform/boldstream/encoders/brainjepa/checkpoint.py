"""Reading weights, our own and foreign ones: no code is run, no key left over, none missing."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from boldstream.errors import CheckpointError

State = dict[str, Tensor]

NETWORKS = ("encoder", "predictor", "target_encoder")
PICKLED = (".pth", ".pt", ".tar", ".ckpt")
# what DistributedDataParallel and torch.compile put before every key
WRAPPERS = ("module.", "_orig_mod.")
# what a training checkpoint holds beside networks
TRAINING_STATE = frozenset({"opt", "optimizer", "scaler", "scheduler", "args"})
SHOWN = 5


def read_state(path: str | Path) -> dict[str, Any]:
    """Read a weights file as it is: ``.safetensors``, or, running no code, ``.pth``, ``.pt``, ``.pth.tar``.

    Returns
    -------
    dict
        Tensors by key; a pickled training checkpoint has nested dicts.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, of an unknown kind, or holds anything but plain values and tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such weights file")
    if path.suffix == ".safetensors":
        try:
            return dict(load_file(path))
        except SafetensorError as error:
            raise CheckpointError(f"{path}: not a whole safetensors file ({_line(error)}); fetch it again") from None
    if path.suffix not in PICKLED:
        raise CheckpointError(
            f"{path}: unknown kind of weights file {path.suffix!r}; known: .safetensors, {', '.join(PICKLED)}"
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: refused, it holds more than tensors and plain values, and loading it could run code "
            f"({_line(error)}); convert it to .safetensors where you trust it"
        ) from None
    except (RuntimeError, EOFError, ValueError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{path}: not a whole PyTorch checkpoint ({_line(error)}); fetch it again") from None
    if not isinstance(state, Mapping):
        raise CheckpointError(f"{path}: holds {type(state).__name__}, not weights by name")
    return dict(state)


def split_networks(raw: Mapping[str, Any], where: str) -> dict[str, State]:
    """Sort weights by network: ``encoder``, ``predictor``, ``target_encoder``.

    Takes flat keys (``target_encoder.norm.weight``) and nested dicts (``{"target_encoder": {"norm.weight":
    …}}``), both with or without the prefixes of DistributedDataParallel and torch.compile at any level, and
    one dict around the whole (``state_dict``, ``model``). Training state (optimizer, counters) is left out.

    Raises
    ------
    CheckpointError
        If a key belongs to no network or stands twice, or no network is there.
    """
    for wrapper in ("state_dict", "model"):
        if isinstance(raw.get(wrapper), Mapping):
            raw = raw[wrapper]
    networks: dict[str, State] = {}
    leftover: list[str] = []
    for key, value in raw.items():
        network, _, inner = _bare(str(key)).partition(".")
        if isinstance(value, Mapping) and network in NETWORKS and not inner:
            found = {str(name): tensor for name, tensor in value.items()}
        elif isinstance(value, Tensor) and network in NETWORKS and inner:
            found = {inner: value}
        elif _is_training_state(str(key), value):
            continue
        else:
            leftover.append(str(key))
            continue
        for name, tensor in found.items():
            _add(networks.setdefault(network, {}), _bare(name), tensor, f"{where}: {network}")
    if leftover:
        raise CheckpointError(f"{where}: {_listed(leftover)} belong(s) to none of the networks {', '.join(NETWORKS)}")
    if not networks:
        raise CheckpointError(f"{where}: holds none of the networks {', '.join(NETWORKS)}")
    return networks


def load_strict(module: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Copy weights into a module; all keys there, none left over, shapes right, values finite.

    Values are cast to the module's dtype. A module built on ``meta`` becomes a real one on the CPU.

    Parameters
    ----------
    module : nn.Module
    state : mapping of str to tensor
        Weights under the module's own keys.
    where : str
        File and network; begins the error message.

    Raises
    ------
    CheckpointError
        One line that names missing, extra, wrongly shaped and non-finite keys.
    """
    own = module.state_dict()
    missing = sorted(own.keys() - state.keys())
    extra = sorted(state.keys() - own.keys())
    both = [key for key in own if key in state]
    shapes = [
        f"{key} {_shape(state[key])} instead of {_shape(own[key])}"
        for key in both
        if state[key].shape != own[key].shape
    ]
    unusable = [key for key in both if not _usable(state[key])]
    parts = [
        f"{what}: {_listed(keys)}"
        for what, keys in (
            ("missing", missing),
            ("extra", extra),
            ("wrong shape", shapes),
            ("not finite numbers", unusable),
        )
        if keys
    ]
    if parts:
        raise CheckpointError(f"{where}: weights do not fit the configuration; {'; '.join(parts)}")
    # a copy, so that no weight stays tied to a memory-mapped file
    cast = {key: state[key].detach().to(own[key].dtype, copy=True) for key in both}
    on_meta = any(value.is_meta for value in own.values())
    module.load_state_dict(cast, strict=True, assign=on_meta)


def _add(network: State, name: str, value: Any, where: str) -> None:
    if not isinstance(value, Tensor):
        raise CheckpointError(f"{where}: {name!r} is {type(value).__name__}, not a tensor")
    if name in network:
        raise CheckpointError(f"{where}: {name!r} stands twice, with and without a prefix")
    network[name] = value


def _bare(key: str) -> str:
    """Strip wrappers' prefixes from the start of a key (``module`` alone is no prefix)."""
    while key.startswith(WRAPPERS):
        key = key.partition(".")[2]
    return key


def _is_training_state(key: str, value: Any) -> bool:
    return key in TRAINING_STATE or not isinstance(value, Tensor | Mapping)


def _usable(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and bool(torch.isfinite(tensor).all())


def _shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))


def _listed(names: list[str]) -> str:
    rest = f" and {len(names) - SHOWN} more ({len(names)} in all)" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + rest


def _line(error: BaseException) -> str:
    """Return the first line of an error: torch's go on for a page."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__

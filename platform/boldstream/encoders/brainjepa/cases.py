"""Brain-JEPA's conformance cases: load them like any checkpoint, compute, compare.

Rows are (name, precision computed in, largest absolute difference).
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from boldstream.encoders.brainjepa.checkpoint import State, load_strict, read_state, split_networks
from boldstream.encoders.brainjepa.config import BrainJEPAConfig
from boldstream.encoders.brainjepa.encoder import BrainJEPAEncoder
from boldstream.encoders.brainjepa.jepa import BrainJEPA
from boldstream.encoders.brainjepa.predictor import BrainJEPAPredictor
from boldstream.errors import CheckpointError, ModelError

Row = tuple[str, str, float]

SIZES = [
    "n_rois",
    "patch_size",
    "gradient_dims",
    "embed_dim",
    "depth",
    "num_heads",
    "mlp_ratio",
    "predictor_embed_dim",
    "predictor_depth",
    "layer_norm_eps",
]
GIVEN = ("gradient", "input", "context_index", "target_index")
MASKED = ("context_tokens", "predicted", "loss")


def compare(path: Path, case: Mapping[str, Any]) -> list[Row]:
    """Run a case of weights and expected tensors, in float32.

    Raises
    ------
    ModelError
        If a size, a tensor, a network or a shape is missing or does not fit.
    """
    weights = path.with_suffix(".safetensors")
    tensors = read_state(weights)
    expected = {name.removeprefix("expected."): tensors.pop(name) for name in sorted(tensors) if _is_expected(name)}
    given = {name: tensors.pop(name) for name in GIVEN if name in tensors}
    sizes = {name: require(case, name, path) for name in SIZES}
    config = BrainJEPAConfig.from_mapping({**sizes, "n_timepoints": require(case, "n_frames", path)}, where=str(path))
    if not expected:
        raise ModelError(f"{weights}: holds no expected.* tensor, so there is nothing to compare")
    states = split_networks(tensors, str(weights))
    jepa = _load(config, require(given, "gradient", weights), states, str(weights))
    context, target = check_indices(given, expected, config, str(weights))
    compute = lazy_outputs(jepa, _input(given, config, str(weights)), context, target)
    unknown = sorted(expected.keys() - compute.keys())
    if unknown:
        raise ModelError(
            f"{weights}: unknown expected.{', expected.'.join(unknown)}; known: {', '.join(sorted(compute))}"
        )
    rows = []
    for name, wanted in expected.items():
        _need(name, states, str(weights))
        with torch.inference_mode():
            ours = compute[name]()
        rows.append((f"expected.{name}", "float32", largest_difference(ours, wanted, f"{weights}: expected.{name}")))
    return rows


def _load(config: BrainJEPAConfig, gradient: Tensor, states: Mapping[str, State], where: str) -> BrainJEPA:
    encoder = BrainJEPAEncoder(config, gradient)
    jepa = BrainJEPA(encoder, BrainJEPAPredictor(config, gradient), BrainJEPAEncoder(config, gradient))
    for network, state in states.items():
        load_strict(jepa.get_submodule(network), state, f"{where}: {network}")
    return jepa.eval()


def lazy_outputs(
    jepa: BrainJEPA, x: Tensor, context: Tensor | None, target: Tensor | None
) -> dict[str, Callable[[], Tensor]]:
    """Return how each value that a case may expect is computed; masked ones need both indices."""
    return {
        "tokens": lambda: jepa.encoder(x),
        "subject_mean": lambda: jepa.encoder(x).mean(dim=1),
        "position_embedding": lambda: jepa.encoder.pos_embed_proj()[0],
        "context_tokens": lambda: jepa.encoder(x, context),
        "predicted": lambda: jepa.predict(x, context, target),  # type: ignore[arg-type]
        "loss": lambda: jepa.loss(x, context, target).reshape(1),  # type: ignore[arg-type]
    }


def _need(name: str, states: Mapping[str, State], where: str) -> None:
    """Refuse to compare what random weights would have computed."""
    networks = {"predicted": ("encoder", "predictor"), "loss": ("encoder", "predictor", "target_encoder")}
    for network in networks.get(name, ("encoder",)):
        if network not in states:
            raise CheckpointError(f"{where}: expects expected.{name} but holds no weights of {network}")


def check_indices(
    given: Mapping[str, Tensor], expected: Mapping[str, Any] | set[str], config: BrainJEPAConfig, where: str
) -> tuple[Tensor | None, Tensor | None]:
    """Check the token indices; both may be missing where nothing masked is expected."""
    wanted = {name for name in MASKED if name in expected}
    for name in GIVEN[2:]:
        index = given.get(name)
        if index is None:
            if wanted - ({"context_tokens"} if name == "target_index" else set()):
                raise ModelError(f"{where}: missing tensor {name}, which {', '.join(sorted(wanted))} need")
        elif index.dtype not in (torch.int64, torch.int32) or index.ndim != 2:
            raise ModelError(f"{where}: {name} is {index.dtype} {tuple(index.shape)}, not (B, N) integers")
        elif index.numel() == 0 or index.min() < 0 or index.max() >= config.n_tokens:
            raise ModelError(f"{where}: {name} is empty or leaves the {config.n_tokens} tokens")
    batches = {t.shape[0] if t.ndim else 0 for name, t in given.items() if name in ("input", *GIVEN[2:])}
    if len(batches) > 1:
        raise ModelError(f"{where}: input, context_index and target_index differ in batch size: {sorted(batches)}")
    context, target = (given[name].long() if name in given else None for name in GIVEN[2:])
    return context, target


def _input(given: Mapping[str, Tensor], config: BrainJEPAConfig, where: str) -> Tensor:
    x = require(given, "input", where)
    wanted = (1, config.n_rois, config.n_timepoints)
    if x.ndim != 4 or tuple(x.shape[1:]) != wanted:
        raise ModelError(f"{where}: input has shape {tuple(x.shape)}, the sizes say (B, {str(wanted)[1:]}")
    return x.to(torch.float32)


def largest_difference(ours: Tensor, wanted: Tensor, where: str) -> float:
    """Return the largest absolute difference; NaN if there is one anywhere."""
    if ours.shape != wanted.shape or wanted.numel() == 0:
        raise ModelError(f"{where} has shape {tuple(wanted.shape)}, the sizes say {tuple(ours.shape)}")
    return float((ours.double() - wanted.double()).abs().max())


def _is_expected(name: str) -> bool:
    return name.startswith("expected.")


def require(mapping: Mapping[str, Any], key: str, where: object) -> Any:
    """Return a value that a case must have; `ModelError` names it if it has not."""
    if not isinstance(mapping, Mapping) or key not in mapping:
        raise ModelError(f"{where}: missing {key!r}")
    return mapping[key]

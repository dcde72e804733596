"""Brain-JEPA's conformance cases: load them like any checkpoint, compute, compare.

Rows are (name, precision computed in, largest absolute difference).
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

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

FORMULA_SIZES = {
    "n_rois": "R",
    "n_timepoints": "T",
    "patch_size": "patch",
    "embed_dim": "embed_dim",
    "depth": "depth",
    "num_heads": "heads",
    "mlp_ratio": "mlp_ratio",
    "predictor_embed_dim": "pred_dim",
    "predictor_depth": "pred_depth",
    "layer_norm_eps": "ln_eps",
}
FORMULA_GIVEN = frozenset(
    [
        "note",
        "config",
        "weight_rule",
        "gradient_rule",
        "input_rule",
        "ctx_idx",
        "tgt_idx",
        "enc_keys_sorted",
        "pred_keys_sorted",
        "shapes",
    ]
)
GRADIENT_DIMS = 30


def compare(path: Path, case: Mapping[str, Any]) -> list[Row]:
    """Run a case of weights and expected tensors, in float32.

    Raises
    ------
    ModelError
        If a size, a tensor, a network or a shape is missing or does not fit.
    """
    weights = path.with_suffix(".safetensors")
    tensors = read_state(weights)
    expected = {
        name.removeprefix("expected."): tensors.pop(name) for name in sorted(tensors) if _is_expected(name)
    }
    given = {name: tensors.pop(name) for name in GIVEN if name in tensors}
    sizes = {name: _get(case, name, path) for name in SIZES}
    config = BrainJEPAConfig.from_mapping(
        {**sizes, "n_timepoints": _get(case, "n_frames", path)}, where=str(path)
    )
    if not expected:
        raise ModelError(f"{weights}: holds no expected.* tensor, so there is nothing to compare")
    states = split_networks(tensors, str(weights))
    jepa = _load(config, _get(given, "gradient", weights), states, str(weights))
    context, target = _indices(given, expected, config, str(weights))
    compute = _outputs(jepa, _input(given, config, str(weights)), context, target)
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
        rows.append((f"expected.{name}", "float32", _difference(ours, wanted, f"{weights}: expected.{name}")))
    return rows


def compare_formula(path: Path, case: Mapping[str, Any]) -> list[Row]:
    """Run the case whose weights follow a formula.

    Tokens, means and the loss are compared in float32 like every case. Sums of absolute values (up to 1e3)
    cannot be held to 1e-5 by float32, whose spacing there is 1e-4; they, and everything else once more, are
    compared in float64, the precision that the case was computed in.

    Raises
    ------
    ModelError
        If a key or a shape is missing or does not fit.
    """
    names = [name for name in case if name not in FORMULA_GIVEN]
    sizes = _get(case, "config", path)
    config = BrainJEPAConfig.from_mapping(
        {name: _get(sizes, key, path) for name, key in FORMULA_SIZES.items()}
        | {"gradient_dims": GRADIENT_DIMS},
        where=str(path),
    )
    roi = torch.arange(config.n_rois, dtype=torch.float64)[:, None]
    gradient = torch.cos(0.3 * roi + 0.5 * torch.arange(GRADIENT_DIMS, dtype=torch.float64))
    x = torch.sin(0.1 * torch.arange(config.n_timepoints, dtype=torch.float64) * (roi + 1))[None, None]
    given = {
        name: _numbers(case, key, path).long()[None]
        for name, key in zip(GIVEN[2:], ("ctx_idx", "tgt_idx"), strict=True)
    }
    context, target = _indices(given, set(MASKED), config, str(path))
    rows: list[Row] = []
    for dtype in (torch.float32, torch.float64):
        jepa = _formula_model(config, gradient, case, path).to(dtype)
        for module in jepa.modules():
            if hasattr(module, "gradient"):
                # .to() cast a float32 copy; the case's gradient has more digits
                module.gradient = gradient.to(dtype)
        with torch.inference_mode():
            compute = _outputs(jepa, x.to(dtype), context, target)
            outputs = {
                name: compute[name]() for name in ("tokens", "subject_mean", "position_embedding", *MASKED)
            }
        _check_shapes(outputs, _get(case, "shapes", path), path)
        for name in names:
            ours, is_sum = _formula_value(name, outputs, path)
            if is_sum and dtype is torch.float32:
                continue
            wanted = _numbers(case, name, path)
            rows.append(
                (name, str(dtype).removeprefix("torch."), _difference(ours, wanted, f"{path}: {name}"))
            )
    return rows


def _load(config: BrainJEPAConfig, gradient: Tensor, states: Mapping[str, State], where: str) -> BrainJEPA:
    encoder = BrainJEPAEncoder(config, gradient)
    jepa = BrainJEPA(encoder, BrainJEPAPredictor(config, gradient), BrainJEPAEncoder(config, gradient))
    for network, state in states.items():
        load_strict(jepa.get_submodule(network), state, f"{where}: {network}")
    return jepa.eval()


def _outputs(
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


def _indices(
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
    batches = {len(t) for name, t in given.items() if name in ("input", *GIVEN[2:])}
    if len(batches) > 1:
        raise ModelError(
            f"{where}: input, context_index and target_index differ in batch size: {sorted(batches)}"
        )
    context, target = (given[name].long() if name in given else None for name in GIVEN[2:])
    return context, target


def _input(given: Mapping[str, Tensor], config: BrainJEPAConfig, where: str) -> Tensor:
    x = _get(given, "input", where)
    wanted = (1, config.n_rois, config.n_timepoints)
    if x.ndim != 4 or tuple(x.shape[1:]) != wanted:
        raise ModelError(f"{where}: input has shape {tuple(x.shape)}, the sizes say (B, {str(wanted)[1:]}")
    return x.to(torch.float32)


def _formula_model(
    config: BrainJEPAConfig, gradient: Tensor, case: Mapping[str, Any], path: Path
) -> BrainJEPA:
    """Fill a model by the case's rule and load it in float64 as a checkpoint would be."""
    jepa = BrainJEPA.build(config, gradient.float()).double()
    state: State = {}
    for network, keys, offset in (("encoder", "enc_keys_sorted", 0), ("predictor", "pred_keys_sorted", 100)):
        filled = _fill(jepa.get_submodule(network), offset)
        if list(filled) != _get(case, keys, path):
            raise CheckpointError(f"{path}: {keys} are not the keys of our {network}")
        state |= {f"{network}.{key}": value for key, value in filled.items()}
    state |= {f"target_{key}": value for key, value in state.items() if key.startswith("encoder.")}
    for network, part in split_networks(state, str(path)).items():
        load_strict(jepa.get_submodule(network), part, f"{path}: {network}")
    return jepa.eval()


def _fill(module: nn.Module, offset: int) -> State:
    """Return ``0.05 sin(0.7 (k + offset) + 0.13 i)``, plus 1 in norms' weights: sorted key k, element i."""
    filled = {}
    for k, (key, value) in enumerate(sorted(module.state_dict().items())):
        if key.endswith("emb_h"):
            filled[key] = value
            continue
        i = torch.arange(value.numel(), dtype=torch.float64)
        wave = 0.05 * torch.sin(0.7 * (k + offset) + 0.13 * i)
        is_norm = "norm" in key and key.endswith(".weight")
        filled[key] = (wave + 1.0 if is_norm else wave).reshape(value.shape)
    return filled


def _formula_value(name: str, outputs: Mapping[str, Tensor], path: Path) -> tuple[Tensor, bool]:
    """Find a named value of the formula case, and say whether it is a sum."""
    groups = {
        "pos_embed": "position_embedding",
        "enc_full": "tokens",
        "enc_ctx": "context_tokens",
        "pred": "predicted",
    }
    if name == "enc_mean_pool":
        return outputs["subject_mean"][0], False
    if name == "smooth_l1_loss":
        return outputs["loss"][0], False
    match = re.fullmatch(r"(pos_embed|enc_full|enc_ctx|pred)_(?:token(\d+)|abs_sum)", name)
    if match is None:
        raise ModelError(
            f"{path}: unknown value {name!r}; known: {', '.join(groups)} with _token<n> or _abs_sum, "
            "enc_mean_pool, smooth_l1_loss"
        )
    tokens = outputs[groups[match[1]]]
    tokens = tokens.reshape(-1, tokens.shape[-1])
    if match[2] is None:
        return tokens.abs().sum(), True
    if int(match[2]) >= len(tokens):
        raise ModelError(f"{path}: {name} names a token beyond the last, {len(tokens) - 1}")
    return tokens[int(match[2])], False


def _check_shapes(outputs: Mapping[str, Tensor], shapes: Mapping[str, Any], path: Path) -> None:
    for key, name in (("enc", "tokens"), ("ctx", "context_tokens"), ("pred", "predicted")):
        if list(outputs[name].shape) != _get(shapes, key, path):
            raise ModelError(
                f"{path}: shape of {key} is {list(outputs[name].shape)} here, {shapes[key]} in the case"
            )


def _difference(ours: Tensor, wanted: Tensor, where: str) -> float:
    """Return the largest absolute difference; NaN if there is one anywhere."""
    if ours.shape != wanted.shape or wanted.numel() == 0:
        raise ModelError(f"{where} has shape {tuple(wanted.shape)}, the sizes say {tuple(ours.shape)}")
    return float((ours.double() - wanted.double()).abs().max())


def _numbers(case: Mapping[str, Any], key: str, path: Path) -> Tensor:
    """Return a number or a list of numbers of the JSON file, float64."""
    value = _get(case, key, path)
    for item in value if isinstance(value, list) else [value]:
        if not isinstance(item, int | float):
            raise ModelError(f"{path}: {key} holds {item!r}, which is no number")
    return torch.tensor(value, dtype=torch.float64)


def _is_expected(name: str) -> bool:
    return name.startswith("expected.")


def _get(mapping: Mapping[str, Any], key: str, where: object) -> Any:
    if not isinstance(mapping, Mapping) or key not in mapping:
        raise ModelError(f"{where}: missing {key!r}")
    return mapping[key]

"""Brain-JEPA's conformance case without files of weights: they follow a formula that the case states."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from boldstream.encoders.brainjepa.cases import (
    GIVEN,
    MASKED,
    Row,
    check_indices,
    largest_difference,
    lazy_outputs,
    require,
)
from boldstream.encoders.brainjepa.checkpoint import State, load_strict, split_networks
from boldstream.encoders.brainjepa.config import BrainJEPAConfig
from boldstream.encoders.brainjepa.jepa import BrainJEPA
from boldstream.errors import CheckpointError, ModelError

SIZES = {
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
CONTENT = frozenset(
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
    """Run the case whose weights follow a formula.

    Tokens, means and the loss are compared in float32 like every case. Sums of absolute values (up to 1e3)
    cannot be held to 1e-5 by float32, whose spacing there is 1e-4; they, and everything else once more, are
    compared in float64, the precision that the case was computed in.

    Raises
    ------
    ModelError
        If a key or a shape is missing or does not fit.
    """
    names = [name for name in case if name not in CONTENT]
    sizes = require(case, "config", path)
    config = BrainJEPAConfig.from_mapping(
        {name: require(sizes, key, path) for name, key in SIZES.items()} | {"gradient_dims": GRADIENT_DIMS},
        where=str(path),
    )
    roi = torch.arange(config.n_rois, dtype=torch.float64)[:, None]
    gradient = torch.cos(0.3 * roi + 0.5 * torch.arange(GRADIENT_DIMS, dtype=torch.float64))
    x = torch.sin(0.1 * torch.arange(config.n_timepoints, dtype=torch.float64) * (roi + 1))[None, None]
    given = {
        name: _numbers(case, key, path).long()[None]
        for name, key in zip(GIVEN[2:], ("ctx_idx", "tgt_idx"), strict=True)
    }
    context, target = check_indices(given, set(MASKED), config, str(path))
    rows: list[Row] = []
    for dtype in (torch.float32, torch.float64):
        jepa = _model(config, gradient, case, path).to(dtype)
        for module in jepa.modules():
            if hasattr(module, "gradient"):
                # .to() cast a float32 copy; the case's gradient has more digits
                module.gradient = gradient.to(dtype)
        with torch.inference_mode():
            compute = lazy_outputs(jepa, x.to(dtype), context, target)
            outputs = {name: compute[name]() for name in ("tokens", "subject_mean", "position_embedding", *MASKED)}
        _check_shapes(outputs, require(case, "shapes", path), path)
        for name in names:
            ours, is_sum = _value(name, outputs, path)
            if is_sum and dtype is torch.float32:
                continue
            wanted = _numbers(case, name, path)
            rows.append((name, str(dtype).removeprefix("torch."), largest_difference(ours, wanted, f"{path}: {name}")))
    return rows


def _model(config: BrainJEPAConfig, gradient: Tensor, case: Mapping[str, Any], path: Path) -> BrainJEPA:
    """Fill a model by the case's rule and load it in float64 as a checkpoint would be."""
    jepa = BrainJEPA.build(config, gradient.float()).double()
    state: State = {}
    for network, keys, offset in (("encoder", "enc_keys_sorted", 0), ("predictor", "pred_keys_sorted", 100)):
        filled = _fill(jepa.get_submodule(network), offset)
        if list(filled) != require(case, keys, path):
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


def _value(name: str, outputs: Mapping[str, Tensor], path: Path) -> tuple[Tensor, bool]:
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
        if list(outputs[name].shape) != require(shapes, key, path):
            raise ModelError(f"{path}: shape of {key} is {list(outputs[name].shape)} here, {shapes[key]} in the case")


def _numbers(case: Mapping[str, Any], key: str, path: Path) -> Tensor:
    """Return a number or a list of numbers of the JSON file, float64."""
    value = require(case, key, path)
    for item in value if isinstance(value, list) else [value]:
        if not isinstance(item, int | float):
            raise ModelError(f"{path}: {key} holds {item!r}, which is no number")
    return torch.tensor(value, dtype=torch.float64)

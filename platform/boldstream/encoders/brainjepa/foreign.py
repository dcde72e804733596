"""Weights that the reference's training wrote: sizes from shapes, every key in its place, positions as ours.

Layout: a dict of ``encoder``, ``predictor``, ``target_encoder`` (keys prefixed ``module.``) with the training's
state and ``epoch`` beside them, or the same tensors under flat keys.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from boldstream.encoders.brainjepa.checkpoint import NETWORKS, State, load_strict, read_state, split_networks
from boldstream.encoders.brainjepa.config import SIZES, BrainJEPAConfig
from boldstream.encoders.brainjepa.encoder import BrainJEPAEncoder
from boldstream.encoders.brainjepa.position import PositionEmbedding, time_embedding
from boldstream.encoders.brainjepa.predictor import BrainJEPAPredictor
from boldstream.encoders.brainjepa.scaling import RoiRobustScaler
from boldstream.errors import CheckpointError, ConfigError, ModelError
from boldstream.unpack import read_npz

DRIFT = 1e-3
"""Largest deviation of stored time positions from the formula: the reference averages them with the weights, and
each of its many updates rounds."""

EPOCH_IN_NAME = re.compile(r"ep(?:och)?[-_]?(\d+)(?!\d)", re.IGNORECASE)


@dataclass(frozen=True)
class ForeignWeights:
    """A foreign checkpoint, sorted.

    Attributes
    ----------
    path : Path
    networks : dict of str to state
        `NETWORKS`, all three, keys without prefixes.
    epoch : int or None
        As the file says; None where it says nothing.
    """

    path: Path
    networks: dict[str, State]
    epoch: int | None

    @property
    def n_tensors(self) -> int:
        """Number of tensors in all networks."""
        return sum(map(len, self.networks.values()))


def read_foreign(path: str | Path) -> ForeignWeights:
    """Read a released checkpoint, ``.pth.tar`` or converted to safetensors, running no code.

    Raises
    ------
    CheckpointError
        If the file cannot be read, a key belongs to no network, or one of the three networks is missing.
    """
    raw = read_state(path)
    networks = split_networks(raw, str(path))
    if missing := [name for name in NETWORKS if name not in networks]:
        raise CheckpointError(
            f"{path}: holds no {', no '.join(missing)}, only {', '.join(networks)}; import the pretraining's own "
            "checkpoint, which has all three networks"
        )
    epoch = raw.get("epoch")
    return ForeignWeights(Path(path), networks, epoch if isinstance(epoch, int) else None)


def infer_sizes(weights: ForeignWeights, n_rois: int, num_heads: int | None = None) -> BrainJEPAConfig:
    """Return the sizes that the weights' shapes tell.

    Parameters
    ----------
    weights : ForeignWeights
    n_rois : int
        Regions of the atlas; tokens are counted in the weights.
    num_heads : int, optional
        No shape tells it; by default that of the named size with this width.

    Raises
    ------
    CheckpointError
        If the layout is not Brain-JEPA's, or shapes do not fit each other or the atlas.
    """
    target, predictor = (weights.networks[name] for name in ("target_encoder", "predictor"))
    where = f"{weights.path}: target_encoder"
    embed_dim, _, _, patch_size = _shape(target, "patch_embed.proj.weight", 4, where)
    n_tokens, _ = _shape(target, "pos_embed_proj.emb_h", 2, where)
    _, gradient_dims = _shape(target, "pos_embed_proj.predictor_pos_embed_proj.weight", 2, where)
    hidden, _ = _shape(target, "blocks.0.mlp.fc1.weight", 2, where)
    predictor_embed_dim, _ = _shape(predictor, "predictor_embed.weight", 2, f"{weights.path}: predictor")
    if n_tokens % n_rois:
        raise CheckpointError(
            f"{where}: has positions for {n_tokens} tokens, which is no multiple of {n_rois} regions; gradient and "
            "region names must be of the weights' atlas"
        )
    heads = num_heads or next((s["num_heads"] for s in SIZES.values() if s["embed_dim"] == embed_dim), None)
    if heads is None:
        raise CheckpointError(
            f"{where}: width {embed_dim} is of no named size, and no shape tells the number of attention heads; "
            "set num_heads as it was in pretraining"
        )
    values = {
        "n_rois": n_rois,
        "n_timepoints": n_tokens // n_rois * patch_size,
        "patch_size": patch_size,
        "gradient_dims": gradient_dims,
        "embed_dim": embed_dim,
        "depth": _depth(target, "blocks"),
        "num_heads": heads,
        "mlp_ratio": hidden / embed_dim,
        "predictor_embed_dim": predictor_embed_dim,
        "predictor_depth": _depth(predictor, "predictor_blocks"),
    }
    try:
        return BrainJEPAConfig.from_mapping(values, where=f"{weights.path}: shapes fit no model")
    except ConfigError as error:
        raise CheckpointError(str(error)) from None


def build_networks(
    weights: ForeignWeights, config: BrainJEPAConfig, gradient: Tensor
) -> tuple[dict[str, nn.Module], float]:
    """Load the three networks strictly and compare their time positions with the formula.

    Returns
    -------
    networks : dict of str to module
    drift : float
        Largest deviation of a stored time position.

    Raises
    ------
    CheckpointError
        If keys, shapes or values do not fit, or positions deviate by more than 1e-3 (`DRIFT`).
    GradientError
        If the gradient does not fit the weights.
    """
    networks: dict[str, nn.Module] = {}
    drift = 0.0
    for name in NETWORKS:
        where = f"{weights.path}: {name}"
        with torch.device("meta"):
            kind = BrainJEPAPredictor if name == "predictor" else BrainJEPAEncoder
            networks[name] = kind(config, gradient)
        load_strict(networks[name], weights.networks[name], where)
        drift = max(drift, _time_drift(networks[name], config, where))
    return networks, drift


def epoch_remark(weights: ForeignWeights) -> str | None:
    """Say that the epoch in the file's name is not the one it stores, None where nothing contradicts.

    The reference adds one to the finished epochs twice before it names a file, so ``jepa-ep300`` holds the weights
    after 299 epochs, and says so inside.
    """
    match = EPOCH_IN_NAME.search(weights.path.name)
    if match is None or weights.epoch is None or int(match[1]) == weights.epoch:
        return None
    named = int(match[1])
    begin = f"{weights.path.name} is named after epoch {named} and stores epoch {weights.epoch}"
    if named == weights.epoch + 1:
        return f"{begin}: the reference counts one too many in the name; these are the weights after {weights.epoch}"
    return f"{begin}: which of them is right cannot be told from the file"


def read_statistics(path: str | Path, n_rois: int) -> RoiRobustScaler:
    """Read the robust scaling's statistics as the reference keeps them: npz with ``medians`` and ``iqrs``.

    Raises
    ------
    ModelError
        If the file cannot be read or an array is missing, of another length, not finite or not positive.
    """
    try:
        arrays = read_npz(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise ModelError(f"{path}: the scaling's statistics cannot be read as .npz ({reason})") from None
    if missing := sorted({"medians", "iqrs"} - arrays.keys()):
        raise ModelError(
            f"{path}: the scaling's statistics lack {', '.join(missing)} (arrays there: "
            f"{', '.join(sorted(arrays)) or 'none'})"
        )
    try:
        scaler = RoiRobustScaler.from_statistics(arrays["medians"], arrays["iqrs"])
    except ValueError as error:
        raise ModelError(f"{path}: the scaling's statistics cannot be used: {error}") from None
    if len(scaler.median_) != n_rois:
        raise ModelError(f"{path}: the scaling's statistics have {len(scaler.median_)} regions, the atlas {n_rois}")
    return scaler


def _shape(state: Mapping[str, Tensor], key: str, n_axes: int, where: str) -> tuple[int, ...]:
    if key not in state:
        raise CheckpointError(f"{where}: has no {key}, so these are not Brain-JEPA's weights with gradient positions")
    shape = tuple(state[key].shape)
    if len(shape) != n_axes or 0 in shape:
        raise CheckpointError(f"{where}: {key} has shape {shape}, not {n_axes} axes of one or more")
    return shape


def _depth(state: Mapping[str, Tensor], blocks: str) -> int:
    """Count the blocks; a gap in their numbers comes out as missing and extra keys."""
    matches = (re.match(rf"{blocks}\.(\d+)\.", key) for key in state)
    return len({match[1] for match in matches if match})


def _time_drift(network: nn.Module, config: BrainJEPAConfig, where: str) -> float:
    (position,) = (module for module in network.modules() if isinstance(module, PositionEmbedding))
    stored = position.emb_h.detach()
    formula = time_embedding(config.n_patches, stored.shape[1]).repeat(config.n_rois, 1)
    drift = float((stored - formula).abs().max())
    if drift > DRIFT:
        raise CheckpointError(
            f"{where}: time positions (emb_h) are not those of the model: they deviate by up to {drift:.3g} from sines "
            f"and cosines of {config.n_patches} patches in each of {config.n_rois} regions (at most {DRIFT:g} can be "
            "rounding); the weights are of another number of regions, or of another model"
        )
    return drift

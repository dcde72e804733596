"""A Brain-JEPA model as a folder: configuration, weights, and the preprocessing that belongs to them.

====================================  ===================================================================
``config.json``                       family, sizes, atlas, regions in order, scaling, provenance
``weights.safetensors``               ``target_encoder.*``, and ``encoder.*``, ``predictor.*`` if saved
``preprocessing.safetensors``         ``gradient``; ``median`` and ``iqr`` with ``scaling: robust``
====================================  ===================================================================
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from safetensors.torch import save_file
from torch import Tensor, nn

from boldstream.encoders.brainjepa.checkpoint import NETWORKS, load_strict, read_state, split_networks
from boldstream.encoders.brainjepa.config import BrainJEPAConfig
from boldstream.encoders.brainjepa.encoder import BrainJEPAEncoder, token_grid
from boldstream.encoders.brainjepa.position import check_gradient
from boldstream.encoders.brainjepa.scaling import RoiRobustScaler, Scaler, WindowZscore
from boldstream.encoders.device import Upload
from boldstream.encoders.interface import DESCRIPTION, Precision, read_description
from boldstream.encoders.windows import to_model_input
from boldstream.errors import ConfigError, GradientError, ModelError

FAMILY = "brainjepa"
FORMAT_VERSION = 1
WEIGHTS = "weights.safetensors"
PREPROCESSING = "preprocessing.safetensors"
KEYS = frozenset({"family", "format_version", "sizes", "atlas", "roi_names", "scaling", "provenance"})


class BrainJEPAWindowEncoder:
    """The target encoder on its device, with scaling and regions (see `interface.WindowEncoder`).

    Parameters
    ----------
    model : BrainJEPAEncoder
        The target encoder.
    scaler : Scaler
    atlas : str
    roi_names : tuple of str
    device : str
    precision : {"float32", "bfloat16"}
    compiled : bool
        Compile the network with `torch.compile`, for batches of every size.
    provenance : mapping
        What the trainer wrote down.
    """

    def __init__(
        self,
        model: BrainJEPAEncoder,
        scaler: Scaler,
        *,
        atlas: str,
        roi_names: tuple[str, ...],
        device: str = "cpu",
        precision: Precision = "float32",
        compiled: bool = False,
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        self.device = torch.device(device)
        self.model = model.eval().requires_grad_(False).to(self.device)
        self.network = torch.compile(self.model, dynamic=True) if compiled else self.model
        self.upload = Upload(self.device)
        self.config = model.config
        self.scaler = scaler
        self.atlas = atlas
        self.roi_names = roi_names
        self.precision = precision
        self.provenance = dict(provenance or {})
        self.n_timepoints = model.config.n_timepoints
        self.n_patches = model.config.n_patches
        self.embed_dim = model.config.embed_dim

    def encode(self, windows: NDArray[np.float32]) -> Tensor:
        """Scale, transpose and encode windows; no predictor, no mask.

        Parameters
        ----------
        windows : array, shape (W, n_timepoints, n_rois), float32

        Returns
        -------
        tokens : tensor, shape (W, n_rois, n_patches, embed_dim), float32, on `device`
            Tokens after the target encoder's final norm.
        """
        wanted = (self.n_timepoints, len(self.roi_names))
        if windows.ndim != 3 or windows.shape[1:] != wanted:
            raise ValueError(
                f"windows have shape {windows.shape}, the encoder takes (W, {wanted[0]}, {wanted[1]}): "
                "windows, timepoints, regions"
            )
        x_BCRT = self.upload(to_model_input(self.scaler.transform(windows)))
        half = torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16")
        with torch.inference_mode(), half:
            tokens_BND = self.network(x_BCRT)
        return token_grid(tokens_BND.float(), self.config)


def save_model(
    folder: str | Path,
    *,
    config: BrainJEPAConfig,
    atlas: str,
    roi_names: Sequence[str],
    gradient: ArrayLike | Tensor,
    scaler: Scaler,
    networks: Mapping[str, nn.Module | Mapping[str, Tensor]],
    provenance: Mapping[str, Any],
) -> None:
    """Write a model folder; ``config.json`` comes last, so a folder without it is not whole.

    Parameters
    ----------
    folder : path
        Made if need be; must not hold a model yet.
    config : BrainJEPAConfig
    atlas : str
    roi_names : sequence of str
        Regions, in the order of the gradient's rows.
    gradient : array or tensor, shape (n_rois, gradient_dims)
    scaler : RoiRobustScaler (fitted) or WindowZscore
    networks : mapping of network ("encoder", …) to module or state; at least the target encoder
    provenance : mapping of JSON values

    Raises
    ------
    ModelError
        If the folder holds a model already, or networks or regions do not fit.
    GradientError
        If the gradient does not fit.
    """
    folder = Path(folder)
    _check_new(folder, networks)
    names = _check_roi_names(list(roi_names), config, "save_model")
    gradient = torch.as_tensor(gradient, dtype=torch.float32)
    check_gradient(gradient, config)
    preprocessing = {"gradient": gradient}
    if isinstance(scaler, RoiRobustScaler):
        preprocessing |= {"median": torch.as_tensor(scaler.median_), "iqr": torch.as_tensor(scaler.iqr_)}
    weights = {
        f"{network}.{key}": value
        for network, held in networks.items()
        for key, value in (held.state_dict() if isinstance(held, nn.Module) else held).items()
    }
    description = {
        "family": FAMILY,
        "format_version": FORMAT_VERSION,
        "sizes": config.model_dump(mode="json"),
        "atlas": atlas,
        "roi_names": names,
        "scaling": scaler.kind,
        "provenance": dict(provenance),
    }
    text = json.dumps(description, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    save_file(_storable(weights), folder / WEIGHTS)
    save_file(_storable(preprocessing), folder / PREPROCESSING)
    (folder / DESCRIPTION).write_text(text, encoding="utf-8")


def load_model(
    folder: str | Path, *, device: str = "cpu", precision: Precision = "float32", compiled: bool = False
) -> BrainJEPAWindowEncoder:
    """Load the target encoder of a model folder, strictly.

    Raises
    ------
    ModelError
        If a file is missing, the configuration cannot be used, or preprocessing does not fit it.
    CheckpointError
        If weights are missing, left over, wrongly shaped or not finite.
    """
    folder = Path(folder)
    description = _check_description(read_description(folder), folder / DESCRIPTION)
    try:
        config = BrainJEPAConfig.from_mapping(description["sizes"], where=f"{folder / DESCRIPTION}: sizes")
    except ConfigError as error:
        raise ModelError(str(error)) from None
    names = _check_roi_names(description["roi_names"], config, str(folder / DESCRIPTION))
    gradient, scaler = _read_preprocessing(folder / PREPROCESSING, description["scaling"], config)
    networks = split_networks(read_state(folder / WEIGHTS), str(folder / WEIGHTS))
    if "target_encoder" not in networks:
        raise ModelError(f"{folder / WEIGHTS}: holds no target_encoder, only {', '.join(networks)}")
    with torch.device("meta"):
        model = BrainJEPAEncoder(config, gradient)
    load_strict(model, networks["target_encoder"], f"{folder / WEIGHTS}: target_encoder")
    return BrainJEPAWindowEncoder(
        model,
        scaler,
        atlas=description["atlas"],
        roi_names=names,
        device=device,
        precision=precision,
        compiled=compiled,
        provenance=description["provenance"],
    )


def _read_preprocessing(path: Path, scaling: str, config: BrainJEPAConfig) -> tuple[Tensor, Scaler]:
    tensors: dict[str, Tensor] = read_state(path)
    wanted = {"gradient"} | ({"median", "iqr"} if scaling == "robust" else set())
    if set(tensors) != wanted:
        raise ModelError(
            f"{path}: holds {', '.join(sorted(tensors)) or 'nothing'}; "
            f"scaling: {scaling} takes {', '.join(sorted(wanted))}"
        )
    try:
        check_gradient(tensors["gradient"], config)
    except GradientError as error:
        raise ModelError(f"{path}: {error}") from None
    if scaling == "zscore":
        return tensors["gradient"], WindowZscore()
    try:
        scaler = RoiRobustScaler.from_statistics(tensors["median"].numpy(), tensors["iqr"].numpy())
    except ValueError as error:
        raise ModelError(f"{path}: {error}") from None
    if len(scaler.median_) != config.n_rois:
        raise ModelError(f"{path}: median has {len(scaler.median_)} regions, the model {config.n_rois}")
    return tensors["gradient"], scaler


def _check_description(description: dict[str, Any], path: Path) -> dict[str, Any]:
    """Refuse missing and unknown keys, other families, later formats and unknown scalings."""
    if description["family"] != FAMILY:
        raise ModelError(f"{path}: family is {description['family']!r}, not {FAMILY!r}")
    if description.get("format_version") != FORMAT_VERSION:
        raise ModelError(
            f"{path}: format_version is {description.get('format_version')!r}, this boldstream reads {FORMAT_VERSION}"
        )
    missing, extra = sorted(KEYS - description.keys()), sorted(description.keys() - KEYS)
    if missing or extra:
        raise ModelError(
            f"{path}: missing keys: {', '.join(missing) or 'none'}; extra keys: {', '.join(extra) or 'none'}"
        )
    kinds = {"sizes": dict, "roi_names": list, "atlas": str, "provenance": dict}
    for key, kind in kinds.items():
        if not isinstance(description[key], kind):
            raise ModelError(f"{path}: {key} is {type(description[key]).__name__}, not {kind.__name__}")
    if description["scaling"] not in ("robust", "zscore"):
        raise ModelError(f"{path}: scaling is {description['scaling']!r}, not robust or zscore")
    return description


def _check_new(folder: Path, networks: Mapping[str, Any]) -> None:
    if (folder / DESCRIPTION).exists():
        raise ModelError(f"{folder}: holds a model already; write to a new folder")
    if "target_encoder" not in networks or not set(networks) <= set(NETWORKS):
        raise ModelError(
            f"networks are {', '.join(NETWORKS)}, target_encoder at least; got {', '.join(networks) or 'none'}"
        )


def _check_roi_names(names: list[Any], config: BrainJEPAConfig, where: str) -> tuple[str, ...]:
    if len(names) != config.n_rois:
        raise ModelError(f"{where}: {len(names)} roi_names for a model of {config.n_rois} regions")
    if not all(isinstance(name, str) and name for name in names) or len(set(names)) != len(names):
        raise ModelError(f"{where}: roi_names must be non-empty strings, each once")
    return tuple(names)


def _storable(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors to contiguous CPU memory: safetensors refuses shared memory."""
    return {key: value.detach().cpu().clone(memory_format=torch.contiguous_format) for key, value in tensors.items()}

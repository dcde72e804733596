"""What the embed actors need of an encoder, whatever its family, and how a model folder becomes one."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from boldstream.errors import ModelError

if TYPE_CHECKING:
    import torch

Precision = Literal["float32", "bfloat16"]

DESCRIPTION = "config.json"
FAMILIES = ("brainjepa",)


class WindowEncoder(Protocol):
    """An encoder on its device, with the preprocessing that it was trained with.

    Attributes
    ----------
    roi_names : tuple of str
        Regions in the order that the weights expect.
    atlas : str
        Name of the atlas.
    n_timepoints : int
        Length of a window.
    n_patches : int
        Tokens a region of one window.
    embed_dim : int
        Width of a token.
    """

    @property
    def roi_names(self) -> tuple[str, ...]:
        """Regions in the order that the weights expect."""

    @property
    def atlas(self) -> str:
        """Name of the atlas."""

    @property
    def n_timepoints(self) -> int:
        """Length of a window, in timepoints."""

    @property
    def n_patches(self) -> int:
        """Tokens a region of one window."""

    @property
    def embed_dim(self) -> int:
        """Width of a token."""

    def encode(self, windows: NDArray[np.float32]) -> "torch.Tensor":
        """Scale, transpose and encode windows.

        Parameters
        ----------
        windows : array, shape (W, n_timepoints, n_rois), float32
            Windows as they come from the cohort: not scaled, not transposed.

        Returns
        -------
        tokens : tensor, shape (W, n_rois, n_patches, embed_dim), float32
            On the encoder's device, without gradient.
        """


def load_encoder(
    folder: str | Path, *, device: str = "cpu", precision: Precision = "float32", compiled: bool = False
) -> WindowEncoder:
    """Load a model folder of any known family, strictly.

    Parameters
    ----------
    folder : path
        Model folder: ``config.json``, ``weights.safetensors``, ``preprocessing.safetensors``.
    device : str
        torch device that the weights go to.
    precision : {"float32", "bfloat16"}
        ``bfloat16`` runs the matrix products under autocast; weights and results stay float32.
    compiled : bool
        Compile the network with `torch.compile`, for batches of every size.

    Raises
    ------
    ModelError
        If the folder is no model of a known family, or not whole.
    CheckpointError
        If the weights do not fit the configuration.
    """
    folder = Path(folder)
    description = read_description(folder)
    match description["family"]:
        case "brainjepa":
            from boldstream.encoders.brainjepa.folder import load_model

            return load_model(folder, device=device, precision=precision, compiled=compiled)
        case family:
            raise ModelError(
                f"{folder / DESCRIPTION}: unknown encoder family {family!r}; "
                f"this version of boldstream knows {', '.join(FAMILIES)}"
            )


def read_description(folder: Path) -> dict[str, Any]:
    """Read ``config.json`` of a model folder.

    Raises
    ------
    ModelError
        If the file is missing, is not a JSON mapping, or names no family.
    """
    path = folder / DESCRIPTION
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise ModelError(
            f"{folder}: holds no {DESCRIPTION}, so it is no model folder; give the folder of a model version"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: not valid JSON ({error}); fetch or write the model again") from None
    if not isinstance(description, dict) or not isinstance(description.get("family"), str):
        raise ModelError(f"{path}: names no encoder family; known families: {', '.join(FAMILIES)}")
    return description

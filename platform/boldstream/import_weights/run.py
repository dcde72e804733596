"""The import_weights room: foreign weights and gradient, checked, into a model version like our own."""

import hashlib
import logging
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from boldstream.config import digest_json
from boldstream.encoders.brainjepa.folder import FAMILY, save_model
from boldstream.encoders.brainjepa.foreign import (
    ForeignWeights,
    build_networks,
    epoch_remark,
    infer_sizes,
    read_foreign,
    read_statistics,
)
from boldstream.encoders.brainjepa.scaling import Scaler, WindowZscore
from boldstream.errors import CheckpointError, GradientError
from boldstream.import_weights.config import ImportWeightsConfig
from boldstream.parcellation.atlas import Atlas, read_atlas
from boldstream.parcellation.gradients import read_gradient
from boldstream.parcellation.roi_order import OrderFindings, check_order
from boldstream.refs import ModelRef
from boldstream.registry import find_model, register_model, set_alias
from boldstream.tracking import JobRun, job_run

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Material:
    """All that goes into the model beside the weights, checked.

    Attributes
    ----------
    atlas : Atlas
    gradient : array, shape (n_rois, n_components), float64
    scaler : Scaler
    order : OrderFindings
    digests : dict of str to (str or None)
        sha256 of the files ``weights``, ``gradient``, ``statistics``.
    remarks : tuple of str
        What the user has to know; all of it is logged and goes into the model's provenance.
    """

    atlas: Atlas
    gradient: NDArray[np.float64]
    scaler: Scaler
    order: OrderFindings
    digests: dict[str, str | None]
    remarks: tuple[str, ...]


def import_weights(config: ImportWeightsConfig) -> ModelRef:
    """Check weights from elsewhere and register them as a model version.

    Reads the released Brain-JEPA checkpoint (or another of its layout) with its gradient, refuses what does not fit
    or is in another order of regions, warns of what cannot be checked, and registers a version that embeds like
    one pretrained here. The same files and settings again give the version that is there already.

    Raises
    ------
    AtlasError
        If region names cannot be read, or tell of another order than the weights'.
    GradientError
        If the gradient cannot be read, does not fit the weights, or has the subcortex last.
    CheckpointError
        If the weights cannot be read, or keys, shapes or time positions are not Brain-JEPA's.
    ModelError
        If the scaling's statistics cannot be used.
    """
    material = _read_material(config)
    with job_run("import_weights", config.output, config) as run:
        for remark in material.remarks:
            logger.warning("import_weights: WARNING: %s", remark)
        run_identity = digest_json(
            {
                "atlas": config.atlas,
                "roi_names": material.atlas.roi_names,
                "licence": config.licence,
                "scaling": config.scaling,
                "num_heads": config.num_heads,
                **material.digests,
            }
        )
        if ref := find_model(config.output, run_identity):
            logger.info("import_weights: %s was made of the same files; nothing to do", ref.pointer)
        else:
            ref = _register(config, material, run, run_identity)
        set_alias(ref, config.alias)
        run.log_output(ref)
        return ref


def _read_material(config: ImportWeightsConfig) -> Material:
    """Read and check everything but the weights, of which only the digest is taken."""
    atlas = read_atlas(config.atlas_labels, name=config.atlas)
    gradient = read_gradient(config.gradient)
    if len(gradient) != atlas.n_rois:
        raise GradientError(
            f"{config.gradient}: the gradient has {len(gradient)} lines, {config.atlas_labels} has {atlas.n_rois} "
            "region names; both have a line a region, in the same order"
        )
    order = check_order(atlas, gradient, where=config.gradient)
    scaler = read_statistics(config.statistics, atlas.n_rois) if config.statistics else WindowZscore()
    if not Path(config.weights).is_file():
        raise CheckpointError(f"{config.weights}: no such weights file; fetch it from where its authors offer it")
    files = {"weights": config.weights, "gradient": config.gradient, "statistics": config.statistics}
    digests = {name: _sha256(path) if path else None for name, path in files.items()}
    remarks = [*order.remarks]
    if not config.licence_is_known:
        remarks.append(
            "the licence of these weights is unknown: Brain-JEPA's repository has no licence file, and its code "
            "derives from I-JEPA and MAE, which are CC BY-NC; without a licence you may not be allowed to use the "
            "weights or pass them or their embeddings on. Ask the authors"
        )
    if scaler.kind == "zscore":
        remarks.append(
            "scaling zscore was chosen, but the weights were pretrained with robust scaling: windows will be off the "
            "distribution that they know, and so will embeddings; compare them with a baseline before relying on them"
        )
    return Material(atlas, gradient, scaler, order, digests, tuple(remarks))


def _register(config: ImportWeightsConfig, material: Material, run: JobRun, run_identity: str) -> ModelRef:
    """Read and check the weights, write the model folder and register it."""
    weights = read_foreign(config.weights)
    sizes = infer_sizes(weights, material.atlas.n_rois, config.num_heads)
    gradient = torch.as_tensor(material.gradient, dtype=torch.float32)
    networks, drift = build_networks(weights, sizes, gradient)
    logger.info(
        "import_weights: %d tensors, all in place: %d regions, %d patches of %d timepoints, width %d, depth %d + %d",
        *(weights.n_tensors, sizes.n_rois, sizes.n_patches, sizes.patch_size),
        *(sizes.embed_dim, sizes.depth, sizes.predictor_depth),
    )
    remarks = list(material.remarks)
    if remark := epoch_remark(weights):
        logger.warning("import_weights: WARNING: %s", remark)
        remarks.append(remark)
    provenance = _provenance(config, material, weights) | {
        "time_position_drift": drift,
        "warnings": remarks,
        "mlflow_run_id": run.run_id,
    }
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        save_model(
            folder,
            config=sizes,
            atlas=material.atlas.name,
            roi_names=material.atlas.roi_names,
            gradient=gradient,
            scaler=material.scaler,
            networks=networks,
            provenance=provenance,
        )
        tags = {"family": FAMILY, "atlas": material.atlas.name, "licence": config.licence, "origin": "imported"}
        tags |= {f"{name}_sha256": digest for name, digest in material.digests.items() if digest}
        tags |= {"epoch": str(weights.epoch)} if weights.epoch is not None else {}
        run.set_tags(tags)
        params = {"embed_dim": str(sizes.embed_dim), "scaling": config.scaling}
        ref = register_model(folder, name=config.output, run_identity=run_identity, run=run, tags=tags, params=params)
    logger.info("import_weights: registered %s", ref.pointer)
    return ref


def _provenance(config: ImportWeightsConfig, material: Material, weights: ForeignWeights) -> dict[str, Any]:
    """Return where the model comes from and what the checks found, as JSON values."""
    order = material.order
    checks: dict[str, Any] = {"silent_names": order.n_silent, "order": "not checked"}
    if order.homotopy:
        checks |= {"order": order.homotopy.verdict, "homotopy": asdict(order.homotopy)}
    return {
        "origin": "imported",
        "files": {
            name: {"name": Path(getattr(config, name)).name, "sha256": digest}
            for name, digest in material.digests.items()
            if digest
        },
        "licence": config.licence,
        "epoch": weights.epoch,
        "tensors": weights.n_tensors,
        "checks": checks,
        "config": config.identity(),
        "config_hash": config.config_hash(),
    }


def _sha256(path: str) -> str:
    """Return the sha256 of a file."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

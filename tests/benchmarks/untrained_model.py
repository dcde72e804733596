"""Untrained models for the benchmarks of embedding, registered without a training."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from random_cohort import names

from boldstream.config import Config, digest_json
from boldstream.encoders.brainjepa.config import BrainJEPAConfig
from boldstream.encoders.brainjepa.encoder import BrainJEPAEncoder
from boldstream.encoders.brainjepa.folder import save_model
from boldstream.encoders.brainjepa.scaling import WindowZscore
from boldstream.registry import register_model
from boldstream.tracking import job_run


def write_model(folder: Path, size: str, n_rois: int, n_timepoints: int = 160, **provenance: Any) -> Path:
    """Write a model folder with random weights for cohorts of `random_cohort`."""
    config = BrainJEPAConfig.sized(size, n_rois, n_timepoints=n_timepoints)
    gradient = np.random.default_rng(0).standard_normal((n_rois, config.gradient_dims)).astype(np.float32)
    torch.manual_seed(0)
    save_model(
        folder, config=config, atlas="bench", roi_names=names(n_rois), gradient=gradient, scaler=WindowZscore(),
        networks={"target_encoder": BrainJEPAEncoder(config, torch.from_numpy(gradient))}, provenance=provenance,
    )  # fmt: skip
    return folder


def register(folder: Path, name: str) -> str:
    """Register a model folder; returns the version's pointer."""
    with job_run("benchmark", name, Config()) as run:
        identity = digest_json([name])
        return register_model(folder, name=name, run_identity=identity, run=run, tags={}, params={}).pointer

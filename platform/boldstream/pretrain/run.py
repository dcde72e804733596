"""The pretrain room: scaling and gradient from the cohort's side, weights from the loop, one model version out."""

import logging
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from boldstream.artifacts.cohort import Cohort, open_cohort
from boldstream.artifacts.gradient import Gradient, open_gradient
from boldstream.cluster import connect
from boldstream.config import digest_json
from boldstream.encoders.brainjepa.config import BrainJEPAConfig
from boldstream.encoders.brainjepa.folder import save_model
from boldstream.encoders.brainjepa.jepa import BrainJEPA
from boldstream.encoders.brainjepa.scaling import RoiRobustScaler, Scaler, WindowZscore
from boldstream.errors import TrainingError
from boldstream.parcellation.atlas import Atlas, check_same
from boldstream.pretrain.config import PretrainConfig
from boldstream.pretrain.loop import train
from boldstream.pretrain.windows import scan_statistics, training_windows
from boldstream.refs import ModelRef
from boldstream.registry import find_model, register_model, set_alias
from boldstream.tracking import JobRun, job_run

SAY_EVERY_S = 5.0

logger = logging.getLogger(__name__)


def pretrain(config: PretrainConfig) -> ModelRef:
    """Pretrain Brain-JEPA on a cohort and register the model version.

    The version's folder holds the weights of the three networks, the gradient and the scaling statistics, so it
    embeds other cohorts of the same atlas by itself. One worker trains; scans shorter than a window are left out
    and counted. The same configuration, cohort and gradient again give the version that is there already.

    Raises
    ------
    CohortError, GradientError
        If the cohort or the gradient is not there or not whole.
    AtlasError
        If the gradient's regions are not the cohort's, by name and order.
    TrainingError
        If no scan fills a window, the scaling does not fit the cohort, or the loss is not finite.
    """
    cohort = open_cohort(config.cohort, config.warehouse)
    gradient = open_gradient(config.gradient, config.warehouse)
    check_same(
        Atlas(name=gradient.atlas, roi_names=gradient.roi_names),
        Atlas(name=cohort.atlas, roi_names=cohort.roi_names),
        where=f"gradient {gradient.manifest.name!r}",
        other=f"cohort {cohort.label!r}",
    )
    with job_run("pretrain", config.output, config) as run:
        run.log_parent(cohort.ref, cohort.manifest.rows)
        run.log_parent(gradient.ref)
        run_identity = digest_json([config.identity(), cohort.ref.digest, gradient.ref.digest])
        if ref := find_model(config.output, run_identity):
            logger.info("pretrain: %s was made by the same run; nothing to do", ref.pointer)
            return _finish(ref, config, run)
        connect(config.cluster)
        scaler, n_used = _fit_scaling(cohort, config, run)
        sizes = BrainJEPAConfig.sized(
            config.size,
            len(cohort.roi_names),
            n_timepoints=config.n_timepoints,
            patch_size=config.patch_size,
            gradient_dims=gradient.values.shape[1],
        )
        torch.manual_seed(config.seed)
        model = BrainJEPA.build(sizes, torch.as_tensor(gradient.values, dtype=torch.float32))
        device = "cuda" if torch.cuda.is_available() else "cpu"
        if config.steps:
            log = StepLog(run, config, n_used)
            train(model, training_windows(cohort, config, n_used), scaler, config, device=device, on_step=log)
        ref = _register(config, cohort, gradient, sizes, model.cpu(), scaler, run, run_identity)
        return _finish(ref, config, run)


class StepLog:
    """Write the curves to MLflow and a progress line to the log."""

    def __init__(self, run: JobRun, config: PretrainConfig, n_scans: int) -> None:
        self.run, self.config = run, config
        self._said = time.monotonic()
        logger.info("pretrain: %d steps of %d windows from %d scans", config.steps, config.optim.batch_size, n_scans)

    def __call__(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log one step's metrics."""
        last = step == self.config.steps
        if step == 1 or last or step % self.config.log_every == 0:
            self.run.log_metrics(metrics, step=step)
        if last or time.monotonic() - self._said >= SAY_EVERY_S:
            self._said = time.monotonic()
            left = (self.config.steps - step) * self.config.optim.batch_size / metrics["windows_per_s"]
            logger.info(
                "pretrain: step %d/%d, loss %.4f, %.1f windows/s, %.0f s left",
                step,
                self.config.steps,
                metrics["loss"],
                metrics["windows_per_s"],
                left,
            )


def _fit_scaling(cohort: Cohort, config: PretrainConfig, run: JobRun) -> tuple[Scaler, int]:
    """Fit the scaling on all scans that fill a window; return it with their number."""
    means, stds, n_short = scan_statistics(cohort, config)
    run.log_metrics({"scans": len(means), "scans_too_short": n_short})
    if not len(means):
        raise TrainingError(
            f"none of the {n_short} scans of cohort {cohort.label} fills a window of {config.n_timepoints} timepoints"
            f"{f' at {config.target_t_r:g} s' if config.target_t_r else ''}; use a smaller n_timepoints"
        )
    if n_short:
        logger.warning("pretrain: %d scans are shorter than a window and are left out", n_short)
    scaler = RoiRobustScaler().fit(means, stds) if config.scaling == "robust" else WindowZscore().fit()
    return scaler, len(means)


def _register(
    config: PretrainConfig,
    cohort: Cohort,
    gradient: Gradient,
    sizes: BrainJEPAConfig,
    model: BrainJEPA,
    scaler: Scaler,
    run: JobRun,
    run_identity: str,
) -> ModelRef:
    """Write the model folder and register it."""
    provenance = {
        "cohort": cohort.ref.pointer,
        "cohort_digest": cohort.ref.digest,
        "gradient": gradient.ref.pointer,
        "gradient_digest": gradient.ref.digest,
        "config": config.identity(),
        "config_hash": config.config_hash(),
        "mlflow_run_id": run.run_id,
    }
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        save_model(
            folder,
            config=sizes,
            atlas=cohort.atlas,
            roi_names=cohort.roi_names,
            gradient=gradient.values.astype(np.float32),
            scaler=scaler,
            networks={
                "encoder": model.encoder,
                "predictor": model.predictor,
                "target_encoder": model.target_encoder,
            },
            provenance=provenance,
        )
        ref = register_model(
            folder,
            name=config.output,
            run_identity=run_identity,
            run=run,
            tags={
                "family": "brainjepa",
                "atlas": cohort.atlas,
                "trained_steps": str(config.steps),
                "cohort": cohort.ref.pointer,
                "cohort_digest": cohort.ref.digest,
            },
            params={"size": config.size, "steps": str(config.steps), "scaling": config.scaling},
        )
    logger.info("pretrain: registered %s", ref.pointer)
    return ref


def _finish(ref: ModelRef, config: PretrainConfig, run: JobRun) -> ModelRef:
    """Give the model version its alias and tell the run of it."""
    set_alias(ref, config.alias)
    run.log_output(ref)
    return ref

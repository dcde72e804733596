"""The pretrain room: scans sorted, workers trained, one model version registered."""

import logging
import tempfile
from pathlib import Path

import numpy as np

from boldstream.artifacts.cohort import STATISTICS, Cohort, open_cohort
from boldstream.artifacts.gradient import Gradient, open_gradient
from boldstream.cluster import connect
from boldstream.cohort_statistics import statistics_of
from boldstream.config import digest_json
from boldstream.encoders.brainjepa.config import BrainJEPAConfig
from boldstream.errors import TrainingError
from boldstream.parcellation.atlas import Atlas, check_same
from boldstream.pretrain.card import write_card
from boldstream.pretrain.config import PretrainConfig
from boldstream.pretrain.networks import fresh_networks
from boldstream.pretrain.scans import TrainingScans, sort_scans
from boldstream.pretrain.state import keep_model_only, save_networks
from boldstream.pretrain.task import TrainingTask
from boldstream.pretrain.trainer import run_training
from boldstream.pretrain.unfinished import TrainingFolder
from boldstream.refs import ModelRef
from boldstream.registry import find_model, register_model, set_alias
from boldstream.tracking import JobRun, job_run, tracking_address

logger = logging.getLogger(__name__)


def pretrain(config: PretrainConfig) -> ModelRef:
    """Pretrain Brain-JEPA on a cohort, on any number of workers, and register the model version.

    The version's folder holds the weights of the three networks, the gradient, the scaling, statistics of the scans
    that it was trained on, a card and figures, so it embeds other cohorts of the same atlas by itself. Scans shorter
    than a window are left out and counted; some subjects are held out, to measure collapse and probes on. A worker that
    dies is replaced, from the last checkpoint; the same command goes on with a training that was interrupted. The same
    configuration, cohort and gradient again give the version that is there already.

    Raises
    ------
    CohortError, GradientError
        If the cohort or the gradient is not there or not whole.
    AtlasError
        If the gradient's regions are not the cohort's, by name and order.
    StorageError
        If checkpoints cannot be written.
    TrainingError
        If no scan fills a window, the scans are fewer than a batch, the scaling does not fit the cohort, the workers
        are more than the cluster can start, an unfinished training has other settings, the loss is not finite, or
        the encoder collapsed and is to be stopped then.
    """
    cohort = open_cohort(config.cohort, config.warehouse)
    gradient = open_gradient(config.gradient, config.warehouse)
    check_same(
        Atlas(name=gradient.atlas, roi_names=gradient.roi_names),
        Atlas(name=cohort.atlas, roi_names=cohort.roi_names),
        where=f"gradient {gradient.manifest.name!r}",
        other=f"cohort {cohort.label!r}",
    )
    identity = config.identity() | {"cohort_digest": cohort.ref.digest, "gradient_digest": gradient.ref.digest}
    run_identity = digest_json(identity)
    known = find_model(config.output, run_identity)
    folder = TrainingFolder(config, identity)
    resume = None if known or config.steps == 0 else folder.resume()
    with job_run("pretrain", config.output, config, resume=resume) as run:
        if resume is None:
            run.log_parent(cohort.ref, cohort.manifest.rows)
            run.log_parent(gradient.ref)
        if known:
            logger.info("pretrain: %s was made by the same run; nothing to do", known.pointer)
            return _finish(known, config, run)
        connect(config.cluster)
        scans = sort_scans(cohort, config)
        task = _task(config, cohort, gradient, scans, run)
        with tempfile.TemporaryDirectory() as scratch:
            model = Path(scratch) / "model"
            alarms = _train(task, folder, run, model) if task.steps else _untrained(task, model)
            (model / STATISTICS).write_bytes(statistics_of(cohort, scans.plan.scan_keys).to_bytes())
            write_card(model, task, cohort, gradient, scans, run, alarms)
            ref = _register(model, task, run_identity, run, alarms)
        if task.steps:
            folder.finish(run.run_id, ref.pointer)
        return _finish(ref, config, run)


def _task(
    config: PretrainConfig, cohort: Cohort, gradient: Gradient, scans: TrainingScans, run: JobRun
) -> TrainingTask:
    """Put together what the workers are told, and log what is known before they start."""
    sizes = BrainJEPAConfig.sized(
        config.size,
        len(cohort.roi_names),
        n_timepoints=config.n_timepoints,
        patch_size=config.patch_size,
        gradient_dims=gradient.values.shape[1],
    )
    per_step = config.optim.batch_size
    steps = _steps(config, scans)
    run.log_metrics(
        {
            "scans": len(scans.plan.scan_keys),
            "scans_too_short": scans.n_short,
            "subjects_held_out": len(scans.held_out_subjects),
        }
    )
    logger.info(
        "pretrain: %d steps of %d windows from %d scans (%.1f epochs), %d subjects held out, %d worker(s)",
        steps,
        per_step,
        len(scans.plan.scan_keys),
        steps * per_step / max(1, scans.plan.windows_per_epoch),
        len(scans.held_out_subjects),
        config.workers.count,
    )
    return TrainingTask(
        config=config,
        steps=steps,
        sizes=sizes,
        atlas=cohort.atlas,
        roi_names=cohort.roi_names,
        gradient=gradient.values.astype(np.float32),
        scaler=scans.scaler,
        plan=scans.plan,
        monitored=scans.monitored,
        probed=scans.probed,
        held_out=scans.monitored.plan is not scans.plan,
        provenance={
            "cohort": cohort.ref.pointer,
            "cohort_digest": cohort.ref.digest,
            "gradient": gradient.ref.pointer,
            "gradient_digest": gradient.ref.digest,
            "held_out_subjects": list(scans.held_out_subjects),
            "config": config.identity(),
            "config_hash": config.config_hash(),
            "mlflow_run_id": run.run_id,
        },
        run_id=run.run_id,
        tracking_uri=tracking_address(),
    )


def _steps(config: PretrainConfig, scans: TrainingScans) -> int:
    """Return the optimizer steps of the whole training."""
    if config.steps is not None:
        return config.steps
    windows, batch_size, warmup = scans.plan.windows_per_epoch, config.optim.batch_size, config.optim.warmup_steps
    steps = round((config.epochs or 0) * windows / batch_size)
    if steps <= warmup:
        raise TrainingError(
            f"epochs {config.epochs:g} of {windows} windows make {steps} steps of {batch_size}, no more than "
            f"optim.warmup_steps ({warmup}); raise epochs, or lower warmup_steps or batch_size"
        )
    return steps


def _untrained(task: TrainingTask, model: Path) -> list[str]:
    """Write the networks as they are before the first step."""
    jepa = fresh_networks(task)
    networks = {"encoder": jepa.encoder, "predictor": jepa.predictor, "target_encoder": jepa.target_encoder}
    save_networks(model, task, networks, step=0)
    return []


def _train(task: TrainingTask, folder: TrainingFolder, run: JobRun, model: Path) -> list[str]:
    """Train, and leave the last checkpoint in a folder; return the collapse alarms."""
    folder.begin(run.run_id)
    outcome = run_training(task, folder.uri, run, model)
    keep_model_only(model)
    return outcome["alarms"]


def _register(model: Path, task: TrainingTask, run_identity: str, run: JobRun, alarms: list[str]) -> ModelRef:
    config = task.config
    tags = {
        "family": "brainjepa",
        "atlas": task.atlas,
        "trained_steps": str(task.steps),
        "cohort": task.provenance["cohort"],
        "cohort_digest": task.provenance["cohort_digest"],
    }
    if alarms:
        tags["collapse"] = alarms[-1]
    ref = register_model(
        model,
        name=config.output,
        run_identity=run_identity,
        run=run,
        tags=tags,
        params={"size": config.size, "steps": str(task.steps), "scaling": config.scaling},
    )
    logger.info("pretrain: registered %s%s", ref.pointer, " WITH A COLLAPSE ALARM" if alarms else "")
    return ref


def _finish(ref: ModelRef, config: PretrainConfig, run: JobRun) -> ModelRef:
    """Give the model version its alias and tell the run of it."""
    set_alias(ref, config.alias)
    run.log_output(ref)
    return ref

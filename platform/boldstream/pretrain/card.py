"""The model card: what a model version was made of and how it went, for whoever opens the artifact."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from boldstream.artifacts.cohort import Cohort
from boldstream.artifacts.gradient import Gradient
from boldstream.pretrain.figures import MONITOR_PANELS, TRAINING_PANELS, draw_connectivity, draw_monitor, draw_training
from boldstream.pretrain.figures import save as save_figure
from boldstream.pretrain.scans import TrainingScans
from boldstream.pretrain.state import CONNECTIVITY
from boldstream.pretrain.task import TrainingTask
from boldstream.tracking import JobRun

CARD = "README.md"
FIGURES = "figures"


def write_card(
    model: Path,
    task: TrainingTask,
    cohort: Cohort,
    gradient: Gradient,
    scans: TrainingScans,
    run: JobRun,
    alarms: Sequence[str],
) -> None:
    """Write README.md and figures into a model folder, and the figures to the MLflow run."""
    names = [name for names in (*TRAINING_PANELS.values(), *MONITOR_PANELS.values()) for name in names]
    curves = {name: curve for name in names if (curve := run.curve(name))[0]}
    if task.steps:
        save_figure(draw_training(curves), model / FIGURES / "training.png")
        save_figure(draw_monitor(curves, task.config.monitor.thresholds), model / FIGURES / "monitor.png")
    if (model / CONNECTIVITY).exists():
        found = np.load(model / CONNECTIVITY)
        save_figure(draw_connectivity(found["windows"], found["latents"]), model / FIGURES / "connectivity.png")
        (model / CONNECTIVITY).unlink()
    last = {name: values[-1] for name, (_, values) in curves.items()}
    text = "\n".join(_lines(task, cohort, gradient, scans, last, alarms)) + "\n"
    (model / CARD).write_text(text, encoding="utf-8")
    run.log_file(model / CARD)
    if (model / FIGURES).exists():
        run.log_file(model / FIGURES, FIGURES)


def _lines(
    task: TrainingTask,
    cohort: Cohort,
    gradient: Gradient,
    scans: TrainingScans,
    last: dict[str, float],
    alarms: Sequence[str],
) -> list[str]:
    config, sizes = task.config, task.sizes
    trained = f"pretrained for {task.steps} optimizer steps" if task.steps else "not trained: the untrained twin"
    lines = [
        f"# {config.output}",
        "",
        f"Brain-JEPA ({config.size}; Dong et al., NeurIPS 2024, arXiv 2409.19407), {trained}. Made with boldstream; "
        "load it with `boldstream embed`, which checks regions, weights and preprocessing.",
        "",
        "## Data",
        "",
        f"- Cohort `{cohort.ref.pointer}` (sha256 `{cohort.ref.digest}`), atlas {cohort.atlas}, "
        f"{sizes.n_rois} regions.",
        f"- {len(scans.plan.scan_keys)} scans trained on; {scans.n_short} too short or of unknown repetition time; "
        f"{len(scans.held_out_subjects)} subjects held out (listed in `config.json`, `provenance.held_out_subjects`).",
        f"- Gradient `{gradient.ref.pointer}` (sha256 `{gradient.ref.digest}`).",
        f"- Licence of the data, as stated by whoever trained: {config.data_licence}.",
        "",
        "## Input",
        "",
        f"- Windows of {config.n_timepoints} timepoints"
        + (f" at {config.target_t_r:g} s" if config.target_t_r else ", at the scans' own repetition time")
        + f", patches of {config.patch_size}; scaling `{config.scaling}`, statistics inside.",
        "",
        "## Masks and objective",
        "",
        f"- Masks: `{json.dumps(config.mask.model_dump(mode='json'))}`",
        f"- Objective: `{json.dumps(config.objective.model_dump(mode='json'))}`",
        f"- Optimizer: `{json.dumps(config.optim.model_dump(mode='json'))}`",
        f"- Configuration hash `{config.config_hash()}`, seed {config.seed}.",
    ]
    if task.steps:
        lines += ["", "## At the end", "", *_table(last)]
        whose = "held-out scans" if task.held_out else "trained scans (none was held out)"
        lines += ["", f"Collapse and probes are measured on {len(task.monitored.indices)} {whose}, one window each."]
        lines += ["", "![Curves](figures/training.png)", "", "![Monitor](figures/monitor.png)"]
        lines += ["", "![Connectivity of windows and latents](figures/connectivity.png)"]
    lines += ["", "## Alarms", "", *([f"- {alarm}" for alarm in alarms] or ["None."])]
    lines += [
        "",
        "## Caution",
        "",
        "No embedding should be used before it was compared with functional connectivity and with the untrained twin "
        "on the same folds; nothing here says that it is better than either.",
    ]
    return lines


def _table(last: dict[str, float]) -> list[str]:
    return ["| number | value |", "|---|---|", *(f"| {name} | {value:.4g} |" for name, value in last.items())]

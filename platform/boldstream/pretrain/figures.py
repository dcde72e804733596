"""Pictures of a training: its curves, what the monitor saw, and the connectivity of regions in the latents."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from boldstream import drawing
from boldstream.analysis.collapse import CollapseThresholds
from boldstream.drawing import COLOURS

Curves = Mapping[str, tuple[Sequence[int], Sequence[float]]]

STYLE = drawing.STYLE | drawing.OPEN_AXES | {"lines.linewidth": 1.4}
TRAINING_PANELS: dict[str, tuple[str, ...]] = {
    "Loss": ("loss", "prediction"),
    "Variance between scans predicted": ("explained_between",),
    "Learning rate": ("lr",),
    "Momentum of the target encoder": ("ema",),
    "Norm of the gradients": ("grad_norm",),
    "Windows a second": ("windows_per_s",),
    "Share of time spent waiting for data": ("data_wait_share",),
    "Shares of the targets": ("mask/cross_roi_share", "mask/cross_time_share", "mask/double_cross_share"),
    "Weight decay": ("weight_decay",),
}
MONITOR_PANELS: dict[str, tuple[str, ...]] = {
    "Effective rank of subject vectors": ("collapse/rankme", "collapse/rankme_centred"),
    "Variance between subjects / between positions": ("collapse/subject_share",),
    "Standard deviation of features": ("collapse/feature_std", "collapse/between_std"),
    "Mean cosine of two subjects": ("collapse/mean_cosine",),
    "Distance to phase-randomised and to zero input": ("collapse/sensitivity_phase", "collapse/sensitivity_zero"),
    "Probes on monitored scans": ("probe/age_r", "probe/sex_auroc"),
}
LOGARITHMIC = frozenset({"lr", "collapse/subject_share", "collapse/sensitivity_phase", "collapse/feature_std"})


def draw_training(curves: Curves) -> Figure:
    """Draw the curves of a training, a panel a quantity; panels without any points are left out."""
    return _panels(TRAINING_PANELS, curves, {})


def draw_monitor(curves: Curves, thresholds: CollapseThresholds) -> Figure:
    """Draw what the monitor measured, with the limits beyond which it raises an alarm."""
    limits = {
        "collapse/feature_std": thresholds.feature_std,
        "collapse/subject_share": thresholds.subject_share,
        "collapse/sensitivity_phase": thresholds.sensitivity,
        "collapse/rankme_centred": thresholds.rankme_centred,
    }
    return _panels(MONITOR_PANELS, curves, limits)


def draw_connectivity(windows: NDArray[np.float64], latents: NDArray[np.float64]) -> Figure:
    """Draw the mean correlation of regions in the monitored windows and, beside it, in their latents.

    Parameters
    ----------
    windows, latents : array, shape (n_rois, n_rois)
        Regions in the atlas' order.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 4.2), layout="constrained")
        axes = figure.subplots(1, 2)
        upper = np.triu_indices(len(windows), 1)
        alike = "no edge differs from another"
        if np.ptp(latents[upper]) and np.ptp(windows[upper]):
            alike = f"edges correlate {np.corrcoef(windows[upper], latents[upper])[0, 1]:.2f}"
        for ax, values, title in (
            (axes[0], windows, "Functional connectivity of the windows"),
            (axes[1], latents, f"of their latents ({alike})"),
        ):
            limit = float(np.quantile(np.abs(values[upper]), 0.99)) or 1.0
            image = ax.imshow(values, vmin=-limit, vmax=limit, cmap="RdBu_r", interpolation="nearest")
            ax.set_title(title)
            ax.set_xlabel("region")
            figure.colorbar(image, ax=ax, shrink=0.8, label="correlation")
        axes[0].set_ylabel("region")
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130, metadata={"Software": None})


def _panels(panels: Mapping[str, tuple[str, ...]], curves: Curves, limits: Mapping[str, float]) -> Figure:
    shown = {title: [name for name in names if name in curves] for title, names in panels.items()}
    shown = {title: names for title, names in shown.items() if names}
    n_columns = min(3, max(len(shown), 1))
    n_rows = -(-len(shown) // n_columns) or 1
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.2 * n_columns, 2.6 * n_rows), layout="constrained")
        axes = list(np.atleast_1d(figure.subplots(n_rows, n_columns)).flat)
        for ax, (title, names) in zip(axes, shown.items(), strict=False):
            _draw_panel(ax, title, {name: curves[name] for name in names}, limits)
        for ax in axes[len(shown) :]:
            ax.set_axis_off()
        for ax in axes[max(0, len(shown) - n_columns) : len(shown)]:
            ax.set_xlabel("optimizer step")
    return figure


def _draw_panel(ax: Axes, title: str, curves: Curves, limits: Mapping[str, float]) -> None:
    few = all(len(steps) <= 30 for steps, _ in curves.values())
    for colour, (name, (steps, values)) in zip(COLOURS, curves.items(), strict=False):
        label = name.rpartition("/")[2].replace("_", " ")
        ax.plot(steps, values, color=colour, label=label, marker="o" if few else None, markersize=3)
        if name in limits:
            ax.axhline(limits[name], color=colour, linestyle=":", linewidth=1)
    if any(name in LOGARITHMIC for name in curves) and all(min(v) > 0 for _, v in curves.values()):
        ax.set_yscale("log")
    ax.set_title(title)
    if len(curves) > 1:
        ax.legend()

"""The report's pictures. Figure objects only, no pyplot: nothing global, nothing to close."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from boldstream.drawing import COLOURS, INK, MUTED, STYLE, png
from boldstream.report.material import Carpet
from boldstream.report.measure import Measured, accuracy_interval

FLAGGED = "#d55e00"
CARPET_SD = 2.5
MOST_ABREAST = 4
"""Panels in one row, if that is all there are; of more, one fewer."""


def panel_grid(n: int) -> tuple[int, int, float]:
    """Return rows, columns and the height of a row, in inches, for square panels on a page 10 inches wide."""
    columns = n if n <= MOST_ABREAST else MOST_ABREAST - 1
    return -(-n // columns), columns, 0.2 + 10 / max(columns, 3)


@mpl.rc_context(STYLE)
def draw_carpets(carpets: Sequence[Carpet], roi_names: Sequence[str], n_parts: int) -> bytes:
    """Draw every region of a few scans over time, z-scored, with flagged regions and the cuts between parts."""
    figure = Figure(figsize=(10, 0.5 + 2.1 * len(carpets)), layout="constrained")
    axes = figure.subplots(len(carpets), 1, squeeze=False)[:, 0]
    for ax, carpet in zip(axes, carpets, strict=True):
        x = carpet.timeseries.astype(np.float64)
        sd = x.std(axis=0)
        z = np.divide(x - x.mean(axis=0), sd, out=np.zeros_like(x), where=sd > 0).T
        step, unit = (carpet.t_r, "s") if carpet.t_r else (1.0, "timepoints")
        n_rois, n_timepoints = z.shape
        image = ax.imshow(
            z,
            aspect="auto",
            cmap="gray",
            vmin=-CARPET_SD,
            vmax=CARPET_SD,
            interpolation="antialiased",
            extent=(0.0, n_timepoints * step, n_rois + 0.5, 0.5),
        )
        for piece in np.array_split(np.arange(n_timepoints), n_parts)[1:]:
            ax.axvline(piece[0] * step, color=COLOURS[4], linewidth=1.6, linestyle=(0, (4, 2)))
        bad = [i + 1 for i, roi in enumerate(roi_names) if roi in carpet.bad_rois]
        for row in bad:
            ax.annotate(
                "◀",
                (1.0, row),
                (1, 0),
                ("axes fraction", "data"),
                "offset points",
                color=FLAGGED,
                fontsize=6,
                va="center",
            ).set_in_layout(False)
        ax.set_title(f"{carpet.scan_key}" + (f"  ({len(bad)} flagged regions)" if bad else ""))
        ax.set_ylabel("region")
        ax.set_xlabel(f"time ({unit})" if ax is axes[-1] else "")
    bar = figure.colorbar(image, ax=list(axes), shrink=min(1.0, 2 / len(carpets)), aspect=25, pad=0.015)
    bar.set_label("SD of the region over the scan")
    bar.outline.set_linewidth(0)
    return png(figure)


@mpl.rc_context(STYLE)
def draw_similarity(measured: Sequence[Measured], n_parts: int) -> bytes:
    """Draw the similarity of every scan with every other, all representations on one scale."""
    n_rows, columns, height = panel_grid(len(measured))
    figure = Figure(figsize=(10, height * n_rows + 0.9), layout="constrained")
    axes = figure.subplots(n_rows, columns, squeeze=False).ravel()
    for ax, one in zip(axes, measured, strict=False):
        n = len(one.similarity)
        image = ax.imshow(one.similarity, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
        if n <= 60:
            for i in range(n):
                ax.add_patch(mpl.patches.Rectangle((i - 0.5, i - 0.5), 1, 1, fill=False, ec=INK, lw=1.1, clip_on=False))
        ticks = np.unique(np.linspace(0, n - 1, min(n, 8)).round().astype(int))
        ax.set_xticks(ticks, [str(i + 1) for i in ticks])
        ax.set_yticks(ticks, [str(i + 1) for i in ticks])
        ax.tick_params(length=0)
        ax.set_title(one.display)
        ax.set_ylabel("subject, first half" if n_parts == 2 else "subject")
        ax.set_xlabel("subject, second half" if n_parts == 2 else "subject")
    for ax in axes[len(measured) :]:
        ax.remove()
    shown = list(axes[: len(measured)])
    bar = figure.colorbar(image, ax=shown, location="bottom", shrink=0.35, aspect=30)
    bar.set_label("correlation after subtracting the mean vector")
    bar.outline.set_linewidth(0)
    return png(figure)


@mpl.rc_context(STYLE)
def draw_accuracy(measured: Sequence[Measured]) -> bytes:
    """Draw identification accuracies with their exact 95 % intervals, and chance."""
    figure = Figure(figsize=(10, 0.9 + 0.42 * len(measured)), layout="constrained")
    ax = figure.subplots()
    for row, one in enumerate(measured):
        if one.identified is None:
            continue
        low, high = accuracy_interval(one.identified)
        colour = COLOURS[row % len(COLOURS)]
        ax.plot([100 * low, 100 * high], [row, row], color=colour, linewidth=2.2, solid_capstyle="butt", alpha=0.55)
        ax.plot(100 * one.identified.accuracy, row, "o", color=colour, markersize=8, clip_on=False, zorder=3)
        ax.axvline(100 * one.identified.chance, color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
    ax.set_yticks(range(len(measured)), [one.display for one in measured])
    ax.tick_params(axis="y", length=0, labelsize=9, labelcolor=INK)
    ax.set_xlim(0, 100)
    ax.set_ylim(len(measured) - 0.5, -0.5)
    ax.set_xlabel("subjects identified (%), with exact 95 % interval; dashed: chance")
    ax.spines[["top", "right", "left"]].set_visible(False)
    return png(figure)

"""The report's pictures. Figure objects only, no pyplot: nothing global, nothing to close."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from boldstream.drawing import COLOURS, INK, MARKERS, MUTED, REST, STYLE, png
from boldstream.report.material import Carpet
from boldstream.report.measure import Measured, accuracy_interval

FLAGGED = "#d55e00"
FEW = 20
"""Groups that still get a colour and marker of their own; subjects up to so many are numbered."""

CARPET_SD = 2.5


@dataclass(frozen=True)
class Colouring:
    """What the embedding map's colours mean.

    Attributes
    ----------
    column : str
    groups : list of str or None
        Group of every scan; None for a number.
    numbers : array or None
        Value of every scan, for a number.
    """

    column: str
    groups: list[str] | None = None
    numbers: NDArray[np.float64] | None = None


def colouring_of(rows: pd.DataFrame, column: str) -> Colouring:
    """Decide how a column colours scans: numbers by a scale, all else by groups (many of them: the largest)."""
    values = rows[column]
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        return Colouring(column, numbers=values.to_numpy(dtype=np.float64))
    text = values.astype("object").where(values.notna(), "not known").astype(str)
    named = sorted(text.value_counts().index[:FEW].tolist())
    return Colouring(column, groups=[value if value in named else "others" for value in text])


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
def draw_map(measured: Sequence[Measured], colouring: Colouring, numbered: bool) -> bytes:
    """Draw the first two principal components of each representation; a line joins a scan's parts."""
    columns = min(3, len(measured))
    n_rows = -(-len(measured) // columns)
    figure = Figure(figsize=(10, 3.5 * n_rows + 0.7), layout="constrained")
    axes = figure.subplots(n_rows, columns, squeeze=False).ravel()
    for ax, one in zip(axes, measured, strict=False):
        _draw_points(ax, one, colouring, numbered)
        ax.set_title(one.display)
        ax.set_xlabel(f"PC 1 ({100 * one.explained[0]:.0f} % of variance)")
        ax.set_ylabel(f"PC 2 ({100 * one.explained[1]:.0f} %)")
        ax.set_xticks([])
        ax.set_yticks([])
        ax.margins(0.12)
    for ax in axes[len(measured) :]:
        ax.remove()
    if colouring.numbers is not None:
        scale = mpl.cm.ScalarMappable(_norm(colouring.numbers), "viridis")
        figure.colorbar(scale, ax=list(axes[: len(measured)]), location="bottom", shrink=0.4, label=colouring.column)
    else:
        figure.legend(
            handles=_handles(colouring, numbered), loc="outside lower center", ncols=7, title=colouring.column
        )
    return png(figure)


@mpl.rc_context(STYLE)
def draw_similarity(measured: Sequence[Measured], n_parts: int) -> bytes:
    """Draw the similarity of every scan with every other, all representations on one scale."""
    columns = min(3, len(measured))
    n_rows = -(-len(measured) // columns)
    figure = Figure(figsize=(10, 3.5 * n_rows + 0.9), layout="constrained")
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


def _draw_points(ax: Axes, one: Measured, colouring: Colouring, numbered: bool) -> None:
    """Draw one representation's parts: the first filled, later ones hollow."""
    n_scans = one.coordinates.shape[1]
    colours, markers = _looks(colouring, n_scans)
    size = 34 if n_scans <= FEW else 13
    for scan in range(n_scans):
        x, y = one.coordinates[:, scan].T
        style: dict[str, Any] = {"marker": markers[scan], "s": size, "edgecolors": [colours[scan]], "linewidths": 1.1}
        ax.plot(x, y, color=colours[scan], linewidth=0.8, alpha=0.5, zorder=1)
        ax.scatter(x[:1], y[:1], c=[colours[scan]], zorder=3, **style)
        ax.scatter(x[1:], y[1:], c="white", zorder=2, **style)
        if numbered:
            away = (7 if x[0] >= x[-1] else -7, 6 if y[0] >= y[-1] else -6)
            centred: dict[str, Any] = {"ha": "center", "va": "center"}
            ax.annotate(str(scan + 1), (x[0], y[0]), away, textcoords="offset points", fontsize=7.5, **centred)


def _looks(colouring: Colouring, n_scans: int) -> tuple[list[Any], list[str]]:
    if colouring.numbers is not None:
        scale = mpl.cm.ScalarMappable(_norm(colouring.numbers), "viridis")
        colours = [scale.to_rgba(number) if np.isfinite(number) else REST for number in colouring.numbers]
        return colours, ["o"] * n_scans
    assert colouring.groups is not None
    looks = _group_looks(colouring.groups)
    return [looks[group][0] for group in colouring.groups], [looks[group][1] for group in colouring.groups]


def _group_looks(groups: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return colour and marker of every group, in alphabetical order; what is left over is grey."""
    names = [name for name in dict.fromkeys(groups) if name != "others"]
    looks = {name: (COLOURS[i % len(COLOURS)], MARKERS[i // len(COLOURS)]) for i, name in enumerate(sorted(names))}
    return looks | {"others": (REST, "o")}


def _handles(colouring: Colouring, numbered: bool) -> list[Any]:
    """Return a legend entry for every group; subjects with their numbers, where the map shows those."""
    assert colouring.groups is not None
    looks = _group_looks(colouring.groups)
    present = [name for name in looks if name in set(colouring.groups)]
    with_number = numbered and colouring.column == "subject"
    labels = {name: f"{i + 1}:  {name}" if with_number else name for i, name in enumerate(present)}
    return [
        mpl.lines.Line2D(
            [], [], linestyle="", marker=looks[name][1], color=looks[name][0], markersize=5, label=labels[name]
        )
        for name in present
    ]


def _norm(numbers: NDArray[np.float64]) -> mpl.colors.Normalize:
    known = numbers[np.isfinite(numbers)]
    return mpl.colors.Normalize(*((float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)))

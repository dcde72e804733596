"""The quality page's pictures. Figure objects only, no pyplot: nothing global, nothing to close."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import matplotlib.patheffects
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from boldstream import drawing
from boldstream.drawing import COLOURS, INK, MARKERS, MUTED, REST
from boldstream.parcellation.qc import Measure, find_spikes
from boldstream.parcellation.qc_rules import Limit

STATUS_COLOURS = {"keep": "#7fa8c9", "flag": "#e69f00", "quarantine": "#d55e00"}
STATUS_WORDS = {"keep": "kept", "flag": "flagged", "quarantine": "quarantined"}
FEW_SITES = 20
"""Sites that still get a colour and marker of their own in the map."""

MOST_POINTS = 1500
"""Cohorts up to this size show every scan; larger ones those that are not simply kept."""

MOST_LABELS = 6
N_BINS = 40
CARPET_SD = 2.5
DPI = 130
STYLE = drawing.STYLE | {"axes.titlesize": 9}


@dataclass(frozen=True)
class CarpetScan:
    """One scan to draw: its key, what is said of it, its series (n_timepoints, n_rois), and FD (mm) where known."""

    scan_key: str
    remark: str
    timeseries: NDArray[np.floating]
    t_r: float | None
    fd: NDArray[np.floating] | None


@mpl.rc_context(STYLE)
def draw_histograms(rows: pd.DataFrame, measures: Mapping[str, Measure], limits: Mapping[str, Limit]) -> bytes:
    """Draw the distribution of every measure, stacked by status, with its limits and a tick for every marked scan."""
    columns = min(3, len(measures))
    n_rows = -(-len(measures) // columns)
    figure = Figure(figsize=(10, 0.45 + 2.15 * n_rows), layout="constrained")
    axes = figure.subplots(n_rows, columns, squeeze=False).ravel()
    for ax, (name, measure) in zip(axes, measures.items(), strict=False):
        values = rows[name].to_numpy(dtype=np.float64)
        known = np.isfinite(values)
        edges = np.histogram_bin_edges(values[known], bins=min(N_BINS, max(5, int(known.sum()))))
        parts = [values[known & (rows["status"] == status)] for status in STATUS_COLOURS]
        ax.hist(parts, bins=edges.tolist(), stacked=True, color=list(STATUS_COLOURS.values()), linewidth=0)
        top = ax.get_ylim()[1]
        for status, part in list(zip(STATUS_COLOURS, parts, strict=True))[1:]:
            ax.plot(part, np.full(len(part), -0.05 * top), "|", color=STATUS_COLOURS[status], markersize=5, alpha=0.8)
        ax.set_ylim(-0.1 * top, 1.06 * top)
        _mark_limits(ax, limits.get(name), named=True)
        ax.set_title(measure.title)
        missing = int((~known).sum())
        ax.set_xlabel((measure.unit or "") + (f"   ({missing} scans without)" if missing else ""), fontsize=8)
        ax.yaxis.set_major_locator(mpl.ticker.MaxNLocator(4, integer=True, prune=None))
        ax.set_yticks([tick for tick in ax.get_yticks() if 0 <= tick <= top])
        ax.spines[["top", "right"]].set_visible(False)
    for ax in axes[len(measures) :]:
        ax.remove()
    _status_legend(figure)
    return drawing.png(figure, DPI)


@mpl.rc_context(STYLE)
def draw_sites(
    rows: pd.DataFrame, sites: Sequence[str], measures: Mapping[str, Measure], limits: Mapping[str, Limit]
) -> bytes:
    """Draw a few measures site by site: median, quartiles, 5th to 95th percentile, and the scans."""
    figure = Figure(figsize=(10, 1.7 + 0.28 * len(sites)), layout="constrained")
    axes = figure.subplots(1, len(measures), squeeze=False, sharey=True)[0]
    jitter = np.random.default_rng(0).uniform(-0.28, 0.28, len(rows))
    position = rows["site"].map({site: i for i, site in enumerate(sites)}).to_numpy(dtype=np.float64)
    for ax, (name, measure) in zip(axes, measures.items(), strict=True):
        values = rows[name].to_numpy(dtype=np.float64)
        for status, colour in STATUS_COLOURS.items():
            shown = (rows["status"] == status).to_numpy() & np.isfinite(values)
            if status == "keep" and len(rows) > MOST_POINTS:
                continue
            size, alpha = (5, 0.45) if status == "keep" else (11, 0.95)
            ax.scatter(values[shown], (position + jitter)[shown], s=size, color=colour, alpha=alpha, linewidths=0)
        for i in range(len(sites)):
            own = values[(position == i) & np.isfinite(values)]
            if len(own):
                p5, p25, p50, p75, p95 = np.percentile(own, [5, 25, 50, 75, 95])
                ax.plot([p5, p95], [i, i], color=INK, linewidth=0.8, zorder=3)
                ax.plot([p25, p75], [i, i], color=INK, linewidth=3.2, solid_capstyle="butt", zorder=3)
                ax.plot(p50, i, "o", color="white", markeredgecolor=INK, markersize=4.5, zorder=4)
        _mark_limits(ax, limits.get(name))
        ax.set_title(_wrapped(measure.title, 26 if len(measures) > 3 else 40))
        ax.set_xlabel(measure.unit)
        ax.spines[["top", "right", "left"]].set_visible(False)
        ax.tick_params(axis="y", length=0)
        ax.grid(axis="y", color="#eef1f4", linewidth=0.8, zorder=0)
        ax.set_axisbelow(True)
    axes[0].set_yticks(range(len(sites)), list(sites))
    axes[0].set_ylim(len(sites) - 0.4, -0.6)
    axes[0].tick_params(axis="y", labelcolor=INK)
    _status_legend(figure)
    return drawing.png(figure, DPI)


@mpl.rc_context(STYLE)
def draw_carpets(scans: Sequence[CarpetScan]) -> bytes:
    """Draw regions by time of a few scans, z-scored, with the global signal, FD and spikes above."""
    columns = min(2, len(scans))
    n_rows = -(-len(scans) // columns)
    figure = Figure(figsize=(10, 2.75 * n_rows), layout="constrained")
    grid = figure.add_gridspec(2 * n_rows, columns, height_ratios=[0.42, 1] * n_rows)
    for i, scan in enumerate(scans):
        row, column = divmod(i, columns)
        trace = figure.add_subplot(grid[2 * row, column])
        carpet = figure.add_subplot(grid[2 * row + 1, column], sharex=trace)
        _draw_carpet(trace, carpet, scan)
        if column == 0:
            carpet.set_ylabel("region")
            trace.set_ylabel("global", fontsize=8)
    return drawing.png(figure, DPI)


@mpl.rc_context(STYLE)
def draw_map(rows: pd.DataFrame, limit: float) -> bytes:
    """Draw scans on the first two robust components of connectivity by site, those beyond the limit ringed."""
    placed = rows[rows["pc_1"].notna() & rows["pc_2"].notna()]
    figure = Figure(figsize=(10, 5.4), layout="constrained")
    ax = figure.subplots()
    largest = placed["site"].value_counts().index[:FEW_SITES].tolist()
    looks = {site: (COLOURS[i % 7], MARKERS[i // 7 % 6]) for i, site in enumerate(sorted(largest))}
    size = 26 if len(placed) <= 300 else 13 if len(placed) <= MOST_POINTS else 6
    others = placed[~placed["site"].isin(largest)]
    if len(others):
        ax.scatter(others["pc_1"], others["pc_2"], s=size, c=REST, linewidths=0, label=f"other sites ({len(others)})")
    for site, (colour, marker) in looks.items():
        own = placed[placed["site"] == site]
        label = f"{site} ({len(own)})"
        ax.scatter(own["pc_1"], own["pc_2"], s=size, c=colour, marker=marker, linewidths=0, alpha=0.75, label=label)
    far = placed[placed["outlier"] > limit].sort_values("outlier", ascending=False)
    ring: dict[str, Any] = {"facecolors": "none", "edgecolors": INK, "linewidths": 1.2}
    ax.scatter(far["pc_1"], far["pc_2"], s=95, label=f"beyond {limit:g} ({len(far)})", **ring)
    for row in far.head(MOST_LABELS).itertuples():
        away: Any = (8, 5)
        ax.annotate(
            f"{row.scan_key}  {row.outlier:.1f}",
            (row.pc_1, row.pc_2),
            away,
            textcoords="offset points",
            fontsize=7.5,
            path_effects=[mpl.patheffects.withStroke(linewidth=2.5, foreground="white")],
        )
    ax.set_xlabel("component 1 (robust SDs)")
    ax.set_ylabel("component 2")
    ax.margins(0.08)
    ax.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right center", title="site (scans)", alignment="left", handletextpad=0.3)
    return drawing.png(figure, DPI)


def _draw_carpet(trace: Axes, carpet: Axes, scan: CarpetScan) -> None:
    x = np.asarray(scan.timeseries, dtype=np.float64)
    finite = np.isfinite(x).all(axis=0)
    x = np.where(finite, x, 0.0)
    sd = x.std(axis=0)
    varies = sd > 0
    z = np.divide(x - x.mean(axis=0), sd, out=np.zeros_like(x), where=varies)
    step, unit = (scan.t_r, "s") if scan.t_r and np.isfinite(scan.t_r) else (1.0, "timepoints")
    n_timepoints, n_rois = x.shape
    carpet.imshow(
        np.where(varies, z, np.nan).T,
        aspect="auto",
        cmap=mpl.colormaps["gray"].with_extremes(bad=STATUS_COLOURS["quarantine"]),
        vmin=-CARPET_SD,
        vmax=CARPET_SD,
        interpolation="nearest" if (~varies).any() else "antialiased",
        extent=(0.0, n_timepoints * step, n_rois + 0.5, 0.5),
    )
    carpet.set_xlabel(f"time ({unit})")
    times = (np.arange(n_timepoints) + 0.5) * step
    signal = z[:, varies].mean(axis=1) if varies.any() else np.zeros(n_timepoints)
    trace.plot(times, signal, color=INK, linewidth=0.9)
    spikes = times[1:][find_spikes(x[:, varies])] if n_timepoints >= 4 and varies.any() else np.empty(0)
    if len(spikes):  # an empty line that is not clipped claims the whole figure in the layout
        top = np.full(len(spikes), trace.get_ylim()[1])
        trace.plot(spikes, top, "v", color=STATUS_COLOURS["flag"], markersize=4, clip_on=False)
    if scan.fd is not None and len(scan.fd) == n_timepoints:
        motion = trace.twinx()
        motion.fill_between(times, np.nan_to_num(scan.fd), color=STATUS_COLOURS["quarantine"], alpha=0.4, linewidth=0)
        motion.set_ylabel("FD (mm)", fontsize=8, color=STATUS_COLOURS["quarantine"])
        motion.set_ylim(0, max(1.0, float(np.nanmax(scan.fd, initial=0.0))))
        motion.spines[["top", "left"]].set_visible(False)
    trace.tick_params(labelbottom=False, length=0)
    trace.spines[["top", "right", "bottom"]].set_visible(False)
    trace.set_title(scan.scan_key, pad=15 if scan.remark else 6)
    if not scan.remark:
        return
    remark = trace.annotate(_wrapped(scan.remark, 72), (0, 1), (0, 6), "axes fraction", "offset points", fontsize=8)
    remark.set_color(MUTED)
    remark.set_in_layout(False)


def _mark_limits(ax: Axes, limit: Limit | None, *, named: bool = False) -> None:
    """Draw the limits; one far outside of what there is would squeeze the picture, so it is only named."""
    low, high = ax.get_xlim()
    for status in ("flag", "quarantine"):
        at = getattr(limit, status) if limit is not None else None
        if at is None:
            continue
        inside = low - 0.6 * (high - low) <= at <= high + 0.6 * (high - low)
        if inside:
            ax.axvline(at, color=STATUS_COLOURS[status], linewidth=1.3, linestyle=(0, (4, 2)))
        if named:
            text, x, side = (f" {at:g}", at, "left") if inside else (f"{status} at {at:g} ", 1.0, "right")
            frame: Any = ax.get_xaxis_transform() if inside else ax.transAxes
            ax.text(x, 1.0, text, transform=frame, color=STATUS_COLOURS[status], fontsize=7.5, va="top", ha=side)


def _status_legend(figure: Figure) -> None:
    handles: list[Any] = [
        mpl.patches.Patch(color=STATUS_COLOURS[status], label=word) for status, word in STATUS_WORDS.items()
    ]
    handles.append(mpl.lines.Line2D([], [], color=MUTED, linestyle=(0, (4, 2)), label="limits"))
    figure.legend(handles=handles, loc="outside upper right", ncols=4)


def _wrapped(text: str, width: int) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text, width, max_lines=2, placeholder=" …"))

"""The page's picture: spectrum, dimensions, reliability, and what is told of site and motion."""

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from boldstream import drawing
from boldstream.analysis.nuisance import MOTION_R2, SITE_ACCURACY, SITE_CHANCE
from boldstream.analysis.spectrum import DEAD
from boldstream.drawing import COLOURS, INK, MUTED, REST, png
from boldstream.tables.quality.measure import BEFORE, NEW_AFTER, NEW_BEFORE, Quality

N_BINS = 25
NARROWEST = 0.1
"""Of the bars' axis, so that next to nothing looks like it."""
BARS = {
    NEW_BEFORE: ("new scans, before", REST),
    NEW_AFTER: ("new scans, after", COLOURS[0]),
    BEFORE: ("these rows, before", REST),
    "": ("these rows, after", COLOURS[1]),
}
"""What a bar is called, and its colour, by the end of the number's name."""


@mpl.rc_context(drawing.STYLE | drawing.OPEN_AXES)
def draw_quality(quality: Quality) -> bytes:
    """Draw the four panels as PNG; one that nothing can be drawn in says so."""
    figure = Figure(figsize=(10, 6.4), layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1))
    axes = figure.subplots(2, 2)
    _draw_spectrum(axes[0, 0], quality)
    _draw_std(axes[0, 1], quality)
    _draw_icc(axes[1, 0], quality)
    inner = axes[1, 1].get_subplotspec().subgridspec(2, 1)
    axes[1, 1].remove()
    _draw_nuisance(figure.add_subplot(inner[0]), quality, SITE_ACCURACY, "Sites told: balanced accuracy")
    _draw_nuisance(figure.add_subplot(inner[1]), quality, MOTION_R2, "Motion told: R²")
    return png(figure)


def _say(ax: Axes, text: str) -> None:
    ax.text(0.5, 0.5, text, ha="center", va="center", color=MUTED, transform=ax.transAxes)
    ax.set_axis_off()


def _draw_spectrum(ax: Axes, quality: Quality) -> None:
    ax.set_title("Spectrum of the covariance")
    values = quality.eigenvalues
    kept = values > values[0] * max(quality.sample.vectors.shape) * np.finfo(np.float64).eps
    if not kept.any():
        return _say(ax, "all rows are equal:\nthere is no spectrum")
    ranks, shares = np.flatnonzero(kept) + 1, values[kept] / values.sum()
    ax.loglog(ranks, shares, ".", color=COLOURS[0], markersize=4)
    if (alpha := quality.values.get("alpha_req")) is not None:
        # the fitted line goes through the means of both logarithms
        level = np.exp(np.log(shares).mean() + alpha * np.log(ranks).mean())
        ax.loglog(ranks, level * ranks**-alpha, color=INK, linewidth=1, label=f"slope −{alpha:.2f} (α-ReQ)")
        ax.legend(loc="lower left")
    ax.set_ylim(shares.min() / 2, shares.max() * 2)
    ax.set_xlabel("component")
    ax.set_ylabel("share of variance")


def _draw_std(ax: Axes, quality: Quality) -> None:
    std = np.sort(quality.std)[::-1]
    ax.set_title("Standard deviation of every dimension")
    ax.fill_between(np.arange(1, len(std) + 1), std, step="mid", color=COLOURS[0], alpha=0.35, linewidth=0)
    ax.step(np.arange(1, len(std) + 1), std, where="mid", color=COLOURS[0], linewidth=1)
    if dead := int((std <= DEAD * std.max()).sum()):
        ax.axvspan(len(std) - dead + 0.5, len(std) + 0.5, color=COLOURS[1], alpha=0.25, linewidth=0)
        ax.text(1, 0.95, f"dead: {dead}", ha="right", va="top", color=COLOURS[1], transform=ax.transAxes)
    ax.set_xlim(0.5, len(std) + 0.5)
    ax.set_ylim(bottom=0)
    ax.set_xlabel("dimensions, by their standard deviation")


def _draw_icc(ax: Axes, quality: Quality) -> None:
    ax.set_title("Reliability of every dimension")
    if not quality.reliability:
        return _say(ax, "no subject is seen twice:\nthere is no ICC")
    edges = np.linspace(-1, 1, 2 * N_BINS + 1)
    for (name, told), colour in zip(quality.reliability.items(), COLOURS, strict=False):
        values = told.consistency[np.isfinite(told.consistency)].clip(-1, 1)
        ax.hist(values, edges.tolist(), color=colour, alpha=0.55, linewidth=0, label=f"between {name}")
    least = quality.config.thresholds.icc
    ax.axvline(least, color=INK, linewidth=1, linestyle=(0, (4, 2)), label=f"poor below {least:g}")
    low = min(float(np.nanmin(told.consistency, initial=0.0)) for told in quality.reliability.values())
    ax.set_xlim(max(-1.0, low - 0.05), 1)
    ax.yaxis.set_major_locator(mpl.ticker.MaxNLocator(5, integer=True))
    ax.set_xlabel("ICC(3,1)")
    ax.set_ylabel("dimensions")
    ax.legend(loc="best")
    return None


def _draw_nuisance(ax: Axes, quality: Quality, name: str, title: str) -> None:
    ax.set_title(title)
    bars = {end: quality.values[f"{name}{end}"] for end in BARS if f"{name}{end}" in quality.values}
    if not bars:
        return _say(ax, "cannot be looked for: too few subjects")
    only, values = set(bars) == {""}, list(bars.values())
    labels = ["these rows"] if only else [BARS[end][0] for end in bars]
    colours = [COLOURS[0]] if only else [BARS[end][1] for end in bars]
    drawn = ax.barh(labels, values, color=colours, height=0.3 if only else 0.7)
    ax.bar_label(drawn, [f"{value:z.2f}" for value in values], fontsize=8, padding=3)
    chance = quality.values.get(SITE_CHANCE, 0.0) if name == SITE_ACCURACY else 0.0
    ax.axvline(chance, color=INK, linewidth=1, linestyle=(0, (4, 2)))
    widest = max(*values, chance, NARROWEST)
    lowest = min(0.0, *values)
    ax.set_xlim(lowest - (0.15 * (widest - lowest) if lowest < 0 else 0.0), 1.12 * widest)
    ax.set_ylim(len(bars) - 0.4, -0.6)
    ax.set_xlabel(f"dashed: chance, {chance:.2f}")
    ax.tick_params(axis="y", length=0)
    return None

"""The picture of a comparison. Figure objects only, no pyplot: nothing global, nothing to close."""

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from boldstream import drawing
from boldstream.analysis.compare import Comparison
from boldstream.drawing import INK, MUTED, png
from boldstream.table_diff import Diff

# Okabe & Ito's colours, safe for colour-blind readers.
FIRST, SECOND, ADDED, REMOVED, CHANGED, SAME = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#c3cad1"
N_LABELLED = 5
STYLE = drawing.STYLE | drawing.OPEN_AXES


@mpl.rc_context(STYLE)
def draw_diff(diff: Diff) -> bytes:
    """Draw what rows there are, the cosines of those in both, and both tables on one map, as PNG."""
    if diff.geometry is None:
        figure = Figure(figsize=(10, 1.5), layout="constrained")
        _draw_rows(figure.subplots(), diff)
        return png(figure)
    figure = Figure(figsize=(10, 6), layout="constrained")
    grid = figure.add_gridspec(2, 2, height_ratios=[0.2, 1], width_ratios=[0.7, 1])
    _draw_rows(figure.add_subplot(grid[0, :]), diff)
    _draw_cosines(figure.add_subplot(grid[1, 0]), diff, diff.geometry)
    _draw_map(figure.add_subplot(grid[1, 1]), diff, diff.geometry)
    return png(figure)


def _draw_rows(ax: Axes, diff: Diff) -> None:
    counts = {
        "removed": (len(diff.removed), REMOVED),
        "same vector": (diff.n_same, SAME),
        "changed vector": (len(diff.changed), CHANGED),
        "added": (len(diff.added), ADDED),
    }
    left = 0
    for word, (n, colour) in counts.items():
        ax.barh(0, n, left=left, color=colour, height=0.6, label=f"{word}: {n}")
        left += n
    ax.set_xlim(0, max(left, 1))
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.xaxis.set_major_locator(mpl.ticker.MaxNLocator(8, integer=True))
    ax.set_title("Rows of both")
    ax.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=4)


def _draw_cosines(ax: Axes, diff: Diff, geometry: Comparison) -> None:
    ax.set_title("Cosine of a row's two vectors")
    if geometry.cosine is None:
        text = f"{geometry.n_dims[0]} and {geometry.n_dims[1]} dimensions:\nthere is no cosine"
        ax.text(0.5, 0.5, text, ha="center", va="center", color=MUTED, transform=ax.transAxes)
        ax.set_axis_off()
        return
    changed = set(diff.changed)
    is_changed = np.array([key in changed for key in diff.keys])
    low = float(geometry.cosine.min())
    edges = np.linspace(low, 1.0, 31) if low < 1 - 1e-9 else np.linspace(0.999999, 1.000001, 31)
    parts = [geometry.cosine[~is_changed], geometry.cosine[is_changed]]
    ax.hist(parts, bins=edges.tolist(), stacked=True, color=[SAME, CHANGED], linewidth=0)
    ax.axvline(float(np.median(geometry.cosine)), color=INK, linewidth=1, linestyle=(0, (4, 2)))
    ax.xaxis.set_major_locator(mpl.ticker.MaxNLocator(4))
    ax.yaxis.set_major_locator(mpl.ticker.MaxNLocator(5, integer=True))
    ax.ticklabel_format(axis="x", useOffset=False)
    ax.set_xlabel("cosine (dashed: median)")
    ax.set_ylabel("rows")


def _draw_map(ax: Axes, diff: Diff, geometry: Comparison) -> None:
    size = 26 if geometry.n <= 300 else 8
    named = {one.key for one in diff.most_changed[:N_LABELLED]}
    chosen = [i for i, key in enumerate(diff.keys) if key in named]
    for i in chosen:
        (x0, y0), (x1, y1) = geometry.first[i], geometry.second[i]
        ax.plot([x0, x1], [y0, y1], color=INK, linewidth=0.9, zorder=3)
        ax.annotate(diff.keys[i], (x1, y1), (5, 4), textcoords="offset points", fontsize=7.5, zorder=4)
    for points, colour, version in ((geometry.first, FIRST, diff.first), (geometry.second, SECOND, diff.second)):
        ax.scatter(
            points[:, 0], points[:, 1], s=size, color=colour, alpha=0.55, linewidths=0, label=version.label, zorder=2
        )
    ax.set_title("Both on one map, the second turned onto the first")
    ax.set_xlabel("component 1")
    ax.set_ylabel("component 2")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.margins(0.1)
    ax.legend(loc="best")

"""The picture of probe results: every representation's score with its interval, a panel a target."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from boldstream.drawing import COLOURS, INK, MUTED, REST, STYLE, png
from boldstream.report.probes import CHANCE, CONNECTIVITY, ProbedTarget

EMBEDDING_COLOUR, CONNECTIVITY_COLOUR, BASELINE_COLOUR = COLOURS[0], COLOURS[1], MUTED
ROW_INCHES, PANEL_INCHES = 0.24, 0.95


@mpl.rc_context(STYLE)
def draw_forest(targets: Sequence[ProbedTarget]) -> bytes:
    """Draw primary scores with their 95 % intervals: tables in blue, connectivity in orange, other baselines grey."""
    columns = min(2, len(targets))
    rows = [targets[i : i + columns] for i in range(0, len(targets), columns)]
    heights = [PANEL_INCHES + ROW_INCHES * max(len(target.lines) for target in row) for row in rows]
    figure = Figure(figsize=(10 if columns > 1 else 7.5, sum(heights) + 0.35), layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False, gridspec_kw={"height_ratios": heights})
    for ax, target in zip(axes.ravel(), targets, strict=False):
        _draw_target(ax, target)
    for ax in axes.ravel()[len(targets) :]:
        ax.remove()
    marks = [
        mpl.lines.Line2D([], [], color=colour, marker="o", linewidth=2, label=label)
        for colour, label in (
            (EMBEDDING_COLOUR, "embedding"),
            (CONNECTIVITY_COLOUR, "functional connectivity"),
            (BASELINE_COLOUR, "other baseline"),
        )
    ]
    marks.append(mpl.lines.Line2D([], [], color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)), label="knows nothing"))
    figure.legend(handles=marks, loc="outside lower center", ncols=len(marks))
    return png(figure)


def _draw_target(ax: Axes, target: ProbedTarget) -> None:
    values = np.array([line.metrics[target.metric] for line in target.lines])
    floor = target.floor
    for row, (line, (value, low, high)) in enumerate(zip(target.lines, values, strict=True)):
        colour = _colour(line.representation, line.is_embedding)
        ax.plot(np.clip([low, high], floor, None), [row, row], color=colour, linewidth=2.4, alpha=0.5)
        marker = "o" if value >= floor else "<"
        ax.plot(max(value, floor), row, marker, color=colour, markersize=6.5, clip_on=False, zorder=3)
    several = {line.representation for line in target.lines if _n_heads(target, line.representation) > 1}
    names = [f"{line.title} · {line.head}" if line.representation in several else line.title for line in target.lines]
    ax.set_yticks(range(len(names)), names)
    ax.tick_params(axis="y", length=0, labelcolor=INK)
    for label, line in zip(ax.get_yticklabels(), target.lines, strict=True):
        label.set_fontweight("bold" if line.is_embedding else "normal")
    ax.set_ylim(len(names) - 0.4, -0.6)
    n_tables = sum(line.is_embedding for line in target.lines)
    if 0 < n_tables < len(names):
        ax.axhline(n_tables - 0.5, color=REST, linewidth=0.6)
    if (chance := CHANCE.get(target.metric)) is not None:
        ax.axvline(chance, color=MUTED, linewidth=1.0, linestyle=(0, (4, 3)), zorder=1.5)
    ax.margins(x=0.06)
    ax.set_title(f"{target.name}: {target.title_of(target.metric)}")
    ax.grid(axis="x", color="#eef1f4", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right", "left"]].set_visible(False)


def _n_heads(target: ProbedTarget, representation: str) -> int:
    return sum(line.representation == representation for line in target.lines)


def _colour(representation: str, is_embedding: bool) -> str:
    if is_embedding:
        return EMBEDDING_COLOUR
    return CONNECTIVITY_COLOUR if representation == CONNECTIVITY else BASELINE_COLOUR

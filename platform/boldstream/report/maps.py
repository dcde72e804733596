"""Maps of scans: the first two components of each representation, coloured by what is known of people."""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from boldstream.drawing import STYLE, png
from boldstream.report.colouring import FEW, SCALE, Colouring, colouring_of, handles_of, looks_of, scale_of
from boldstream.report.figures import panel_grid
from boldstream.report.measure import Measured


@mpl.rc_context(STYLE)
def draw_map(measured: Sequence[Measured], colouring: Colouring, numbered: bool) -> bytes:
    """Draw the first two principal components of each representation; a line joins a scan's parts."""
    n_rows, columns, height = panel_grid(len(measured))
    figure = Figure(figsize=(10, height * n_rows + 0.7), layout="constrained")
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
        scale = mpl.cm.ScalarMappable(scale_of(colouring.numbers), SCALE)
        figure.colorbar(scale, ax=list(axes[: len(measured)]), location="bottom", shrink=0.4, label=colouring.column)
    else:
        figure.legend(
            handles=handles_of(colouring, numbered), loc="outside lower center", ncols=7, title=colouring.column
        )
    return png(figure)


@mpl.rc_context(STYLE)
def draw_covariates(measured: Sequence[Measured], rows: pd.DataFrame, columns: Sequence[str]) -> bytes:
    """Draw the map of each representation once a column, coloured by it; numbers with a bar, groups with a legend."""
    colourings = [colouring_of(rows, column) for column in columns]
    # three panels wide whatever is known, so that a lone one does not fill the page
    width = max(3, len(columns))
    figure = Figure(figsize=(10, 3.2 * len(measured) + 1.0), layout="constrained")
    grid = figure.subplots(
        len(measured) + 1, width, squeeze=False, gridspec_kw={"height_ratios": [3.2] * len(measured) + [0.9]}
    )
    for row, one in enumerate(measured):
        for ax, colouring in zip(grid[row], colourings, strict=False):
            _draw_points(ax, one, colouring, numbered=False, only_first=True)
            ax.set_title(colouring.column if row == 0 else "")
            ax.set_xticks([])
            ax.set_yticks([])
            ax.margins(0.06)
        grid[row, 0].set_ylabel(one.display, fontsize=10)
    for ax, colouring in zip(grid[-1], colourings, strict=False):
        _draw_key(figure, ax, colouring)
    for ax in grid[:, len(columns) :].ravel():
        ax.axis("off")
    return png(figure)


def _draw_key(figure: Figure, ax: Axes, colouring: Colouring) -> None:
    """Draw what the colours of a column mean, into a panel of its own."""
    ax.axis("off")
    if colouring.numbers is not None:
        scale = mpl.cm.ScalarMappable(scale_of(colouring.numbers), SCALE)
        bar = figure.colorbar(scale, ax=ax, location="top", fraction=0.35, aspect=16)
        bar.ax.tick_params(labeltop=False, labelbottom=True, top=False, bottom=True)
        bar.outline.set_linewidth(0)
        return
    handles = handles_of(colouring, numbered=False)
    columns = 4 if len(handles) > 4 else max(1, len(handles))
    ax.legend(handles=handles, loc="upper center", ncols=columns, fontsize=7, handletextpad=0.1, columnspacing=0.8)


def _draw_points(ax: Axes, one: Measured, colouring: Colouring, numbered: bool, *, only_first: bool = False) -> None:
    """Draw one representation's parts: the first filled, later ones hollow."""
    n_scans = one.coordinates.shape[1]
    colours, markers = looks_of(colouring, n_scans)
    size = 34 if n_scans <= FEW else 13
    for scan in range(n_scans):
        x, y = one.coordinates[: 1 if only_first else None, scan].T
        style: dict[str, Any] = {"marker": markers[scan], "s": size, "edgecolors": [colours[scan]], "linewidths": 1.1}
        ax.plot(x, y, color=colours[scan], linewidth=0.8, alpha=0.5, zorder=1)
        ax.scatter(x[:1], y[:1], c=[colours[scan]], zorder=3, **style)
        ax.scatter(x[1:], y[1:], c="white", zorder=2, **style)
        if numbered:
            away = (7 if x[0] >= x[-1] else -7, 6 if y[0] >= y[-1] else -6)
            centred: dict[str, Any] = {"ha": "center", "va": "center"}
            ax.annotate(str(scan + 1), (x[0], y[0]), away, textcoords="offset points", fontsize=7.5, **centred)

"""What every picture has in common: colours, type, and how a figure becomes PNG. No pyplot: nothing global."""

import io
from typing import Any

from matplotlib.figure import Figure

# Okabe & Ito's colours, safe for colour-blind readers; yellow is left out, it does not show on white.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P")
INK = "#1f2933"
MUTED = "#66727f"
REST = "#b5b5b5"
DPI = 150
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.edgecolor": "#9aa5b1",
    "axes.linewidth": 0.7,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
}
"""For ``matplotlib.rc_context``."""

OPEN_AXES = {"axes.spines.top": False, "axes.spines.right": False}
"""Beside `STYLE`, for plots of curves and bars."""


def png(figure: Figure, dpi: int = DPI) -> bytes:
    """Draw a figure as PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()

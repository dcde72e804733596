"""The shift room's page: one HTML file that needs nothing else."""

import base64
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

import boldstream
from boldstream import drawing
from boldstream.analysis.shift import EXPECTED
from boldstream.pages import render_page

if TYPE_CHECKING:
    from boldstream.shift.run import Shift

MOST = 50


def shift_page(shift: "Shift") -> str:
    """Return the page."""
    order = np.argsort(-shift.spread.share)
    regions = [
        {
            "roi": shift.cohort.roi_names[at],
            "share": shift.spread.share[at],
            "direction": shift.spread.direction[at],
            "level": shift.level.share[at],
            **(shift.effect.of_region(at) if shift.effect else {}),
        }
        for at in order
        if shift.spread.off[at]
    ]
    return render_page(
        "boldstream.shift",
        "shift.html.j2",
        shift=shift,
        regions=regions[:MOST],
        scans=[scan for scan in shift.scans if scan["off"]][:MOST],
        picture=base64.b64encode(draw_shift(shift)).decode(),
        most=MOST,
        version=boldstream.__version__,
    )


@mpl.rc_context(drawing.STYLE | drawing.OPEN_AXES)
def draw_shift(shift: "Shift") -> bytes:
    """Draw every scan by both measures, and every region's share of scans outside, as PNG."""
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.3])
    for is_off, colour, word in ((False, drawing.REST, "like training scans"), (True, drawing.COLOURS[1], "off")):
        some = [scan for scan in shift.scans if scan["off"] is is_off]
        x, y = [scan["outside"] for scan in some], [scan["similarity"] for scan in some]
        left.plot(x, y, "o", markersize=3.5, color=colour, label=f"{word}: {len(some)}")
    left.axvline(shift.config.max_outside, color=drawing.MUTED, linewidth=0.8, linestyle=(0, (4, 2)))
    left.axhline(shift.config.min_similarity, color=drawing.MUTED, linewidth=0.8, linestyle=(0, (4, 2)))
    left.set_xlim(-0.02, 1.02)
    left.set_xlabel("share of regions with an unusual standard deviation")
    left.set_ylabel("correlation with the mean connectivity")
    left.set_title("Scans")
    left.legend(loc="upper right")
    share, off = shift.spread.share, shift.spread.off
    at = np.arange(len(share))
    right.plot(at[~off], share[~off], ".", color=drawing.REST, markersize=4)
    right.plot(at[off], share[off], ".", color=drawing.COLOURS[1], markersize=5)
    right.axhline(EXPECTED, color=drawing.INK, linewidth=0.8)
    right.set_ylim(-0.02, 1.02)
    right.set_xlabel("region (orange: off)" if off.any() else "region")
    right.set_ylabel("share of scans with an unusual SD")
    right.set_title(f"Regions (line: the {EXPECTED:.0%} expected)")
    return drawing.png(figure)

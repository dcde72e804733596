"""The night's page: one HTML file that needs nothing else, and the numbers beside it."""

import base64
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

import boldstream
from boldstream import drawing
from boldstream.errors import OutputExistsError
from boldstream.nightly.nights import OUTCOMES, Night
from boldstream.pages import render_page
from boldstream.storage import publish_folder

NUMBERS = "night.json"
LOOKS = {
    "promoted": (drawing.COLOURS[2], "o"),
    "unchanged": (drawing.REST, "o"),
    "held": (drawing.COLOURS[1], "s"),
    "failed": (drawing.COLOURS[6], "X"),
}


def check_page(target: Path) -> None:
    """Refuse a folder that holds something else than an earlier night's page.

    Raises
    ------
    OutputExistsError
    """
    if target.exists() and any(target.iterdir()) and not (target / NUMBERS).is_file():
        raise OutputExistsError(f"page: {target} exists and is no page of this job; choose another folder")


def write_page(night: Night, nights: list[Night], target: Path) -> None:
    """Write the page of a night and of those before it."""
    page = render_page(
        "boldstream.nightly",
        "night.html.j2",
        night=night,
        nights=nights,
        outcomes=OUTCOMES,
        picture=base64.b64encode(draw_nights(nights)).decode(),
        version=boldstream.__version__,
    )
    with publish_folder(target) as draft:
        (draft / NUMBERS).write_bytes(night.to_json())
        (draft / "index.html").write_text(page, encoding="utf-8")


@mpl.rc_context(drawing.STYLE | drawing.OPEN_AXES)
def draw_nights(nights: list[Night]) -> bytes:
    """Draw the champion's vectors after every night, and what the night came to, as PNG."""
    figure = Figure(figsize=(9, 2.6), layout="constrained")
    axes = figure.subplots()
    place = range(1, len(nights) + 1)
    axes.step(place, [night.rows for night in nights], where="post", color=drawing.MUTED, linewidth=1)
    for outcome, (colour, marker) in LOOKS.items():
        some = [(at, night.rows) for at, night in zip(place, nights, strict=True) if night.outcome == outcome]
        if some:
            x, y = zip(*some, strict=True)
            axes.plot(x, y, marker, color=colour, markersize=7, label=f"{outcome}: {len(some)}", clip_on=False)
    axes.set_ylim(bottom=0)
    axes.set_xlim(0.5, max(len(nights), 2) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel(f"night (the last {len(nights)})" if len(nights) > 1 else "night")
    axes.set_ylabel("vectors")
    axes.set_title("The champion after every night")
    axes.legend(loc="lower left", ncols=4)
    return drawing.png(figure)

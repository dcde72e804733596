"""How well site and motion can be told from vectors, as they are and before and after an adjustment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from boldstream.analysis.nuisance import MOTION, MOTION_R2, SITE_ACCURACY, SITE_CHANCE, motion_r2, site_accuracy
from boldstream.artifacts.embeddings import EmbeddingTable
from boldstream.drawing import COLOURS, INK, MUTED, REST, STYLE, png
from boldstream.report.wording import capital, plain

BEFORE, AFTER = "_before", "_after"
NOT_MEASURED = "not_measured"
QUANTITIES = ((SITE_ACCURACY, "site, balanced accuracy"), (MOTION_R2, "mean FD, R²"))
"""What is looked for, and its name."""
SHOWN_DIGITS = 3
WORSE, BETTER = COLOURS[1], COLOURS[2]


@dataclass(frozen=True)
class Told:
    """What one representation tells of site and motion.

    Attributes
    ----------
    title : str
    found : dict of str to float
        ``site_balanced_accuracy``, ``site_chance``, ``mean_fd_r2``; those that can be measured.
    """

    name: str
    title: str
    found: dict[str, float]


@dataclass(frozen=True)
class BeforeAfter:
    """What an adjustment changes, as the adjust room measured it in people that it was not learnt from.

    Attributes
    ----------
    name, label, source : str
        Name of the adjusted table in the report, its version, the table that it was made from.
    found : dict of str to float
        Quantities with ``_before`` and ``_after``; ``site_chance``; ``n_measured`` rows.
    not_measured : str
        Why there are none; empty where there are.
    """

    name: str
    label: str
    source: str
    found: dict[str, float]
    not_measured: str


@dataclass(frozen=True)
class Confounds:
    """What the page's section on site and motion is made of."""

    told: Sequence[Told]
    changes: Sequence[BeforeAfter]

    @property
    def is_drawn(self) -> bool:
        """Whether there is anything to draw."""
        return any([one.found for one in self.told] + [one.found for one in self.changes])


def tell(name: str, title: str, vectors: NDArray[np.float32], rows: pd.DataFrame, seed: int) -> Told:
    """Measure what vectors tell of site and motion, in subjects left out.

    Parameters
    ----------
    name, title : str
    vectors : array, shape (n_parts, n_scans, n_dims)
        The mean of a scan's parts is looked at.
    rows : DataFrame
        ``subject``, ``site`` and ``mean_fd`` of the scans.
    seed : int
        Deals subjects to folds.
    """
    x = vectors.mean(axis=0, dtype=np.float64)
    found: dict[str, float] = {}
    if rows["site"].notna().any():
        sites = rows["site"].fillna("").astype(str).to_numpy(dtype=str)
        found |= site_accuracy(x, sites, rows["subject"], seed)
    if rows[MOTION].notna().any():
        found |= motion_r2(x, rows[MOTION].to_numpy(dtype=np.float64), rows["subject"], seed)
    return Told(name, title, found)


def before_after(tables: Mapping[str, EmbeddingTable]) -> list[BeforeAfter]:
    """Return what the manifests of adjusted tables tell of site and motion."""
    found = []
    for name, table in tables.items():
        content = table.manifest.content
        if "nuisance" not in content:
            continue
        nuisance: dict[str, Any] = content["nuisance"]
        numbers = {key: float(value) for key, value in nuisance.items() if not isinstance(value, str)}
        source = str(content["table"]).rpartition("/")[2]
        found.append(BeforeAfter(name, table.label, source, numbers, str(nuisance.get(NOT_MEASURED, ""))))
    return found


def sentences_of(told: Sequence[Told], changes: Sequence[BeforeAfter]) -> list[str]:
    """Say what can be told of site and motion, and whether adjusting has made that less or more."""
    said = []
    for quantity, what in QUANTITIES:
        values = {one.title: one.found[quantity] for one in told if quantity in one.found}
        if not values:
            continue
        chance = next(
            (f" (chance {plain(one.found[SITE_CHANCE], SHOWN_DIGITS)})" for one in told if SITE_CHANCE in one.found), ""
        )
        listed = ", ".join(f"{plain(value, SHOWN_DIGITS)} from {title}" for title, value in values.items())
        said.append(f"{capital(what)}{chance if quantity == SITE_ACCURACY else ''}: {listed}.")
    if not said:
        said.append(
            "Neither site nor motion can be looked for in these vectors: that takes two sites of five subjects, or ten "
            "subjects whose motion is known and differs."
        )
    for change in changes:
        if change.not_measured:
            said.append(f"What adjusting has done in {change.label} was not measured: {change.not_measured}.")
            continue
        said += [_changed(change, quantity, what) for quantity, what in QUANTITIES if quantity + BEFORE in change.found]
    return said


def _changed(change: BeforeAfter, quantity: str, what: str) -> str:
    before, after = change.found[quantity + BEFORE], change.found[quantity + AFTER]
    numbers = f"from {plain(before, SHOWN_DIGITS)} to {plain(after, SHOWN_DIGITS)}"
    if quantity == SITE_ACCURACY:
        numbers += f", chance {plain(change.found[SITE_CHANCE], SHOWN_DIGITS)}"
    direction = round(after, SHOWN_DIGITS) - round(before, SHOWN_DIGITS)
    if direction == 0:
        verb = "has left as it was how well new people's vectors tell"
    else:
        verb = f"has made new people's vectors tell {'more' if direction > 0 else 'less'} of"
    return f"Adjusting ({change.label}) {verb} {what.replace(', ', ' (', 1)}: {numbers})."


def numbers_of_confounds(confounds: Confounds) -> dict[str, Any]:
    """Return what the page shows, as JSON types."""
    return {
        "sentences": sentences_of(confounds.told, confounds.changes),
        "representations": {one.name: one.found for one in confounds.told},
        "adjusted": {
            one.name: {"table": one.label, "source": one.source, **one.found}
            | ({NOT_MEASURED: one.not_measured} if one.not_measured else {})
            for one in confounds.changes
        },
    }


@mpl.rc_context(STYLE)
def draw_confounds(told: Sequence[Told], changes: Sequence[BeforeAfter]) -> bytes:
    """Draw what each representation tells of site and of motion; an arrow leads from before to after an adjustment."""
    drawn = [one for one in changes if one.found]
    labels = [capital(one.title.removeprefix("the ")) for one in told] + [f"{one.source} → {one.name}" for one in drawn]
    figure = Figure(figsize=(10, 1.25 + 0.36 * len(labels)), layout="constrained")
    axes = figure.subplots(1, len(QUANTITIES), sharey=True)
    for ax, (quantity, what) in zip(axes, QUANTITIES, strict=True):
        _draw_quantity(ax, quantity, told, drawn)
        ax.set_title(capital(what))
        ax.set_ylim(len(labels) - 0.4, -0.6)
        if 0 < len(told) < len(labels):
            ax.axhline(len(told) - 0.5, color=REST, linewidth=0.6)
        ax.tick_params(axis="y", length=0, labelcolor=INK)
        ax.grid(axis="x", color="#eef1f4", linewidth=0.8)
        ax.set_axisbelow(True)
        ax.spines[["top", "right", "left"]].set_visible(False)
    axes[0].set_yticks(range(len(labels)), labels)
    return png(figure)


def _draw_quantity(ax: Axes, quantity: str, told: Sequence[Told], changes: Sequence[BeforeAfter]) -> None:
    values = [0.0]
    for row, one in enumerate(told):
        if (value := one.found.get(quantity)) is not None:
            ax.plot(value, row, "o", color=COLOURS[0], markersize=7, zorder=3, clip_on=False)
            values.append(value)
    for row, change in enumerate(changes, len(told)):
        if quantity + BEFORE not in change.found:
            continue
        before, after = change.found[quantity + BEFORE], change.found[quantity + AFTER]
        colour = WORSE if after > before else BETTER
        ax.annotate(
            "", (after, row), (before, row), arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 1.8}
        )
        ax.plot(before, row, "o", color="white", markeredgecolor=colour, markersize=6.5, zorder=3, clip_on=False)
        ax.plot(after, row, "o", color=colour, markersize=6.5, zorder=3, clip_on=False)
        values += [before, after]
    found = [one.found for one in told] + [one.found for one in changes]
    chances = [one[SITE_CHANCE] for one in found if SITE_CHANCE in one]
    if quantity == MOTION_R2 or chances:
        ax.axvline(0.0 if quantity == MOTION_R2 else chances[0], color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
    span = max(max(values) - min(values), 0.1)
    ax.set_xlim(min(values) - 0.06 * span, max(values) + 0.08 * span)

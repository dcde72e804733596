"""What colours of a map mean: groups, each with a colour and marker of its own, or a scale of numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from boldstream.drawing import COLOURS, MARKERS, REST

FEW = 20
"""Groups that still get a colour and marker of their own; subjects up to so many are numbered."""

UNKNOWN, OTHERS = "not known", "others"
SCALE = "viridis"


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
    text = values.astype("object").where(values.notna(), UNKNOWN).astype(str)
    named = sorted(text.value_counts().index[:FEW].tolist())
    return Colouring(column, groups=[value if value in named else OTHERS for value in text])


def looks_of(colouring: Colouring, n_scans: int) -> tuple[list[Any], list[str]]:
    """Return the colour and the marker of every scan."""
    if colouring.numbers is not None:
        scale = mpl.cm.ScalarMappable(scale_of(colouring.numbers), SCALE)
        colours = [scale.to_rgba(number) if np.isfinite(number) else REST for number in colouring.numbers]
        return colours, ["o"] * n_scans
    assert colouring.groups is not None
    looks = _group_looks(colouring.groups)
    return [looks[group][0] for group in colouring.groups], [looks[group][1] for group in colouring.groups]


def _group_looks(groups: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return colour and marker of every group, in alphabetical order; what is left over or not known is grey."""
    names = [name for name in dict.fromkeys(groups) if name not in (OTHERS, UNKNOWN)]
    looks = {name: (COLOURS[i % len(COLOURS)], MARKERS[i // len(COLOURS)]) for i, name in enumerate(sorted(names))}
    return looks | {OTHERS: (REST, "o"), UNKNOWN: (REST, "X")}


def handles_of(colouring: Colouring, numbered: bool) -> list[Any]:
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


def scale_of(numbers: NDArray[np.float64]) -> mpl.colors.Normalize:
    """Return the scale from the least to the largest known number."""
    known = numbers[np.isfinite(numbers)]
    return mpl.colors.Normalize(*((float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)))

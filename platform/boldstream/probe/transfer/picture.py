"""What a transfer costs, drawn: learnt there, applied unchanged, and mended."""

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from boldstream import drawing
from boldstream.drawing import COLOURS, MUTED, png
from boldstream.probe.transfer.frames import ending
from boldstream.probe.transfer.trial import IN_COHORT, RECALIBRATED, RECENTRED, UNCHANGED
from boldstream.probe.wording import CHANCE, metric_name, title_of

VERSIONS = {
    IN_COHORT: ("learnt in the unseen cohort", MUTED, "s"),
    UNCHANGED: ("applied unchanged", COLOURS[0], "o"),
    RECENTRED: ("vectors recentred (no targets)", COLOURS[2], "^"),
    RECALIBRATED: ("recalibrated (its own targets)", COLOURS[1], "D"),
}
ROW_INCHES, HEAD_INCHES, WIDTH_INCHES = 0.42, 0.7, 7.6
LIFT = 0.19
LOWEST = -0.5
"""Of the axis: an R2 far below 0 says no more than one a little below."""


@mpl.rc_context(drawing.STYLE | drawing.OPEN_AXES)
def draw_transfer(scores: pd.DataFrame) -> bytes:
    """Draw every representation's primary metric in all versions, with intervals, a panel a target, as PNG."""
    primary = scores[scores["primary"]]
    targets = list(dict.fromkeys(primary["target"]))
    heights = [HEAD_INCHES + ROW_INCHES * int((primary["target"] == name).sum()) for name in targets]
    figure = Figure(figsize=(WIDTH_INCHES, sum(heights) + 0.8), layout="constrained")
    axes = figure.subplots(len(targets), 1, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    for axis, name in zip(axes, targets, strict=True):
        _panel(axis, name, primary[primary["target"] == name], scores[scores["target"] == name])
    handles = [
        Line2D([], [], color=colour, marker=marker, markersize=4, linewidth=1.2, label=label)
        for label, colour, marker in VERSIONS.values()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    figure.suptitle("In the unseen cohort; lines: 95 % intervals over its subjects", fontsize=9, color=MUTED)
    return png(figure)


def _panel(axis: Axes, target: str, primary: pd.DataFrame, scores: pd.DataFrame) -> None:
    metric = str(primary["metric"].iloc[0])
    several = primary.duplicated("representation", keep=False).to_numpy()
    places = np.arange(len(primary))[::-1]
    low = float(scores.loc[scores["metric"].str.startswith(metric), "low"].min())
    left = max(low - 0.05, CHANCE[metric] + LOWEST)
    for at, row in enumerate(primary.to_dict("records")):
        own = scores[(scores["representation"] == row["representation"]) & (scores["head"] == row["head"])]
        values = own.set_index("metric")
        for lift, (version, (_, colour, marker)) in enumerate(VERSIONS.items()):
            name, place = f"{metric}{ending(version)}", places[at] - LIFT * (lift - 1.5)
            if name not in values.index:
                continue
            one = values.loc[name]
            axis.plot([one["low"], one["high"]], [place, place], color=colour, linewidth=1.2)
            if one["value"] < left:
                axis.text(left, place, f" ◂ {one['value']:.1f}", color=colour, fontsize=7, va="center")
            else:
                axis.plot(one["value"], place, marker, color=colour, markersize=4)
    labels = [
        title_of(name) + (f" ({head})" if many else "")
        for name, head, many in zip(primary["representation"], primary["head"], several, strict=True)
    ]
    axis.set_xlim(left=left)
    axis.axvline(CHANCE[metric], color=MUTED, linewidth=0.8, linestyle=":")
    axis.set_yticks(places, labels)
    axis.set_ylim(-0.6, len(primary) - 0.4)
    axis.set_title(f"{target}: {metric_name(metric, str(primary['kind'].iloc[0]))}")

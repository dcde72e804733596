"""What a transfer costs, drawn: learnt there, applied unchanged, and mended."""

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from boldstream import drawing
from boldstream.drawing import COLOURS, MUTED, png
from boldstream.probe.transfer.frames import ending
from boldstream.probe.transfer.trial import IN_COHORT, UNCHANGED
from boldstream.probe.transfer.wording import RECALIBRATED, RECENTRED
from boldstream.probe.wording import CHANCE, METRIC_NAMES, title_of

VERSIONS = {
    IN_COHORT: ("learnt in the unseen cohort", MUTED, "s"),
    UNCHANGED: ("applied unchanged", COLOURS[0], "o"),
    RECENTRED: ("vectors recentred (no targets)", COLOURS[2], "^"),
    RECALIBRATED: ("recalibrated (its own targets)", COLOURS[1], "D"),
}
ROW_INCHES, HEAD_INCHES, WIDTH_INCHES = 0.55, 1.1, 7.6
LIFT = 0.17
LOWEST = -0.5
"""Of the axis: an R2 far below 0 says no more than one a little below."""


@mpl.rc_context(drawing.STYLE | drawing.OPEN_AXES)
def draw_transfer(scores: pd.DataFrame) -> bytes:
    """Draw every representation's primary metric in all versions, with intervals, a panel a target, as PNG."""
    primary = scores[scores["primary"]]
    targets = list(dict.fromkeys(primary["target"]))
    heights = [HEAD_INCHES + ROW_INCHES * int((primary["target"] == name).sum()) for name in targets]
    figure = Figure(figsize=(WIDTH_INCHES, sum(heights) + 0.4), layout="constrained")
    axes = figure.subplots(len(targets), 1, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    for axis, name in zip(axes, targets, strict=True):
        _panel(axis, name, primary[primary["target"] == name], scores[scores["target"] == name])
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return png(figure)


def _panel(axis: Axes, target: str, primary: pd.DataFrame, scores: pd.DataFrame) -> None:
    metric = str(primary["metric"].iloc[0])
    several = primary.duplicated("representation", keep=False).to_numpy()
    places = np.arange(len(primary))[::-1]
    for at, row in enumerate(primary.to_dict("records")):
        own = scores[(scores["representation"] == row["representation"]) & (scores["head"] == row["head"])]
        values = own.set_index("metric")
        for lift, (version, (label, colour, marker)) in enumerate(VERSIONS.items()):
            name = f"{metric}{ending(version)}"
            if name not in values.index:
                continue
            one, place = values.loc[name], places[at] - LIFT * (lift - 1.5)
            axis.plot([one["low"], one["high"]], [place, place], color=colour, linewidth=1.2)
            axis.plot(one["value"], place, marker, color=colour, markersize=4, label=label if at == 0 else None)
    labels = [
        title_of(name) + (f" ({head})" if many else "")
        for name, head, many in zip(primary["representation"], primary["head"], several, strict=True)
    ]
    low = float(scores.loc[scores["metric"].str.startswith(metric), "low"].min())
    axis.set_xlim(left=max(low - 0.05, CHANCE[metric] + LOWEST))
    axis.axvline(CHANCE[metric], color=MUTED, linewidth=0.8, linestyle=":")
    axis.set_yticks(places, labels)
    axis.set_ylim(-0.6, len(primary) - 0.4)
    axis.set_title(f"{target}: {METRIC_NAMES[metric]} in the unseen cohort, 95 % intervals over subjects")

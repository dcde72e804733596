"""The comparison as a forest plot and as a page: what people look at first in MLflow."""

import base64
from collections.abc import Hashable, Mapping
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from boldstream.drawing import COLOURS, MUTED, OPEN_AXES, STYLE, png
from boldstream.pages import render_page
from boldstream.probe.wording import CHANCE, METRIC_NAMES, metric_name, title_of

ROW_INCHES, HEAD_INCHES, WIDTH_INCHES = 0.26, 0.9, 7.2


def forest_plot(scores: pd.DataFrame) -> bytes:
    """Draw every representation's primary score with its interval, a panel a target, as PNG."""
    primary = scores[scores["primary"]]
    targets = list(dict.fromkeys(primary["target"]))
    counts = [int((primary["target"] == name).sum()) for name in targets]
    heights = [HEAD_INCHES + ROW_INCHES * count for count in counts]
    with matplotlib.rc_context(STYLE | OPEN_AXES):
        figure = Figure(figsize=(WIDTH_INCHES, sum(heights)), layout="constrained")
        axes = figure.subplots(len(targets), 1, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
        for axis, name in zip(axes, targets, strict=True):
            _panel(axis, name, primary[primary["target"] == name])
        return png(figure)


def _panel(axis: Axes, target: str, rows: pd.DataFrame) -> None:
    places = np.arange(len(rows))[::-1]
    metric = str(rows["metric"].iloc[0])
    several = rows.duplicated("representation", keep=False).to_numpy()
    for place, row in zip(places, rows.to_dict("records"), strict=True):
        colour = COLOURS[0] if row["role"] == "embedding" else MUTED
        axis.plot([row["low"], row["high"]], [place, place], color=colour, linewidth=1.6, solid_capstyle="round")
        axis.plot(row["value"], place, "o" if row["role"] == "embedding" else "s", color=colour, markersize=5)
    labels = [
        title_of(name) + (f" ({head})" if many else "")
        for name, head, many in zip(rows["representation"], rows["head"], several, strict=True)
    ]
    axis.axvline(CHANCE[metric], color=MUTED, linewidth=0.8, linestyle=":")
    axis.set_yticks(places, labels)
    axis.set_ylim(-0.6, len(rows) - 0.4)
    axis.set_title(f"{target}: {metric_name(metric, str(rows['kind'].iloc[0]))}, 95 % intervals")


def comparison_page(
    scores: pd.DataFrame, contests: pd.DataFrame, headline: str, sentences: list[str], picture: bytes, title: str
) -> str:
    """Return one HTML page: headline, sentences, forest plot, scores and comparisons."""
    primary = scores[scores["primary"]]
    return render_page(
        "boldstream.probe",
        "comparison.html.j2",
        title=title,
        headline=headline,
        sentences=sentences,
        picture=base64.b64encode(picture).decode(),
        scores=[_score(row) for row in primary.to_dict("records")],
        contests=[_contest(row) for row in contests.to_dict("records")],
    )


def _score(row: Mapping[Hashable, Any]) -> list[str]:
    p = f"{row['p_adjusted']:.3g}" if row["p_adjusted"] == row["p_adjusted"] else ""
    value = f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
    told = [row["target"], title_of(row["representation"]), row["head"], row["front"]]
    told += [metric_name(row["metric"], row["kind"]), value, p]
    return [*told, str(row["n_dims"]), str(row["n_subjects"]), str(row["n_missing"])]


def _contest(row: Mapping[Hashable, Any]) -> list[str]:
    gap = f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"
    return [row["target"], METRIC_NAMES[row["metric"]], row["first"], row["verdict"], title_of(row["second"]), gap]

"""The brain pictures: regions painted onto a glass brain, a viewer to click through, and bars of the largest."""

import base64
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from boldstream.artifacts.cohort import Cohort
from boldstream.drawing import COLOURS, STYLE, png
from boldstream.errors import AtlasError
from boldstream.parcellation.atlas import Atlas, check_same
from boldstream.parcellation.atlas_catalog import load_label_volume
from boldstream.parcellation.label_volume import SUFFIXES, LabelVolume
from boldstream.report.brains import BrainMap, Brains
from boldstream.report.config import ReportConfig

DPI = 130
COLOUR_MAP = "RdBu_r"
LEAST_SPAN = 1.0
"""Colours end at no share and at twice an even one, or further out."""
DRAWN_ABOVE = 1e-6
"""Differences from an even share that are drawn: all but those of rounding."""
DLABEL = ".dlabel.nii"
FILES = ("atlas_file", "atlas_labels", "atlas_order", "atlas_order_labels")
"""Fields of this room's configuration and of the ingest room's that tell where regions are."""
REMOTE_ICON = re.compile(r"<link[^>]*https?://[^>]*>")
"""The viewer's page asks for nilearn's icon over the network; nothing else in it does."""


@dataclass(frozen=True)
class Place:
    """Where the regions are: the atlas as an image, or why there is none."""

    volume: LabelVolume | None
    missing: str


def place_of(cohort: Cohort, config: ReportConfig) -> Place:
    """Find the image of the cohort's atlas: the one that is named, or the one that the cohort was averaged with.

    Nothing is fetched: a report is written without a network.

    Raises
    ------
    AtlasError
        If the image that is named cannot be used, or has other regions than the cohort.
    """
    told = config.model_dump() if config.atlas_file else cohort.manifest.config
    file, labels, order, order_labels = (str(told.get(name) or "") for name in FILES)
    if not file.endswith(SUFFIXES) or file.endswith(DLABEL):
        return Place(
            None, f"nothing here tells where the regions of atlas {cohort.atlas} are; name its image: atlas_file"
        )
    try:
        volume = load_label_volume(cohort.atlas, file, labels, order=order, order_labels=order_labels)
        check_same(volume.atlas, Atlas(cohort.atlas, tuple(cohort.roi_names)), where=file, other=cohort.label)
    except AtlasError as error:
        if config.atlas_file:
            raise
        return Place(None, f"the image that the cohort was averaged with cannot be used any more ({error})")
    return Place(volume, "")


def paint(volume: LabelVolume, values: NDArray[np.float64]) -> Any:
    """Return an image with each region's value in its voxels, 0 elsewhere."""
    import nibabel

    by_label = np.zeros(int(volume.data.max()) + 1)
    by_label[list(volume.labels)] = values
    return nibabel.Nifti1Image(by_label[volume.data].astype(np.float32), volume.affine)


@mpl.rc_context(STYLE)
def draw_glass(brain: BrainMap, volume: LabelVolume) -> bytes:
    """Draw the shares onto a glass brain, from left, behind, right and above: white is an even share."""
    from nilearn.plotting import plot_glass_brain

    figure = Figure(figsize=(10, 2.7))
    span = _span(brain)
    image = paint(volume, brain.times_even - 1)
    plot_glass_brain(
        image,
        figure=figure,
        display_mode="lyrz",
        colorbar=True,
        cmap=COLOUR_MAP,
        vmin=-span,
        vmax=span,
        plot_abs=False,
        threshold=DRAWN_ABOVE,
    )
    return png(figure, DPI)


def _span(brain: BrainMap) -> float:
    """Return where colours end, above and below an even share: never so near that small differences look large."""
    return max(LEAST_SPAN, float(np.abs(brain.times_even - 1).max()))


@mpl.rc_context(STYLE)
def draw_regions(maps: Sequence[BrainMap], roi_names: Sequence[str]) -> bytes:
    """Draw the regions with the largest shares, a panel a target, and how even the rest is."""
    columns = min(3, len(maps))
    n_rows = -(-len(maps) // columns)
    figure = Figure(figsize=(10, 2.7 * n_rows), layout="constrained")
    axes = figure.subplots(n_rows, max(columns, 2), squeeze=False)
    for ax, brain in zip(axes.ravel(), maps, strict=False):
        top = brain.top(roi_names)
        ax.barh(range(len(top)), [100 * share for _, share in top], color=COLOURS[0], height=0.66)
        ax.set_yticks(range(len(top)), [_short(name) for name, _ in top], fontsize=7.5)
        ax.invert_yaxis()
        ax.axvline(100 / len(brain.shares), color=COLOURS[1], linewidth=1.0, linestyle=(0, (4, 3)))
        ax.set_title(brain.target)
        ax.set_xlabel("share of the prediction's variance (%)")
        ax.tick_params(axis="y", length=0)
        ax.spines[["top", "right", "left"]].set_visible(False)
    for ax in axes.ravel()[len(maps) :]:
        ax.remove()
    return png(figure)


def _short(name: str, most: int = 26) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"


def viewer(brain: BrainMap, volume: LabelVolume) -> str:
    """Return nilearn's viewer of slices as a page of its own, which needs no network."""
    from nilearn.plotting import view_img

    with warnings.catch_warnings():
        # nilearn asks numpy for a percentile of a masked array
        warnings.filterwarnings("ignore", message=".*'partition' will ignore the 'mask'")
        shown = view_img(
            paint(volume, brain.times_even - 1),
            cmap=COLOUR_MAP,
            symmetric_cmap=True,
            vmax=_span(brain),
            threshold=DRAWN_ABOVE,
            resampling_interpolation="nearest",
            width_view=620,
        )
    return REMOTE_ICON.sub("", shown.get_standalone())


def draw_brains(brains: Brains, place: Place, roi_names: Sequence[str]) -> dict[str, bytes]:
    """Draw the largest regions of all maps, and each map on a glass brain where places are known; PNG by name."""
    drawn = {"regions": draw_regions(brains.maps, roi_names)} if brains.maps else {}
    if place.volume is not None:
        drawn |= {f"brain-{i}": draw_glass(one, place.volume) for i, one in enumerate(brains.maps, 1)}
    return drawn


def draw_viewers(brains: Brains, place: Place) -> dict[str, str]:
    """Return, by target, the address that holds nilearn's viewer whole; none where places are not known."""
    if place.volume is None:
        return {}
    pages = {one.target: viewer(one, place.volume) for one in brains.maps}
    return {name: f"data:text/html;base64,{base64.b64encode(page.encode()).decode()}" for name, page in pages.items()}

"""The order of Brain-JEPA's 450 regions: what a gradient's rows and the regions' names tell of it.

The released weights take Tian's 50 subcortical regions (scale S3: 25 right, then the same 25 left) first, then
Schaefer's 400 cortical regions in the order of 17 networks (left hemisphere, then right).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from boldstream.errors import AtlasError, GradientError
from boldstream.parcellation.atlas import Atlas

N_ROIS = 450
N_SUBCORTICAL = 50

PAIRED = 0.7
"""Least mean correlation of a block of 25 homotopic pairs. In the reference's gradient the subcortex has 0.918."""

MARGIN = 0.3
"""Least lead of that block over the other end's 50 rows, which are no pairs: 0.289 in the reference's gradient."""

NETWORKS_17 = (
    *("VisCent", "VisPeri", "SomMotA", "SomMotB", "DorsAttnA", "DorsAttnB", "SalVentAttnA", "SalVentAttnB"),
    *("LimbicB", "LimbicA", "ContA", "ContB", "ContC", "DefaultA", "DefaultB", "DefaultC", "TempPar"),
)
"""Networks of the 17-network parcellation, in the order of its regions in each hemisphere."""

NETWORKS_7 = frozenset({"Vis", "SomMot", "DorsAttn", "SalVentAttn", "Limbic", "Cont", "Default"})

SCHAEFER = re.compile(
    r"(?:.*?(?<!\d)(?P<n>17|7)Networks_)?(?P<side>[LR]H)_(?P<network>[A-Za-z]+)(?:_.*)?", re.IGNORECASE
)
TIAN = re.compile(r"(?P<stem>(?:HIP|THA|PUT|CAU|[lm]?AMY|NAc|[ap]?GP)(?:-.+)?)-(?P<side>[lr]h)", re.IGNORECASE)

Verdict = Literal["right", "reversed", "undecidable"]


@dataclass(frozen=True)
class Homotopy:
    """How alike the rows i and i + 25 are at both ends of a gradient: mean correlations.

    Attributes
    ----------
    first, last : float
        Over 25 pairs of the first and of the last 50 rows.
    """

    first: float
    last: float

    @property
    def verdict(self) -> Verdict:
        """Where the subcortex is: ``right`` is first, ``reversed`` is last."""
        if self.first >= PAIRED and self.first - self.last >= MARGIN:
            return "right"
        if self.last >= PAIRED and self.last - self.first >= MARGIN:
            return "reversed"
        return "undecidable"

    def __str__(self) -> str:
        return (
            f"rows i and i+25 correlate {self.first:.3f} in the first {N_SUBCORTICAL} rows and {self.last:.3f} in the "
            f"last; the reference's gradient has 0.918 and 0.289"
        )


@dataclass(frozen=True)
class OrderFindings:
    """What is known of the order after all checks.

    Attributes
    ----------
    homotopy : Homotopy or None
        None where the atlas is not of 450 regions, and nothing was checked.
    n_silent : int
        Names that tell nothing.
    remarks : tuple of str
        What could not be checked, for the user to read.
    """

    homotopy: Homotopy | None
    n_silent: int
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class _Region:
    """What a name tells: its kind, hemisphere (0: first in the order), and network or structure."""

    kind: Literal["subcortical", "17 networks", "7 networks"]
    side: int
    part: str


def check_order(atlas: Atlas, gradient: NDArray[np.float64], *, where: str) -> OrderFindings:
    """Refuse an order that is not the released weights', by the gradient's rows and by the regions' names.

    Parameters
    ----------
    atlas : Atlas
        Regions in the order of the gradient's rows.
    gradient : array, shape (n_rois, n_components)
    where : str
        Whose gradient, for the messages.

    Raises
    ------
    AtlasError
        If names tell of 7 networks, of cortex before subcortex, or of another order inside either.
    GradientError
        If the last 50 rows are homotopic pairs and the first are not; or if neither end is, and names do not
        vouch for the order either.
    """
    if atlas.n_rois != N_ROIS:
        remark = (
            f"the order of the {atlas.n_rois} regions was not checked: it is known for Brain-JEPA's released "
            f"{N_ROIS} only; make sure that {where} and the region names are in the order that the weights saw"
        )
        return OrderFindings(None, atlas.n_rois, (remark,))
    silent = check_names(atlas)
    found = homotopy(gradient)
    if found.verdict == "reversed":
        names = "move the region names with them" if silent else "the names have that order already"
        raise GradientError(
            f"{where}: {found}. The subcortex is last; Brain-JEPA takes the {N_SUBCORTICAL} Tian-S3 regions first, "
            f"then the 400 Schaefer regions: move the last 50 rows to the top; {names}"
        )
    remarks = []
    if found.verdict == "undecidable":
        if silent:
            raise GradientError(
                f"{where}: {found}. So the rows do not show that the subcortex is first, and {len(silent)} region "
                "names do not say it either; give Tian's and Schaefer's names, or the gradient of the weights"
            )
        remarks.append(f"{where}: {found}. The rows do not show where the subcortex is; only the names vouch for it")
    if silent:
        remarks.append(
            f"{len(silent)} of {N_ROIS} region names (first {silent[0]!r}) are neither Tian's nor Schaefer's, so they "
            "tell nothing about the order: that the subcortex is first rests on the homotopic test alone, and nothing "
            "tells whether the cortex is in 17-network order, as it must be, or in 7-network order"
        )
    return OrderFindings(found, len(silent), tuple(remarks))


def homotopy(gradient: NDArray[np.float64]) -> Homotopy:
    """Correlate row i with row i + 25 at both ends of a gradient of at least 50 rows.

    Regions at the same place in the two hemispheres connect alike, so in Tian's order, where they are 25 rows
    apart, they have nearly the same gradient; rows 25 apart in the cortex have not.
    """
    return Homotopy(_pair_correlation(gradient[:N_SUBCORTICAL]), _pair_correlation(gradient[-N_SUBCORTICAL:]))


def check_names(atlas: Atlas) -> list[str]:
    """Refuse region names that tell of another order; return the names that tell nothing.

    Raises
    ------
    AtlasError
    """
    regions = [_read_name(name) for name in atlas.roi_names]
    names, begin = atlas.roi_names, f"atlas {atlas.name!r}"
    if sevens := [i for i, region in enumerate(regions) if region and region.kind == "7 networks"]:
        raise AtlasError(
            f"{begin}: {len(sevens)} names are of Schaefer's 7-network order (region {sevens[0] + 1} is "
            f"{names[sevens[0]]!r}), Brain-JEPA takes the 17-network order; the regions are the same, so reorder "
            "gradient and scans by matching the two label files, or start from the 17-network file"
        )
    misplaced = [i for i, r in enumerate(regions) if r and (r.kind == "subcortical") != (i < N_SUBCORTICAL)]
    if misplaced:
        first = misplaced[0]
        wanted = "subcortical (Tian S3)" if first < N_SUBCORTICAL else "cortical (Schaefer)"
        raise AtlasError(
            f"{begin}: {len(misplaced)} names stand in the wrong block; region {first + 1} is {names[first]!r} "
            f"but has to be {wanted}. Brain-JEPA takes {N_SUBCORTICAL} subcortical regions first, then 400 cortical"
        )
    _check_pairs(regions[:N_SUBCORTICAL], names, begin)
    _check_networks(regions, names, begin)
    return [name for name, region in zip(names, regions, strict=True) if region is None]


def _check_pairs(regions: Sequence[_Region | None], names: Sequence[str], begin: str) -> None:
    """Refuse subcortical names other than 25 of the right hemisphere and the same 25 of the left."""
    half = N_SUBCORTICAL // 2
    for i, region in enumerate(regions):
        partner = regions[i - half] if i >= half else None
        other_part = partner is not None and region is not None and region.part != partner.part
        if region and (region.side != i // half or other_part):
            raise AtlasError(
                f"{begin}: region {i + 1}, {names[i]!r}, is out of Tian's order: {half} regions of the right "
                "hemisphere come first, then the same of the left"
            )


def _check_networks(regions: Sequence[_Region | None], names: Sequence[str], begin: str) -> None:
    """Refuse cortical names whose hemispheres and networks do not follow the 17-network order."""
    cortex = [(i, r) for i, r in enumerate(regions) if r and r.kind == "17 networks"]
    ranks = [(r.side, NETWORKS_17.index(r.part)) for _, r in cortex]
    for (before, _), (after, _), rank, next_rank in zip(cortex, cortex[1:], ranks, ranks[1:], strict=False):
        if next_rank < rank:
            raise AtlasError(
                f"{begin}: names are of Schaefer's 17 networks but not in their order: region {after + 1}, "
                f"{names[after]!r}, comes after {names[before]!r}; the order is left, then right hemisphere, "
                f"{NETWORKS_17[0]} to {NETWORKS_17[-1]} in each. Use the 17-network label file and its order"
            )


def _read_name(name: str) -> _Region | None:
    if match := TIAN.fullmatch(name):
        return _Region("subcortical", "rl".index(match["side"][0].lower()), match["stem"].lower())
    if not (match := SCHAEFER.fullmatch(name)):
        return None
    side = "lr".index(match["side"][0].lower())
    if match["n"] == "7" or (match["n"] is None and match["network"] in NETWORKS_7):
        return _Region("7 networks", side, match["network"])
    return _Region("17 networks", side, match["network"]) if match["network"] in NETWORKS_17 else None


def _pair_correlation(rows: NDArray[np.float64]) -> float:
    """Return the mean Pearson correlation over components of rows i and i + 25; a flat row counts as 0."""
    centred = rows - rows.mean(axis=1, keepdims=True)
    right, left = np.split(centred, 2)
    scale = np.sqrt((right**2).sum(axis=1) * (left**2).sum(axis=1))
    return float(np.divide((right * left).sum(axis=1), scale, out=np.zeros_like(scale), where=scale > 0).mean())

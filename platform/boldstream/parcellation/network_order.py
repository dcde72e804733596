"""Whether Schaefer's regions are in the order of 7 or of 17 networks: what their names and places tell."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from boldstream.errors import AtlasError
from boldstream.parcellation.atlas import Atlas
from boldstream.parcellation.roi_order import NETWORKS_7, NETWORKS_17, SCHAEFER

if TYPE_CHECKING:
    from boldstream.parcellation.label_volume import LabelVolume

N_MEASURED = 400
"""Number of cortical parcels for which `WIDEST_MM` was measured."""

WIDEST_MM = 15.5
"""Largest mean distance of parcels from the centre of those with the same 17-network name but for the number
(``…_DefaultA_PFCm_1`` and ``_2``). Schaefer-400 in MNI152NLin6Asym: 12.0 mm; the same names on the parcels of the
7-network order 18.9 mm, on those of the inverse permutation 31.3 mm."""


@dataclass(frozen=True)
class _Cortical:
    """What a cortical region's name tells."""

    networks: Literal[7, 17]
    side: str
    family: str | None
    component: str


def network_order(atlas: Atlas) -> Literal[7, 17] | None:
    """Return of which parcellation, 7 or 17 networks, Schaefer's names in an atlas are; None if there are none.

    Raises
    ------
    AtlasError
        If names of both stand together.
    """
    found: dict[Literal[7, 17], str] = {}
    for name in atlas.roi_names:
        if region := _read_name(name):
            found.setdefault(region.networks, name)
    if len(found) > 1:
        raise AtlasError(
            f"atlas {atlas.name!r}: names of 7 networks ({found[7]!r}) and of 17 ({found[17]!r}) stand together"
        )
    return next(iter(found), None)


def check_networks_kept(source: Atlas, target: Atlas, order: NDArray[np.int64]) -> None:
    """Refuse a permutation that its regions' names contradict.

    A region stays in its hemisphere, a region whose name is in both atlases is the same, and more regions stay in their
    network than with the inverse permutation: 7 and 17 networks agree for 86 % of Schaefer-400, for 53 % with the
    inverse.

    Raises
    ------
    AtlasError
    """
    begin = f"order of {target.name!r} from {source.name!r}"
    ours, theirs = ([_read_name(name) for name in atlas.roi_names] for atlas in (source, target))
    known = set(source.roi_names)
    for j, name in enumerate(target.roi_names):
        before, after, old = ours[order[j]], theirs[j], source.roi_names[order[j]]
        if name in known and name != old:
            raise AtlasError(f"{begin}: makes {old!r} region {j + 1}, {name!r}, which the source has elsewhere")
        if (before is None) != (after is None) or (before and after and before.side != after.side):
            raise AtlasError(f"{begin}: makes {old!r} region {j + 1}, {name!r}: not the same part of the brain")
    kept, inverse = (_kept(ours, theirs, way) for way in (order, np.argsort(order)))
    if inverse > kept:
        raise AtlasError(
            f"{begin}: only {kept:.0%} of the regions stay in their network, {inverse:.0%} with the inverse: the "
            "permutation is turned round. Entry j has to be the source's row that becomes row j; give numpy.argsort "
            "of it"
        )


def component_spread(volume: "LabelVolume") -> float | None:
    """Return how far, on average, parcels lie from the centre of those whose names differ in the last number only.

    Returns
    -------
    float or None
        In mm; None if no two cortical regions have such names.
    """
    regions = [_read_name(name) for name in volume.atlas.roi_names]
    groups: dict[str, list[int]] = {}
    for row, region in enumerate(regions):
        if region:
            groups.setdefault(region.component, []).append(row)
    centres = _centres(volume)
    spreads = [
        float(np.linalg.norm(centres[rows] - centres[rows].mean(axis=0), axis=1).mean())
        for rows in groups.values()
        if len(rows) > 1
    ]
    return float(np.mean(spreads)) if spreads else None


def check_places(volume: "LabelVolume", where: str) -> None:
    """Refuse 17-network names on parcels that lie elsewhere, such as those of the 7-network order.

    Other numbers of parcels than 400 are not checked.

    Raises
    ------
    AtlasError
    """
    cortical = [region for name in volume.atlas.roi_names if (region := _read_name(name))]
    spread = component_spread(volume)
    if len(cortical) == N_MEASURED and spread is not None and spread > WIDEST_MM:
        raise AtlasError(
            f"{where}: parcels of one name, but for the number, lie {spread:.1f} mm from their centre (12.0 mm in the "
            "17-network order, 18.9 mm where its names are given to parcels of the 7-network order): the names are not "
            "those of the image. Give the label table that was published with the image, or the right permutation"
        )


def _centres(volume: "LabelVolume") -> NDArray[np.float64]:
    """Return every region's centre of mass, shape (n_rois, 3), in mm."""
    flat = volume.data.ravel()
    at = np.flatnonzero(flat)
    labels = flat[at]
    size = np.maximum(np.bincount(labels), 1)
    means = [np.bincount(labels, axis) / size for axis in np.unravel_index(at, volume.data.shape)]
    voxels = np.stack(means, axis=1)[list(volume.labels)]
    return voxels @ volume.affine[:3, :3].T + volume.affine[:3, 3]


def _kept(ours: list[_Cortical | None], theirs: list[_Cortical | None], order: NDArray[np.int64]) -> float:
    """Return the share of regions that stay in their network, of those whose network is in both parcellations."""
    pairs = [(ours[i], after) for i, after in zip(order, theirs, strict=True)]
    same = [a.family == b.family for a, b in pairs if a and b and a.family and b.family]
    return float(np.mean(same)) if same else 0.0


def _read_name(name: str) -> _Cortical | None:
    match = SCHAEFER.fullmatch(name)
    if match is None:
        return None
    network, number = match["network"], match["n"]
    if number is None:
        number = "7" if network in NETWORKS_7 else "17" if network in NETWORKS_17 else None
        if number is None:
            return None
    family = next((seven for seven in NETWORKS_7 if network.startswith(seven)), None)
    return _Cortical(7 if number == "7" else 17, match["side"].upper(), family, name.rpartition("_")[0])

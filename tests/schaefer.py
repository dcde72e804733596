"""Atlases laid out like Schaefer's in the orders of 7 and 17 networks, made by the tests: bricks for parcels."""

from functools import cache
from pathlib import Path

import nibabel
import numpy as np

from boldstream.parcellation.atlas import Atlas
from boldstream.parcellation.label_volume import LabelVolume
from boldstream.parcellation.roi_order import NETWORKS_17

SEVEN = ("Vis", "SomMot", "DorsAttn", "SalVentAttn", "Limbic", "Cont", "Default")
AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])
TIAN = tuple(f"THA-{i:02d}-{side}" for side in ("rh", "lh") for i in range(25))


def names_17(n=400):
    """Return names in 17-network order, left before right, networks as even as can be."""
    half = n // 2
    counts = [half // 17 + (k < half % 17) for k in range(17)]
    return tuple(
        f"17Networks_{side}_{network}_{i + 1}"
        for side in ("LH", "RH")
        for network, count in zip(NETWORKS_17, counts, strict=True)
        for i in range(count)
    )


def order_17(n=400, seed=0):
    """Return a permutation: row order[j] of the 7-network order is row j of the 17-network order."""
    rng = np.random.default_rng(seed)
    keys = [(side, SEVEN.index(family), rng.random()) for side, family in _places(n, seed)]
    order = np.empty(n, dtype=np.int64)
    order[sorted(range(n), key=keys.__getitem__)] = np.arange(n)
    return order


def names_7(n=400, seed=0):
    """Return the names in 7-network order of the parcels that `order_17` permutes."""
    places = [_places(n, seed)[j] for j in np.argsort(order_17(n, seed))]
    return tuple(f"7Networks_{'LR'[side]}H_{family}_{i}" for i, (side, family) in enumerate(places, 1))


def bricks(n, start=1):
    """Return labels from `start`, 8 voxels each, in a volume with background on all sides."""
    labels = np.zeros(8 * 8 * (n // 64 + 1), dtype=np.int32)
    labels[:n] = np.arange(start, start + n)
    return np.pad(np.kron(labels.reshape(8, 8, -1), np.ones((2, 2, 2), dtype=np.int32)), 1)


def renumbered(data, numbers):
    """Return data with label i + 1 replaced by numbers[i]; 0 stays."""
    return np.concatenate([[0], numbers]).astype(np.int32)[data]


def in_7(n=400, before=0):
    """Return the parcels of `bricks` with the labels of the 7-network order, regions `before` them first."""
    return renumbered(bricks(before + n), [*range(1, before + 1), *(order_17(n) + before + 1)])


def volume(data, names, affine=AFFINE, name="a"):
    """Return an atlas with labels 1, 2, …."""
    return LabelVolume(Atlas(name, tuple(names)), tuple(range(1, len(names) + 1)), data, np.asarray(affine))


def write(path, data, affine=AFFINE):
    """Write an image of labels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.Nifti1Image(data, affine, dtype=data.dtype).to_filename(path)
    return path


def write_names(path, names):
    """Write a label table: a name a line in a .txt file, index and name in another."""
    lines = names if path.suffix == ".txt" else ["index,name", *(f"{i},{name}" for i, name in enumerate(names, 1))]
    path.write_text("\n".join(lines) + "\n")
    return path


def cached_schaefer(folder, n, networks):
    """Lay out a Schaefer atlas as nilearn leaves it in its cache."""
    stem = folder / f"schaefer_2018/Schaefer2018_{n}Parcels_{networks}Networks_order"
    write(Path(f"{stem}_FSLMNI152_2mm.nii.gz"), bricks(n) if networks == 17 else in_7(n))
    names = names_17(n) if networks == 17 else names_7(n)
    lines = [f"{i}\t{name}\t1\t2\t3\t0" for i, name in enumerate(names, 1)]
    Path(f"{stem}.txt").write_text("\n".join(lines))
    return str(folder)


@cache
def _places(n, seed):
    """Return hemisphere and 7-network family of parcels in 17-network order; 1 of 7 is in another, as in fact."""
    rng = np.random.default_rng([seed, n])
    found = []
    for name in names_17(n):
        _, side, network, _ = name.split("_")
        family = next((seven for seven in SEVEN if network.startswith(seven)), "Default")
        found.append(("LR".index(side[0]), str(rng.choice(SEVEN)) if rng.random() < 1 / 7 else family))
    return found

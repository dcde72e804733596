"""Volume atlases that nilearn downloads, or has downloaded before."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from boldstream.errors import AtlasError
from boldstream.parcellation.label_table import table_of
from boldstream.parcellation.label_volume import LabelVolume, label_volume, read_image

SCHAEFER_NAME = re.compile(r"schaefer(?P<n>[1-9]00|1000)_(?P<networks>7|17)n")

CRADDOCK_VOLUMES = {"cc200": 19, "cc400": 31}
"""Which volume of the two-level temporal clustering the Preprocessed Connectomes Project calls CC200 and CC400, from 0
(the AFNI history in its files' headers)."""


def fetch_schaefer(name: str, cache: str | None) -> LabelVolume:
    """Fetch ``schaefer<N>_7n`` or ``schaefer<N>_17n``, in 2 mm: the grid of the volumes joined with Tian's atlas."""
    from nilearn.datasets import fetch_atlas_schaefer_2018

    if not (match := SCHAEFER_NAME.fullmatch(name)):
        raise AtlasError(f"atlas {name!r} is none of schaefer<100-1000>_7n and schaefer<100-1000>_17n")
    found = fetch_atlas_schaefer_2018(int(match["n"]), int(match["networks"]), 2, data_dir=cache or None, verbose=0)
    return _named(found, name, "MNI152NLin6Asym")


def fetch_aal(name: str, cache: str | None) -> LabelVolume:
    """Fetch ``aal`` (as for SPM12, 116 regions) or ``aal3`` (version 3v2)."""
    from nilearn.datasets import fetch_atlas_aal

    version = "SPM12" if name == "aal" else "3v2"
    return _named(fetch_atlas_aal(version, data_dir=cache or None, verbose=0), name, "MNIColin27")


def fetch_harvard_oxford(name: str, cache: str | None) -> LabelVolume:
    """Fetch Harvard-Oxford's cortex, 48 regions a hemisphere, likeliest region from 25 % on, in 2 mm."""
    from nilearn.datasets import fetch_atlas_harvard_oxford

    found = fetch_atlas_harvard_oxford("cortl-maxprob-thr25-2mm", data_dir=cache or None, verbose=0)
    return _named(found, name, "MNI152NLin6Asym")


def fetch_craddock(name: str, cache: str | None) -> LabelVolume:
    """Fetch ``cc200`` or ``cc400``: one volume of a stack of clusterings, without region names."""
    from nilearn.datasets import fetch_atlas_craddock_2012

    found = fetch_atlas_craddock_2012(data_dir=cache or None, verbose=0, homogeneity="temporal", grp_mean=False)
    values, affine = read_image(Path(found.maps))
    at = CRADDOCK_VOLUMES[name]
    if values.ndim != 4 or values.shape[3] <= at:
        raise AtlasError(f"{found.maps}: has shape {values.shape} and no volume {at}, which is {name}")
    return label_volume(values[..., at], affine, name=name, table=None, where=str(found.maps))


def _named(found: Any, name: str, space: str) -> LabelVolume:
    """Return what nilearn fetched, with the names of its lookup table."""
    if isinstance(found.maps, (str, Path)):
        values, affine = read_image(Path(found.maps))
    else:
        values, affine = np.asanyarray(found.maps.dataobj), found.maps.affine
    where = f"atlas {name!r} as nilearn fetched it"
    entries = [(str(index), str(text)) for index, text in zip(found.lut["index"], found.lut["name"], strict=True)]
    table = table_of(entries, where=f"{where}, lookup table")
    return label_volume(values, affine, name=name, table=table, where=where, space=space)

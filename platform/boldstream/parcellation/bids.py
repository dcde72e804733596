"""BIDS file names taken apart: entities, suffix, extension."""

import re
from typing import NamedTuple

NAME = re.compile(
    r"(?P<entities>[a-zA-Z0-9]+-[^_/]+(?:_[a-zA-Z0-9]+-[^_/]+)*)_(?P<suffix>[a-zA-Z0-9]+)(?P<extension>\.[^_/]+)"
)
PAIR = re.compile(r"([a-zA-Z0-9]+)-([^_]+)(?:_|$)")
FOLDERS = re.compile(r"(?:^|/)(sub|ses)-([^_/]+)(?=/)")

DERIVED = frozenset(
    {"space", "cohort", "res", "den", "desc", "atlas", "seg", "scale", "stat", "hemi", "label", "from", "to", "mode"}
)
"""Entities that tell apart what was made of one scan, not scans."""

LONG_NAMES = {
    "sub": "subject", "ses": "session", "acq": "acquisition", "ce": "contrast", "dir": "direction",
    "rec": "reconstruction", "res": "resolution", "den": "density", "atlas": "segmentation", "seg": "segmentation",
    "stat": "statistic", "desc": "description", "hemi": "hemisphere",
}  # fmt: skip
"""Entities that BIDS writes short; an entity that is not here is called as it is written."""


class BidsName(NamedTuple):
    """What a file's name tells.

    Attributes
    ----------
    path : str
        As it was given.
    entities : dict of str
        Labels by key as written (``{"sub": "01", "task": "rest"}``), in the name's order. ``sub`` and ``ses`` are taken
        from the folders where the name leaves them out.
    suffix : str
        ``bold``, ``timeseries``, …
    extension : str
        All from the first dot of the last part: ``.nii.gz``, ``.ptseries.nii``, …
    """

    path: str
    entities: dict[str, str]
    suffix: str
    extension: str

    @property
    def folder(self) -> str:
        """The path without the name; empty for a file at the root."""
        return self.path.rpartition("/")[0]

    def scan(self) -> tuple[tuple[str, str], ...]:
        """Return the entities that name the scan, sorted: all but `DERIVED`."""
        return tuple(sorted(item for item in self.entities.items() if item[0] not in DERIVED))

    def fields(self) -> dict[str, str]:
        """Return the entities by their long names (``subject``, ``session``, ``task``, …).

        ``segmentation`` is the label of ``seg-``, or of ``atlas-`` where there is no ``seg-``.
        """
        fields = {LONG_NAMES.get(key, key): label for key, label in self.entities.items()}
        if "seg" in self.entities:
            fields["segmentation"] = self.entities["seg"]
        return fields

    def contradiction(self) -> str | None:
        """Say where a folder names another subject or session than the file; None where they agree."""
        for key, label in FOLDERS.findall(self.path):
            if self.entities[key] != label:
                return f"lies in {key}-{label} and is named {key}-{self.entities[key]}"
        return None


def parse_name(path: str) -> BidsName | None:
    """Take a file's name apart; None if it is no BIDS name.

    Parameters
    ----------
    path : str
        A name, or a path with slashes.

    Notes
    -----
    More is taken than BIDS allows: any key, and labels with any character but ``_`` and ``/``. A key that stands twice
    makes no name. See https://bids-specification.readthedocs.io, "Filenames".
    """
    match = NAME.fullmatch(path, path.rfind("/") + 1)
    if match is None:
        return None
    pairs = PAIR.findall(match["entities"])
    entities: dict[str, str] = dict(pairs)
    if len(entities) < len(pairs):
        return None
    if "sub" not in entities or ("ses" not in entities and "ses-" in path):
        for key, label in FOLDERS.findall(path):
            entities.setdefault(key, label)
    return BidsName(path, entities, match["suffix"], match["extension"])

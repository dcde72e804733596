"""Atlases as ordered region names: what a cohort, a gradient and a model must agree on."""

import csv
from dataclasses import dataclass
from pathlib import Path

from boldstream.errors import AtlasError, few_of

SHOWN = 3
DELIMITERS = {".txt": None, ".csv": ",", ".tsv": "\t"}

# index names only: Craddock's clusters have no names, and AAL2's are not ours to give out
NUMBERED = {"cc200": ("CC200", 200), "aal2_94": ("AAL2", 94)}


@dataclass(frozen=True)
class Atlas:
    """An ordered set of regions.

    Attributes
    ----------
    name : str
        Name of the atlas.
    roi_names : tuple of str
        Regions in order; non-empty, each once.

    Raises
    ------
    AtlasError
        If there is no region, or a name is empty or stands twice.
    """

    name: str
    roi_names: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.roi_names:
            raise AtlasError(f"atlas {self.name!r} has no regions")
        seen: dict[str, int] = {}
        for position, roi in enumerate(self.roi_names, start=1):
            if not roi.strip():
                raise AtlasError(f"atlas {self.name!r}: region {position} has an empty name")
            if roi in seen:
                raise AtlasError(
                    f"atlas {self.name!r}: region {roi!r} stands twice, at {seen[roi]} and {position}; "
                    "names must differ"
                )
            seen[roi] = position

    @property
    def n_rois(self) -> int:
        """Number of regions."""
        return len(self.roi_names)


def check_same(found: Atlas, expected: Atlas, *, where: str, other: str) -> None:
    """Refuse to go on unless both atlases have the same region names in the same order.

    The atlases' own names may differ: what counts is which region is where.

    Parameters
    ----------
    found, expected : Atlas
    where, other : str
        Whose atlases these are, for the message (``cohort 'abide@3'``, ``model 'brainjepa@champion'``).

    Raises
    ------
    AtlasError
        Saying whether the number, the order or the names differ, and where.
    """
    if found.roi_names == expected.roi_names:
        return
    begin = (
        f"{where} has atlas {found.name!r} ({found.n_rois} regions) but {other} expects "
        f"{expected.name!r} ({expected.n_rois})"
    )
    if set(found.roi_names) == set(expected.roi_names):
        position, ours, theirs = next(
            (i, a, b)
            for i, (a, b) in enumerate(zip(found.roi_names, expected.roi_names, strict=True), start=1)
            if a != b
        )
        raise AtlasError(
            f"{begin}: same regions, other order; first at region {position}, {ours!r} instead of "
            f"{theirs!r}. Ingest again with the regions in the expected order"
        )
    missing = [name for name in expected.roi_names if name not in set(found.roi_names)]
    extra = [name for name in found.roi_names if name not in set(expected.roi_names)]
    parts = [f"{what} {_listed(names)}" for what, names in (("missing", missing), ("extra", extra)) if names]
    kind = "other names" if found.n_rois == expected.n_rois else "another number of regions"
    raise AtlasError(f"{begin}: {kind}, {'; '.join(parts)}. Ingest again with the expected atlas")


def numbered_atlas(name: str) -> Atlas:
    """Return an atlas that boldstream knows by number only.

    The names are indices in the atlas' own order (``CC200-001`` … ``CC200-200``, ``AAL2-01`` … ``AAL2-94``),
    not anatomy.

    Parameters
    ----------
    name : {"cc200", "aal2_94"}
        Craddock's 200 clusters, or the 94 regions of AAL2 above the cerebellum.

    Raises
    ------
    AtlasError
        If the name is unknown.
    """
    if name not in NUMBERED:
        raise AtlasError(
            f"atlas {name!r} is unknown; known: {', '.join(sorted(NUMBERED))}, or give a file of region names"
        )
    prefix, count = NUMBERED[name]
    digits = len(str(count))
    return Atlas(name=name, roi_names=tuple(f"{prefix}-{i:0{digits}d}" for i in range(1, count + 1)))


def read_atlas(path: str | Path, *, name: str | None = None) -> Atlas:
    """Read region names from a file.

    ``.txt`` holds one name a line. ``.csv`` and ``.tsv`` hold a name, or an index and a name, a line; a first
    line ``name`` or ``index,name`` is a header; indices must count up by one from 0 or 1.

    Parameters
    ----------
    path : path
    name : str, optional
        Name of the atlas; the file's stem by default.

    Raises
    ------
    AtlasError
        If the file is missing or of another kind, or names are missing, empty or double, or indices jump.
    """
    path = Path(path)
    lines = read_lines(path)
    delimiter = DELIMITERS[path.suffix]
    rows = [[line] for line in lines] if delimiter is None else list(csv.reader(lines, delimiter=delimiter))
    rows = [[cell.strip() for cell in row] or [""] for row in rows]
    if rows and [cell.lower() for cell in rows[0]] in (["name"], ["index", "name"]):
        rows = rows[1:]
    try:
        return Atlas(name=name or path.stem, roi_names=tuple(_names(rows, path)))
    except AtlasError as error:
        raise AtlasError(str(error) if str(path) in str(error) else f"{path}: {error}") from None


def read_lines(path: Path) -> list[str]:
    """Return the lines of a file of region names, without empty ones at the end.

    Raises
    ------
    AtlasError
        If the file is of another kind than .txt, .csv and .tsv, or cannot be read.
    """
    if path.suffix not in DELIMITERS:
        raise AtlasError(f"{path}: region names come in .txt, .csv or .tsv files, not {path.suffix!r}")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise AtlasError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise AtlasError(f"{path}: is not UTF-8 text") from None
    while lines and not lines[-1].strip():
        lines.pop()
    return lines


def _names(rows: list[list[str]], path: Path) -> list[str]:
    """Return the last column, after a look at the indices if there are any."""
    widths = {len(row) for row in rows}
    if not widths <= {1} and not widths <= {2}:
        raise AtlasError(f"{path}: lines have {sorted(widths)} columns; give a name, or an index and a name, a line")
    if widths == {2}:
        indices = [row[0] for row in rows]
        counts = [[str(i) for i in range(first, first + len(rows))] for first in (0, 1)]
        if indices not in counts:
            raise AtlasError(f"{path}: indices do not count up by one from 0 or 1 ({_listed(indices)}, …)")
    return [row[-1] for row in rows]


def _listed(names: list[str]) -> str:
    return few_of([repr(name) for name in names], SHOWN)

"""Tables that name the labels of a volume atlas, as its publishers and BIDS write them."""

import csv
import re
from dataclasses import dataclass
from pathlib import Path

from boldstream.errors import AtlasError
from boldstream.parcellation.atlas import DELIMITERS, read_lines

COLOURED = re.compile(r"\s*(?P<label>\d+)\s+(?P<name>\S+)(?:\s+\d+){3,4}\s*")
"""Lookup table of FreeSurfer and of Schaefer's publishers: label, name, red, green, blue, perhaps alpha."""

WORKBENCH_COLOUR = re.compile(r"\s*(?P<label>\d+)(?:\s+\d+){4}\s*")
"""Second line of an entry of Connectome Workbench's label lists: label, red, green, blue, alpha. The first is the name.
"""


@dataclass(frozen=True)
class LabelTable:
    """Names of an atlas's labels.

    Attributes
    ----------
    names : tuple of str
        In ascending order of their labels, background left out.
    labels : tuple of int or None
        None where the file has names alone: they are in the order of the image's labels.
    where : str
        Whose table it is, for messages.
    """

    names: tuple[str, ...]
    labels: tuple[int, ...] | None
    where: str


def read_label_table(path: str | Path) -> LabelTable:
    """Read the names of an atlas's labels.

    ``.tsv`` and ``.csv`` have the columns ``index`` and ``name`` (BIDS), ``index`` and ``label``, or ``label`` and
    ``name`` under a header, in any order and among others, or an index and a name without a header, or names alone.
    ``.txt`` has one name a line (FSL, Tian), or a label, a name and a colour a line (FreeSurfer, Schaefer), or a name
    on one line and its label and colour on the next (Connectome Workbench). Label 0 is background and left out.

    Parameters
    ----------
    path : path

    Raises
    ------
    AtlasError
        If the file cannot be read, names no region, or has a label twice or one that is no whole number.
    """
    path = Path(path)
    lines = read_lines(path)
    delimiter = DELIMITERS[path.suffix]
    if delimiter is None:
        entries, names = _read_text(lines)
    else:
        rows = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=delimiter)]
        entries, names = _read_table(rows, path)
    if entries is None:
        if not names:
            raise AtlasError(f"{path}: names no region")
        return LabelTable(tuple(names), None, str(path))
    return table_of(entries, where=str(path))


def table_of(entries: list[tuple[str, str]], *, where: str) -> LabelTable:
    """Return the table of labels, as text, and their names.

    Raises
    ------
    AtlasError
        If there is no region, or a label stands twice or is no whole number.
    """
    found: dict[int, str] = {}
    for text, name in entries:
        if not re.fullmatch(r"\d+", text):
            raise AtlasError(f"{where}: index {text!r} of region {name!r} is no whole number")
        if int(text) in found:
            raise AtlasError(f"{where}: index {text} stands twice, for {found[int(text)]!r} and {name!r}")
        found[int(text)] = name
    found.pop(0, None)
    if not found:
        raise AtlasError(f"{where}: names no region")
    labels = tuple(sorted(found))
    return LabelTable(tuple(found[label] for label in labels), labels, where)


def _read_text(lines: list[str]) -> tuple[list[tuple[str, str]] | None, list[str]]:
    """Return labels with names, or names alone, of a text file without columns' names."""
    second = [WORKBENCH_COLOUR.fullmatch(line) for line in lines[1::2]]
    if second and len(lines) % 2 == 0 and all(second):
        matches = zip(lines[::2], second, strict=True)
        return [(match["label"], name.strip()) for name, match in matches if match], []
    coloured = [COLOURED.fullmatch(line) for line in lines if line.strip() and not line.startswith("#")]
    if coloured and all(coloured):
        return [(match["label"], match["name"]) for match in coloured if match], []
    return None, [line.strip() for line in lines]


def _read_table(rows: list[list[str]], path: Path) -> tuple[list[tuple[str, str]] | None, list[str]]:
    """Return labels with names, or names alone, of a table with columns."""
    header = [cell.lower() for cell in rows[0]] if rows else []
    widths = {len(row) for row in rows}
    if len(widths) > 1:
        raise AtlasError(f"{path}: lines have {sorted(widths)} columns; give as many in each")
    for index, name in (("index", "name"), ("index", "label"), ("label", "name")):
        if index in header and name in header:
            at, named = header.index(index), header.index(name)
            return [(row[at], row[named]) for row in rows[1:]], []
    if widths == {1}:
        return None, [row[0] for row in (rows[1:] if header[0] in ("name", "label") else rows)]
    if widths == {2}:
        return [(row[0], row[1]) for row in rows], []
    raise AtlasError(f"{path}: has no columns 'index' and 'name' (columns: {', '.join(header)})")

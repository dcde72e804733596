"""What has changed in a table since an earlier version, and whether new people's vectors are like those known."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from boldstream.analysis.drift import FEWEST, Drift, drift
from boldstream.artifacts.embeddings import EmbeddingTable, open_table
from boldstream.drawing import COLOURS, MUTED, OPEN_AXES, REST, STYLE, png
from boldstream.report.measure import principal_components
from boldstream.table_diff import Diff, compare_versions, read_vectors

ALARM = 0.01
"""False alarms that the drift test is allowed, as the nightly gate's default."""


@dataclass(frozen=True)
class Change:
    """One table against an earlier version of it.

    Attributes
    ----------
    name : str
        The table's in the report.
    diff : Diff
    drift : Drift or None
        Of new rows against those that were there before; None where it cannot be tested.
    untested : str
        Why it cannot be.
    known, new : array, shape (n, 2)
        First two components of both, for the picture; empty where nothing was tested.
    """

    name: str
    diff: Diff
    drift: Drift | None
    untested: str
    known: NDArray[np.float64]
    new: NDArray[np.float64]


def find_changes(
    tables: Mapping[str, EmbeddingTable], earlier: Mapping[str, str], warehouse: str, *, max_scans: int, seed: int
) -> list[Change]:
    """Compare every table that has an earlier version with it.

    Parameters
    ----------
    tables : mapping of str to EmbeddingTable
    earlier : mapping of str to str
        By table, the version to compare with; where none is named it is the one before, if that is still there.
    warehouse : str
    max_scans, seed : int
        So many rows are compared at most, drawn with this seed.

    Raises
    ------
    EmbeddingsError
        If a version that is named is not there.
    """
    found = []
    for name, table in tables.items():
        pointer = earlier.get(name) or _before(table)
        if pointer is None:
            continue
        before = open_table(pointer, warehouse)
        found.append(_change(name, before, table, max_scans, seed))
    return found


def _before(table: EmbeddingTable) -> str | None:
    """Return the pointer of the version before a table's, None if there is none any more."""
    older = [version for version in table.table.versions if int(version) < int(table.manifest.version)]
    return f"{table.ref.uri}@{older[-1]}" if older else None


def _change(name: str, before: EmbeddingTable, now: EmbeddingTable, max_scans: int, seed: int) -> Change:
    diff = compare_versions(before, now, max_scans=max_scans, seed=seed)
    nothing = np.empty((0, 2))
    if diff.is_other_model:
        return Change(name, diff, None, "another model's vectors have other axes", nothing, nothing)
    # a changed row is new too: its scan is another one than before
    rows = now.rows().set_index("row_key")
    came = sorted({*diff.added, *diff.changed})
    stayed = rows.index.difference(came)
    if not came:
        return Change(name, diff, None, "no vector is new", nothing, nothing)
    rng = np.random.default_rng(seed)
    drawn = [_draw(rng, keys, max_scans) for keys in (list(stayed), came)]
    vectors = [read_vectors(now, keys) for keys in drawn]
    subjects = [rows.loc[keys, "subject"].tolist() for keys in drawn]
    n_known, n_new = (len(set(one)) for one in subjects)
    if min(n_known, n_new) < FEWEST:
        reason = f"{n_new} new subjects and {n_known} known ones are too few; {FEWEST} of each are needed"
        return Change(name, diff, None, reason, nothing, nothing)
    known, new = (np.stack([v[key] for key in keys]) for v, keys in zip(vectors, drawn, strict=True))
    tested = drift(known, new, known_subjects=subjects[0], new_subjects=subjects[1], seed=seed)
    scores, _ = principal_components(np.concatenate([known, new]).astype(np.float64))
    return Change(name, diff, tested, "", scores[: len(known)], scores[len(known) :])


def _draw(rng: np.random.Generator, keys: list[str], most: int) -> list[str]:
    return keys if len(keys) <= most else [keys[i] for i in np.sort(rng.choice(len(keys), most, replace=False))]


def sentences_of(change: Change) -> list[str]:
    """Say what came and went, and whether new vectors are like the known ones."""
    diff = change.diff
    told = [
        f"{diff.second.label} against {diff.first.label}: {len(diff.added)} vectors came, {len(diff.removed)} went, "
        f"{len(diff.changed)} are other than before, {diff.n_same} are the same bit by bit."
    ]
    if diff.made_otherwise:
        told.append(f"They were made otherwise: {'; '.join(diff.made_otherwise)}.")
    if diff.geometry is not None and diff.changed:
        geometry = diff.geometry
        told.append(
            f"Of the {geometry.n} rows in both, linear CKA is {geometry.cka:.3f} (unrelated: "
            f"{geometry.cka_chance:.3f})."
        )
    if change.drift is None:
        told.append(f"Drift was not tested: {change.untested}.")
    elif change.drift.p_value <= ALARM:
        told.append(
            f"The vectors of {change.drift.n_new} new subjects differ from those of {change.drift.n_known} known ones: "
            f"{change.drift.where} by {change.drift.largest:.2f} SD (p = {change.drift.p_value:.3f} over all "
            "dimensions)."
        )
    else:
        told.append(
            f"The vectors of {change.drift.n_new} new subjects are not told from those of {change.drift.n_known} known "
            f"ones (p = {change.drift.p_value:.3f} over all dimensions; the largest difference is "
            f"{change.drift.largest:.2f} SD)."
        )
    return told


def numbers_of_changes(changes: list[Change]) -> dict[str, Any]:
    """Return what the page shows, as JSON types."""
    return {
        one.name: {
            "first": one.diff.first.ref.pointer,
            "second": one.diff.second.ref.pointer,
            "sentences": sentences_of(one),
            "added": len(one.diff.added),
            "removed": len(one.diff.removed),
            "changed": len(one.diff.changed),
            "same": one.diff.n_same,
            "drift": None
            if one.drift is None
            else {
                "p_value": one.drift.p_value,
                "largest": one.drift.largest,
                "where": one.drift.where,
                "n_known": one.drift.n_known,
                "n_new": one.drift.n_new,
            },
            "not_tested": one.untested or None,
        }
        for one in changes
    }


@mpl.rc_context(STYLE | OPEN_AXES)
def draw_changes(changes: list[Change]) -> bytes:
    """Draw known and new vectors on a map, and the shift of every dimension, a row a table that was tested."""
    figure = Figure(figsize=(10, 3.1 * len(changes)), layout="constrained")
    axes = figure.subplots(len(changes), 2, squeeze=False, gridspec_kw={"width_ratios": [1, 1.5]})
    for (left, right), one in zip(axes, changes, strict=True):
        assert one.drift is not None
        left.scatter(*one.known.T, s=11, color=REST, linewidths=0, label=f"known ({one.drift.n_known} subjects)")
        left.scatter(*one.new.T, s=13, color=COLOURS[1], linewidths=0, label=f"new ({one.drift.n_new})")
        left.set_title(f"{one.diff.second.label}: vectors")
        left.set_xlabel("PC 1")
        left.set_ylabel("PC 2")
        left.set_xticks([])
        left.set_yticks([])
        left.legend()
        shift = one.drift.shift[:-1]
        right.bar(range(len(shift)), shift, width=1.0, color=COLOURS[0])
        right.axhline(0, color=MUTED, linewidth=0.7)
        right.set_title("New against known, by dimension")
        right.set_xlabel("dimension")
        right.set_ylabel("difference of means (SD)")
    return png(figure)

"""Subjects seen twice: parts of one scan, and two scans of one subject."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from boldstream.tables.quality.sample import Sample

FEWEST_SUBJECTS = 3


@dataclass(frozen=True)
class Views:
    """The same subjects, seen several times.

    Attributes
    ----------
    name : str
        Ends the names of metrics: ``parts`` or ``scans``.
    title : str
        For people, e.g. ``2 parts of one scan``.
    vectors : array, shape (n_views, n_subjects, d)
    sites : array of str, shape (n_subjects,)
        Of the first view.
    """

    name: str
    title: str
    vectors: NDArray[np.float64]
    sites: NDArray[np.str_]

    @property
    def n_subjects(self) -> int:
        """Subjects."""
        return len(self.sites)

    def flat(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return all vectors in rows, and whose each is."""
        n_views, n_subjects, d = self.vectors.shape
        return self.vectors.reshape(-1, d), np.tile(np.arange(n_subjects), n_views)


def find_views(sample: Sample) -> tuple[list[Views], dict[str, str]]:
    """Return the ways in which subjects are seen twice, and why others are not there, by their names."""
    found, missing = [], {}
    for views, name, why in (
        (_parts(sample), "parts", "its scans are not cut into parts (embed with parts: 2)"),
        (_scans(sample), "scans", "hardly a subject has two scans"),
    ):
        if views is not None and views.n_subjects >= FEWEST_SUBJECTS:
            found.append(views)
        else:
            n = 0 if views is None else views.n_subjects
            missing[name] = f"{why}: {n} subjects are seen twice, at least {FEWEST_SUBJECTS} are needed"
    return found, missing


def _parts(sample: Sample) -> Views | None:
    """Return the parts of one scan a subject, the first by name of those that have all parts."""
    rows = sample.rows.sort_values(["scan_key", "part"])
    n_parts = int(rows["part"].max()) + 1
    whole = rows[rows.groupby("scan_key")["part"].transform("size") == n_parts]
    if n_parts < 2 or whole.empty:
        return None
    chosen = whole[whole["scan_key"] == whole.groupby("subject")["scan_key"].transform("min")]
    at = chosen.index.to_numpy().reshape(-1, n_parts)
    sites = sample.rows["site"].to_numpy(dtype=str)[at[:, 0]]
    return Views("parts", f"{n_parts} parts of one scan", sample.vectors[at.T], sites)


def _scans(sample: Sample) -> Views | None:
    """Return the first two scans, by name, of every subject that has two; parts of a scan are averaged."""
    rows = sample.rows
    scans, of = np.unique(rows["scan_key"].to_numpy(dtype=str), return_inverse=True)
    sums = np.zeros((len(scans), sample.vectors.shape[1]))
    np.add.at(sums, of, sample.vectors)
    means = sums / np.bincount(of)[:, None]
    first = rows.drop_duplicates("scan_key").set_index("scan_key").loc[scans]
    place = first.assign(at=np.arange(len(scans))).groupby("subject")["at"].agg(list)
    pairs = np.array([both[:2] for both in place if len(both) > 1], dtype=np.int64)
    if not len(pairs):
        return None
    return Views("scans", "2 scans of one subject", means[pairs.T], first["site"].to_numpy(dtype=str)[pairs[:, 0]])

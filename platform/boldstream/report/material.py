"""What a report is made of: the tables' rows that go together, their vectors, and the scans behind them."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from boldstream.artifacts.cohort import Cohort, iter_timeseries
from boldstream.artifacts.embeddings import EmbeddingTable, embedding_tables
from boldstream.artifacts.files import DataFile
from boldstream.errors import ConfigError, EmbeddingsError
from boldstream.parcellation.gradients import HIGHEST_R, functional_connectivity
from boldstream.storage import filesystem

CARPETS = 3
"""Scans that are drawn in full."""


@dataclass(frozen=True)
class Selection:
    """The scans of a report: one a subject, whole in every table.

    Attributes
    ----------
    rows : DataFrame
        Light columns of the chosen scans, one row a scan, indexed by ``scan_key``.
    n_parts : int
        Parts that every scan is cut in.
    n_subjects : int
        Subjects with at least one scan that is whole in every table; `rows` holds all of them or a random subset.
    n_further_scans : int
        Scans beyond the first one of their subject.
    n_left_out : dict of str to int
        By table: its scans that lack a part, or that another table or the cohort version does not have.
    """

    rows: pd.DataFrame
    n_parts: int
    n_subjects: int
    n_further_scans: int
    n_left_out: dict[str, int]

    @property
    def scans(self) -> list[str]:
        """Keys of the chosen scans."""
        return self.rows.index.tolist()

    @property
    def subjects(self) -> list[str]:
        """Their subjects, in the same order."""
        return self.rows["subject"].tolist()

    @property
    def is_subset(self) -> bool:
        """Whether there were more subjects than the report takes."""
        return len(self.rows) < self.n_subjects


@dataclass(frozen=True)
class Carpet:
    """One scan to be drawn.

    Attributes
    ----------
    scan_key : str
    timeseries : array, shape (n_timepoints, n_rois), float32
    t_r : float or None
        Repetition time, in seconds.
    bad_rois : tuple of str
    """

    scan_key: str
    timeseries: NDArray[np.float32]
    t_r: float | None
    bad_rois: tuple[str, ...]


@dataclass
class Connectivity:
    """Functional connectivity of the chosen scans' parts, and a few scans themselves.

    Attributes
    ----------
    vectors : array, shape (n_parts, n_scans, n_rois * (n_rois - 1) / 2), float32
        Fisher's z of Pearson's correlation of every pair of regions.
    carpets : list of Carpet
    """

    vectors: NDArray[np.float32]
    carpets: list[Carpet] = field(default_factory=list)


def check_tables(tables: Mapping[str, EmbeddingTable], cohort: Cohort) -> int:
    """Refuse tables of another cohort or tables cut in different parts; return the number of parts.

    Raises
    ------
    ConfigError
    """
    for name, table in tables.items():
        made_of = table.manifest.content["cohort"]
        if made_of != cohort.ref.uri:
            raise ConfigError(
                f"tables.{name}: {table.label!r} was made of cohort {made_of!r}, not of {cohort.ref.uri!r}; name "
                "tables of one cohort, or embed this one with jobs/embed.py"
            )
    parts = {name: int(table.manifest.content["parts"]) for name, table in tables.items()}
    if len(set(parts.values())) > 1:
        listed = ", ".join(f"{name}: {count}" for name, count in parts.items())
        raise ConfigError(f"tables: scans are cut in different numbers of parts ({listed}); embed with the same parts")
    return next(iter(parts.values()))


def select_scans(
    rows: Mapping[str, pd.DataFrame], cohort_keys: set[str], *, n_parts: int, max_scans: int, seed: int
) -> Selection:
    """Choose one scan a subject among those that are whole in every table and in the cohort.

    The subject's first scan by key is taken, so chance only enters where there are more than `max_scans` subjects.

    Raises
    ------
    EmbeddingsError
        If no scan is in all tables.
    """
    whole = {}
    for name, frame in rows.items():
        counts = frame["scan_key"].value_counts()
        whole[name] = set(counts.index[counts == n_parts]) & cohort_keys
    common = set.intersection(*whole.values())
    if not common:
        found = ", ".join(f"{name}: {len(keys)}" for name, keys in whole.items())
        raise EmbeddingsError(f"tables: no scan is in all of them and in the cohort (scans in each: {found})")
    lead = next(iter(rows.values())).drop_duplicates("scan_key").set_index("scan_key").sort_index()
    lead = lead.loc[sorted(common)]
    firsts = lead.drop_duplicates("subject").sort_values("subject")
    chosen = firsts
    if len(firsts) > max_scans:
        taken = np.random.default_rng(seed).choice(len(firsts), max_scans, replace=False)
        chosen = firsts.iloc[np.sort(taken)]
    return Selection(
        rows=chosen,
        n_parts=n_parts,
        n_subjects=len(firsts),
        n_further_scans=len(lead) - len(firsts),
        n_left_out={name: int(frame["scan_key"].nunique()) - len(common) for name, frame in rows.items()},
    )


def read_vectors(table: EmbeddingTable, selection: Selection) -> NDArray[np.float32]:
    """Return a table's vectors of the chosen scans, shape (n_parts, n_scans, n_dims)."""
    place = {key: i for i, key in enumerate(selection.scans)}
    found: dict[tuple[int, int], list[float]] = {}
    for rows in wanted_rows(table.files, ["scan_key", "part", "embedding"], selection.scans):
        for row in rows.to_pylist():
            found[row["part"], place[row["scan_key"]]] = row["embedding"]
    vectors = [[found[part, scan] for scan in range(len(place))] for part in range(selection.n_parts)]
    return np.asarray(vectors, dtype=np.float32)


def read_connectivity(cohort: Cohort, selection: Selection) -> Connectivity:
    """Read the chosen scans once, a file at a time, for their connectivity and for a few carpets.

    Parts are cut as the embed room cuts them, so connectivity and embeddings see the same timepoints.
    """
    place = {key: i for i, key in enumerate(selection.scans)}
    upper = np.triu_indices(len(cohort.roi_names), k=1)
    vectors = np.empty((selection.n_parts, len(place), len(upper[0])), dtype=np.float32)
    drawn = set(np.linspace(0, len(place) - 1, min(CARPETS, len(place))).round().astype(int).tolist())
    carpets = {}
    columns = ["scan_key", "timeseries", "n_timepoints", "n_rois", "t_r", "bad_rois"]
    for rows in wanted_rows(cohort.files, columns, selection.scans):
        light = rows.select(["scan_key", "t_r", "bad_rois"]).to_pylist()
        for row, timeseries in zip(light, iter_timeseries(rows), strict=True):
            scan = place[row["scan_key"]]
            for part, values in enumerate(np.array_split(timeseries, selection.n_parts)):
                fc = functional_connectivity(values)[upper]
                vectors[part, scan] = np.arctanh(np.clip(fc, -HIGHEST_R, HIGHEST_R))
            if scan in drawn:
                carpets[scan] = Carpet(row["scan_key"], timeseries.copy(), row["t_r"], tuple(row["bad_rois"]))
    return Connectivity(vectors, [carpets[scan] for scan in sorted(carpets)])


def quarantine_reasons(table: EmbeddingTable) -> dict[str, int]:
    """Count why scans have no vector in a table, most frequent reason first."""
    _, quarantine = embedding_tables(table.table.warehouse, table.table.name)
    if not quarantine.exists:
        return {}
    return dict(Counter(quarantine.column(["reason"])["reason"].to_pylist()).most_common())


def wanted_rows(files: Sequence[DataFile], columns: list[str], scans: list[str]) -> Iterator[pa.Table]:
    """Yield the rows of some scans, a file at a time."""
    wanted = pc.field("scan_key").isin(scans)
    for file in files:
        fs, path = filesystem(file.uri)
        yield pq.read_table(path, columns=columns, filters=wanted, filesystem=fs)

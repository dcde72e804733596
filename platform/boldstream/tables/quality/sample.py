"""The rows that are measured: all of a table, or those of subjects drawn at random."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from boldstream.analysis.splits import draw_subjects
from boldstream.errors import EmbeddingsError
from boldstream.table_diff import read_vectors
from boldstream.tables.find import Version

FEWEST = 4
"""Rows: with fewer there is no debiased CKA, and hardly a spectrum."""
LIGHT = ("row_key", "part", "scan_key", "subject", "site", "mean_fd")


@dataclass(frozen=True)
class Sample:
    """Rows of one version, with their vectors.

    Attributes
    ----------
    version : Version
    rows : DataFrame
        The columns of `LIGHT`, by key; ``site`` is ``""`` and ``mean_fd`` NaN where they are not known.
    vectors : array, shape (n, d), float64
        Of these rows, in their order.
    n_rows, n_subjects : int
        Of the whole version.
    n_drawn, n_broken : int
        Rows drawn; and those of them that are left out, because their vectors are not finite or all zero.
    """

    version: Version
    rows: pd.DataFrame
    vectors: NDArray[np.float64]
    n_rows: int
    n_subjects: int
    n_drawn: int
    n_broken: int

    @property
    def is_whole(self) -> bool:
        """Whether all rows were drawn."""
        return self.n_drawn == self.n_rows


def draw_sample(version: Version, most: int, seed: int) -> Sample:
    """Draw subjects, with all their rows, until `most` rows are reached, and read the vectors of these.

    Raises
    ------
    EmbeddingsError
        If fewer than four rows are left to be measured, or vectors differ in length.
    """
    rows: pd.DataFrame = version.table.column(LIGHT, version.manifest.version).to_pandas()
    rows = rows.sort_values("row_key", ignore_index=True)
    rows["site"] = rows["site"].fillna("").astype(str)
    rows["mean_fd"] = rows["mean_fd"].astype(np.float64)
    drawn: pd.DataFrame = rows.loc[rows["subject"].isin(draw_subjects(rows["subject"], most, seed))]
    found = read_vectors(version, set(drawn["row_key"]))
    widths = sorted({len(vector) for vector in found.values()})
    if len(widths) > 1:
        raise EmbeddingsError(f"table {version.label} has vectors of {widths} dimensions; it is not whole")
    vectors = np.array([found[key] for key in drawn["row_key"]], dtype=np.float64).reshape(len(drawn), -1)
    good = np.isfinite(vectors).all(axis=1) & vectors.any(axis=1)
    if good.sum() < FEWEST:
        told = f"{len(rows)} rows" if len(drawn) == len(rows) else f"{len(drawn)} of {len(rows)} rows drawn"
        broken = f", of which {int((~good).sum())} are not finite or all zero" if (~good).any() else ""
        raise EmbeddingsError(
            f"table {version.label}: {told}{broken}; at least {FEWEST} are needed to measure anything: embed more "
            "scans, or draw more (--max-rows)"
        )
    return Sample(
        version=version,
        rows=drawn.iloc[np.flatnonzero(good)].reset_index(drop=True),
        vectors=vectors[good],
        n_rows=len(rows),
        n_subjects=rows["subject"].nunique(),
        n_drawn=len(drawn),
        n_broken=int((~good).sum()),
    )

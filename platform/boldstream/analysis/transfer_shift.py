"""Why a transfer fails, or may: how the cohorts' people, vectors and predictions differ."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.preprocessing import StandardScaler

from boldstream.analysis.drift import drift
from boldstream.analysis.folds import nested_folds
from boldstream.analysis.heads.catalog import make_head
from boldstream.analysis.nested import predict_nested, score
from boldstream.analysis.quality import finite_matrix

RANGE = (0.025, 0.975)
"""Quantiles of the source between which a number is not extrapolated to."""
FAR = 0.95
"""Quantile of source rows' distances to other subjects' nearest row, beyond which a target row is far."""
MOST = 2000
"""Rows of either cohort whose vectors are compared, drawn at random."""
N_LEVELS = 5
N_INNER = 3
"""Inner folds of the probe that tells cohorts apart: five subjects of each have to be enough."""


class Overlap(NamedTuple):
    """One covariate in both cohorts.

    Attributes
    ----------
    name : str
    outside : float
        Share of the target's scans, among those where it is known, beyond the source's range (numbers), or at levels
        that the source has not (sites, sexes).
    source, target : str
        Their range, or levels, in words.
    n_missing : int
        Target scans where it is not known.
    rows : array of bool, shape (n_target,)
        The target scans that are outside.
    """

    name: str
    outside: float
    source: str
    target: str
    n_missing: int
    rows: NDArray[np.bool_]


class VectorShift(NamedTuple):
    """How the target's vectors differ from the source's.

    Attributes
    ----------
    told_apart : float
        AUROC of a linear probe, out of fold, of which cohort a scan is of: 0.5 where nobody can tell.
    largest : float
        The largest difference of level or spread of a dimension, in the source's standard deviations; `where` says in
        which, `p_value` how likely as large a one is among people drawn alike.
    p_value : float
    where : str
    far : float
        Share of target scans farther from the nearest source subject than all but one in twenty source scans are;
        0.05 is expected.
    """

    told_apart: float
    largest: float
    p_value: float
    where: str
    far: float


def covariate_overlap(source: pd.DataFrame, target: pd.DataFrame, names: Sequence[str]) -> list[Overlap]:
    """Put covariates of two cohorts beside each other; those that one of them lacks wholly are left out.

    Parameters
    ----------
    source, target : DataFrame
    names : sequence of str
        Columns: numbers (age, mean_fd), or levels (site, sex); a ``t_r`` is a level, as no cohort lies between two.
    """
    found = []
    for name in names:
        if name not in source or name not in target or source[name].isna().all() or target[name].isna().all():
            continue
        known, asked = source[name].dropna(), target[name]
        gone = asked.isna().to_numpy()
        if pd.api.types.is_numeric_dtype(known) and name != "t_r":
            low, high = known.quantile(RANGE[0]), known.quantile(RANGE[1])
            rows = ((asked < low) | (asked > high)).to_numpy() & ~gone
            told = _range(known), _range(asked.dropna())
        else:
            rows = ~asked.isin(known.unique()).to_numpy() & ~gone
            told = _levels(known), _levels(asked.dropna())
        found.append(Overlap(name, float(rows[~gone].mean()), *told, int(gone.sum()), rows))
    return found


def vector_shift(
    source: ArrayLike, target: ArrayLike, source_subjects: ArrayLike, target_subjects: ArrayLike, *, seed: int = 0
) -> VectorShift | None:
    """Compare two cohorts' vectors; None where either has fewer than five subjects.

    Parameters
    ----------
    source, target : array, shape (n_source, d) and (n_target, d)
    source_subjects, target_subjects : array of str
    seed : int

    Raises
    ------
    ValueError
        If the matrices do not fit, or hold values that are not finite.
    """
    x, who = _some(source, source_subjects, "source", seed)
    z, other = _some(target, target_subjects, "target", seed)
    drifted = drift(x, z, known_subjects=who, new_subjects=other, seed=seed)
    if drifted is None:
        return None
    is_target = np.repeat([0.0, 1.0], [len(x), len(z)])
    groups = np.concatenate([np.char.add("s ", who), np.char.add("t ", other)])
    scans = pd.DataFrame({"scan": np.arange(len(groups)), "subject": groups})
    folds = nested_folds(scans, is_target, n_inner=N_INNER, seed=seed)
    head, front = make_head("logistic", "binary"), StandardScaler()
    told = predict_nested(np.concatenate([x, z]), is_target, folds, head, kind="binary", front=front)
    apart = score(told, "binary")["auroc"]
    return VectorShift(apart, drifted.largest, drifted.p_value, drifted.where, far_share(x, z, who, seed=seed))


def extrapolated(predicted: ArrayLike, known: ArrayLike) -> float:
    """Return the share of predicted numbers that lie outside all numbers that were learnt from."""
    guess, learnt = np.asarray(predicted, dtype=np.float64), np.asarray(known, dtype=np.float64)
    return float(((guess < learnt.min()) | (guess > learnt.max())).mean())


def far_share(source: ArrayLike, target: ArrayLike, source_subjects: ArrayLike, *, seed: int = 0) -> float:
    """Return the share of target rows that are farther from the source than the source's own subjects are.

    Far is beyond the 95 % quantile of source rows' distances to the nearest row of another subject, so 0.05 is expected
    of people drawn alike; of 150 source subjects, 0.01 to 0.1. Dimensions count in the source's standard deviations.
    """
    x, who = _some(source, source_subjects, "source", seed)
    z, _ = _some(target, np.zeros(len(np.atleast_1d(target))), "target", seed)
    unit = x.std(axis=0)
    scale = np.where(unit > 0, unit, 1.0)
    x, z = x / scale, z / scale
    own = _distances(x, x)
    own[who[:, None] == who] = np.inf
    limit = np.quantile(own.min(axis=1), FAR)
    return float((_distances(z, x).min(axis=1) > limit).mean())


def _some(x: ArrayLike, subjects: ArrayLike, name: str, seed: int) -> tuple[NDArray[np.float64], NDArray[np.str_]]:
    """Return at most `MOST` rows, drawn at random, and their subjects."""
    matrix, who = finite_matrix(x, name), np.asarray(subjects, dtype=str)
    rows = np.sort(np.random.default_rng(seed).permutation(len(matrix))[:MOST])
    return matrix[rows], who[rows]


def _distances(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return squared distances of all rows of one matrix to all of another."""
    squares = np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1) - 2 * (a @ b.T)
    return np.asarray(np.maximum(squares, 0.0))


def _range(values: pd.Series) -> str:
    low, middle, high = values.quantile([RANGE[0], 0.5, RANGE[1]])
    return f"{low:.4g} to {high:.4g}, median {middle:.4g}"


def _levels(values: pd.Series) -> str:
    counts = values.value_counts()
    shown = ", ".join(f"{level} ({count})" for level, count in counts.head(N_LEVELS).items())
    return shown if len(counts) <= N_LEVELS else f"{shown} and {len(counts) - N_LEVELS} more"

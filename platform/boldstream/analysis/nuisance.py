"""How well site and motion can be told from vectors, before and after an adjustment that has not seen them."""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import RidgeCV
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold
from sklearn.preprocessing import StandardScaler

from boldstream.analysis.adjustment import Adjustment
from boldstream.analysis.covariates import column, missing
from boldstream.analysis.fronts import AdjustedFeatures
from boldstream.analysis.project import Projection
from boldstream.analysis.steps import SITE

N_FOLDS = 5
ROWS_A_DIRECTION = 5
"""Training rows for every direction that a probe looks at, at least."""
ALPHAS = np.logspace(-1, 5, 13)
"""Penalties to choose from, by leave-one-out; directions have variance 1, so a penalty is in rows."""
MOTION = "mean_fd"
SITE_ACCURACY, SITE_CHANCE, MOTION_R2 = "site_balanced_accuracy", "site_chance", "mean_fd_r2"


def site_accuracy(x: NDArray, site: ArrayLike, subjects: ArrayLike, seed: int = 0) -> dict[str, float]:
    """Return the balanced accuracy of a linear classifier of sites in subjects that it was not fitted on, and chance.

    A discriminant analysis along the largest components, one to every 5 training rows: a ridge on indicators cannot
    see a site whose mean lies between two others', a logistic regression would need its penalty chosen. Sites of fewer
    than 5 subjects are left out. Empty where fewer than two sites are left.

    Parameters
    ----------
    x : array, shape (n, p)
    site, subjects : array of str, shape (n,)
        ``""`` where the site is not known.
    seed : int
        Deals subjects to folds.
    """
    sites, names = np.asarray(site), np.asarray(subjects)
    levels = [s for s in np.unique(sites[sites != ""]) if len(np.unique(names[sites == s])) >= N_FOLDS]
    if len(levels) < 2:
        return {}
    rows = np.isin(sites, levels)
    x, sites, names = x[rows], sites[rows], names[rows]
    found, priors = np.empty_like(sites), np.full(len(levels), 1 / len(levels))
    for train, test in StratifiedGroupKFold(N_FOLDS, shuffle=True, random_state=seed).split(x, sites, names):
        a, b = _whitened(x[train], x[test])
        model = LinearDiscriminantAnalysis(priors=priors)
        found[test] = model.fit(a, sites[train]).predict(b)
    return {SITE_ACCURACY: float(balanced_accuracy_score(sites, found)), SITE_CHANCE: 1 / len(levels)}


def motion_r2(x: NDArray, mean_fd: ArrayLike, subjects: ArrayLike, seed: int = 0) -> dict[str, float]:
    """Return R2, against the training folds' means, of a ridge regression of motion in subjects left out.

    Rows without motion are left out. Empty where fewer than 10 subjects are left, or all move alike.

    Parameters
    ----------
    x : array, shape (n, p)
    mean_fd : array, shape (n,)
        NaN where it is not known.
    subjects : array of str, shape (n,)
    seed : int
        Deals subjects to folds.
    """
    motion, names = np.asarray(mean_fd, dtype=np.float64), np.asarray(subjects)
    rows = np.isfinite(motion)
    x, motion, names = x[rows], motion[rows], names[rows]
    if len(np.unique(names)) < 2 * N_FOLDS or np.ptp(motion) == 0:
        return {}
    found, null = np.empty_like(motion), np.empty_like(motion)
    for train, test in GroupKFold(N_FOLDS, shuffle=True, random_state=seed).split(x, motion, names):
        a, b = _whitened(x[train], x[test])
        found[test] = RidgeCV(ALPHAS).fit(a, motion[train]).predict(b)
        null[test] = motion[train].mean()
    return {MOTION_R2: float(1 - np.square(motion - found).sum() / np.square(motion - null).sum())}


def _whitened(train: NDArray, test: NDArray) -> list[NDArray[np.float64]]:
    """Return training and test rows along the training rows' components, each with variance 1.

    A penalty would otherwise ask whether a site shows in large components or in small ones; projected vectors have
    the same information in another basis, and the probes must not care.
    """
    scaler = StandardScaler().fit(train.astype(np.float64))
    components = Projection(max(1, len(train) // ROWS_A_DIRECTION)).fit(scaler.transform(train.astype(np.float64)))
    along = [components.transform(scaler.transform(x.astype(np.float64))) for x in (train, test)]
    return [x / along[0].std(axis=0) for x in along]


@dataclass(frozen=True)
class PooledFor:
    """What regions' latents are pooled for.

    Attributes
    ----------
    y : array, shape (n,)
        The target, NaN where a row has none.
    folds : array of int, shape (n,)
        Inner folds.
    """

    y: NDArray[np.float64]
    folds: NDArray[np.int64]

    def of(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> dict[str, NDArray]:
        """Return what a fit to some rows is given."""
        return {"y": self.y[rows], "folds": self.folds[rows]}


def before_and_after(
    adjustment: Adjustment | AdjustedFeatures,
    x: NDArray,
    covariates: dict[str, NDArray],
    subjects: ArrayLike,
    seed: int = 0,
    pooled_for: PooledFor | None = None,
) -> dict[str, Any]:
    """Measure vectors as they are, and after the adjustment learnt from other subjects; each half from the other.

    In the rows that it was learnt from (``after_own``) an adjustment leaves less than nothing of site: its means are
    made equal, so what a fold lacks stands out on the wrong side, and probes do worse than by chance. In others
    (``after``) there is what the recipe does not remove, and the error of what it has learnt: a shift common to all new
    rows of a site, which many dimensions together betray; where sites hardly differ, it can be more than there was
    before. An adjustment of all rows, twice as many, has half that error's variance.

    Parameters
    ----------
    adjustment : Adjustment or AdjustedFeatures
        Need not be fitted, and is not changed. With features: attention pooling, which each half learns as well.
    x : array, shape (n, p)
        Rows that lack no covariate. For attention pooling (n, n_rois, d): before it, a vector is the mean over regions.
    covariates : dict of str to array, shape (n,)
        Those that the steps read, and ``site`` and ``mean_fd`` where they are known.
    subjects : array of str, shape (n,)
    seed : int
    pooled_for : PooledFor, optional
        For attention pooling.

    Returns
    -------
    dict
        ``site_balanced_accuracy_before``, ``…_after``, ``…_after_own``, the same of ``mean_fd_r2_…``, and
        ``site_chance``: means of the halves; ``n_measured`` rows. What cannot be measured is not there, and
        ``not_measured`` says why.
    """
    names = np.asarray(subjects)
    site = column(covariates, SITE, len(x)) if SITE in covariates else np.full(len(x), "")
    half = _halve(names, site, seed)
    n_subjects = {level: len(np.unique(names[site == level])) for level in np.unique(site)}
    measured = np.array([level if n_subjects[level] >= 2 * N_FOLDS else "" for level in site], dtype=str)
    found: list[dict[str, float]] = []
    for learn in (half, ~half):
        try:
            found.append(_measure_half(adjustment, x, covariates, names, measured, learn, seed, pooled_for))
        except ValueError as error:
            return {"not_measured": f"the adjustment cannot be learnt from half of the rows: {error}"}
    common = found[0].keys() & found[1].keys()
    if common <= {"n_measured"}:
        return {
            "not_measured": f"too few subjects: two sites of {N_FOLDS}, or {2 * N_FOLDS} with {MOTION}, in each half"
        }
    told: dict[str, Any] = {name: float(np.mean([one[name] for one in found])) for name in sorted(common)}
    return told | {"n_measured": int(sum(one["n_measured"] for one in found))}


def _halve(names: NDArray, site: NDArray, seed: int) -> NDArray[np.bool_]:
    """Return which rows are the first half's: half of every site's subjects, rounded down."""
    unique, first = np.unique(names, return_index=True)
    chosen: list[str] = []
    for level in np.unique(site):
        own = unique[site[first] == level].tolist()
        order = sorted(own, key=lambda subject: hashlib.sha256(f"{seed} half {subject}".encode()).digest())
        chosen += order[: len(order) // 2]
    return np.isin(names, chosen)


def _measure_half(
    adjustment: Adjustment | AdjustedFeatures,
    x: NDArray,
    covariates: dict[str, NDArray],
    names: NDArray,
    site: NDArray,
    learn: NDArray[np.bool_],
    seed: int,
    pooled_for: PooledFor | None,
) -> dict[str, float]:
    def rows_of(mask: NDArray[np.bool_]) -> dict[str, NDArray]:
        return {name: values[mask] for name, values in covariates.items()}

    told_of = {} if pooled_for is None else pooled_for.of(learn)
    learnt = clone(adjustment).fit(x[learn], covariates=rows_of(learn), **told_of)
    asked = ~learn
    for refusal in learnt.foreign(covariates, len(x)):
        asked &= ~refusal.rows
    if not asked.any():
        raise ValueError("the halves have no site in common")
    told: dict[str, float] = {"n_measured": float(asked.sum())}
    for when, rows in (("before", asked), ("after", asked), ("after_own", learn)):
        known = rows_of(rows)
        plain = x[rows].mean(axis=1) if x.ndim > 2 else x[rows]
        vectors = plain if when == "before" else learnt.transform(x[rows], covariates=known)
        accuracy = site_accuracy(vectors, site[rows], names[rows], seed)
        told |= {name if name == SITE_CHANCE else f"{name}_{when}": value for name, value in accuracy.items()}
        if MOTION in known and not missing(column(known, MOTION, len(vectors))).all():
            r2 = motion_r2(vectors, known[MOTION], names[rows], seed)
            told |= {f"{name}_{when}": value for name, value in r2.items()}
    return told

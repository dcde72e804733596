"""What an embedding tells of the scanner and of motion, which it had better not."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.preprocessing import StandardScaler

from boldstream.analysis.folds import FoldSet, nested_folds
from boldstream.analysis.heads.ridge import RidgeHead
from boldstream.analysis.intervals import Estimate, bootstrap_ci
from boldstream.analysis.metrics import pearson
from boldstream.analysis.nested import METRICS, predict_nested


class SiteProbe(NamedTuple):
    """How well sites are told apart.

    Attributes
    ----------
    balanced_accuracy : Estimate
        Mean over sites of the share of their scans that are placed there, with its interval over subjects.
    chance : float
        1 / sites.
    sites : tuple of str
        Those with scans enough for every fold to hold some out and train on others.
    n_left_out : int
        Scans of other sites.
    """

    balanced_accuracy: Estimate
    chance: float
    sites: tuple[str, ...]
    n_left_out: int


def probe_site(x: ArrayLike, sites: ArrayLike, folds: FoldSet, *, n: int = 1000) -> SiteProbe:
    """Tell sites apart by one ridge a site on standardised vectors; the highest wins, all sites counting equally.

    A ridge on 0 and 1 estimates the share of a site among rows like this one; divided by the site's share in training
    it compares sites as if they were equally frequent.

    Parameters
    ----------
    x : array, shape (n, d)
    sites : array, shape (n,)
    folds : FoldSet
        Stratified by site; subjects are its groups. Every site takes part whose scans are in training in all folds.
    n : int
        Bootstrap resamples.

    Raises
    ------
    ValueError
        If fewer than two sites can take part.
    """
    names = np.asarray(sites).astype(str)
    known = [set(names[split.train]) for split in folds.splits()]
    kept = np.array(sorted(set.intersection(*known)))
    if len(kept) < 2:
        raise ValueError(f"{len(kept)} site(s) are in every training fold; at least 2 are needed to tell apart")
    truth = names[:, None] == kept
    matrix = np.asarray(x, dtype=np.float64)
    guess = np.empty((len(names), folds.n_repeats), dtype=np.int64)
    for split in folds.splits():
        scaler = StandardScaler().fit(matrix[split.train])
        inside = truth[split.train].astype(np.float64)
        head = RidgeHead().fit(scaler.transform(matrix[split.train]), inside, split.inner)
        guess[split.test, split.repeat] = np.argmax(
            head.predict(scaler.transform(matrix[split.test])) / inside.mean(axis=0), axis=1
        )
    rows = truth.any(axis=1)
    number = np.argmax(truth, axis=1)

    def accuracy(number: np.ndarray, guess: np.ndarray) -> float:
        right = (guess == number[:, None]).mean(axis=1)
        return float((np.bincount(number, right)[(count := np.bincount(number)) > 0] / count[count > 0]).mean())

    found = bootstrap_ci(accuracy, number[rows], guess[rows], n=n, units=folds.groups[rows])
    return SiteProbe(found, 1 / len(kept), tuple(kept.tolist()), int((~rows).sum()))


class MotionProbe(NamedTuple):
    """How well log mean FD is told out of fold, with intervals over subjects, and by the best single dimension.

    Attributes
    ----------
    r2, r : Estimate
    largest_r : float
        Largest absolute correlation of a single dimension, over all rows: no model is behind it.
    n_left_out : int
        Scans without a positive mean FD, which are not in it.
    """

    r2: Estimate
    r: Estimate
    largest_r: float
    n_left_out: int


def probe_motion(x: ArrayLike, mean_fd: ArrayLike, scans: pd.DataFrame, *, seed: int = 0, n: int = 1000) -> MotionProbe:
    """Predict log mean FD by a ridge on standardised vectors.

    Parameters
    ----------
    x : array, shape (n, d)
    mean_fd : array, shape (n,)
        In mm; missing or 0: left out and counted.
    scans : DataFrame
        As `folds.nested_folds` takes it.
    seed, n : int
        Of the folds; bootstrap resamples.
    """
    fd = np.asarray(mean_fd, dtype=np.float64)
    there = np.isfinite(fd) & (fd > 0)
    target, matrix = np.log(fd[there]), np.asarray(x, dtype=np.float64)[there]
    folds = nested_folds(scans[there], target, seed=seed)
    found = predict_nested(matrix, target, folds, RidgeHead(), kind="continuous", front=StandardScaler())
    r2, r = (bootstrap_ci(METRICS["continuous"][name], *found.arrays, n=n, units=folds.groups) for name in ("r2", "r"))
    largest = max((abs(pearson(target, column)) for column in matrix.T), default=float("nan"))
    return MotionProbe(r2, r, largest, int((~there).sum()))

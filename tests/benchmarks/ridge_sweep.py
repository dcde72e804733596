"""Ridge probes of many targets in nested folds, against scikit-learn's RidgeCV in the same loops.

    python tests/benchmarks/ridge_sweep.py [--quick]

10,000 subjects x 768 dimensions, 20 targets, 5 outer and 5 inner folds, 20 penalties; vectors standardised in every
training fold, once for all targets in both ways. RidgeCV is given the same inner folds (by generalised
cross-validation it would leave single rows out, which grouped folds forbid) and a target at a time, since it chooses
one penalty for all that it is given. A third way is printed beside it: Ridge on all targets at once, the errors of
every penalty kept by hand. Their times are the same for every outer fold, and RidgeCV's for every target, so one outer
fold and one target of it are measured and scaled up; --quick has 1,500 subjects x 256 and 4 targets, all measured.
Predictions have to agree to 1e-6 standard deviations of the target.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

import numpy as np
import pandas as pd
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.preprocessing import StandardScaler

from boldstream.analysis.folds import FoldSet, nested_folds
from boldstream.analysis.heads.ridge import RidgeHead

ALPHAS = np.logspace(-1, 6, 20)
N_FOLDS, AIM, AGREE = 5, 10.0, 1e-6


@dataclass(frozen=True)
class Size:
    """How large the problem is, and of how many targets and outer folds the slow ways are timed."""

    subjects: int
    dims: int
    targets: int
    targets_measured: int
    folds_measured: int
    repeats: int


FULL, QUICK = Size(10_000, 768, 20, 1, 1, 2), Size(1_500, 256, 4, 4, 5, 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="1,500 subjects x 256, 4 targets")
    size = QUICK if parser.parse_args().quick else FULL
    x, y, folds = problem(size)
    n_targets, n_folds = size.targets_measured, size.folds_measured
    times: list[float] = []
    for _ in range(size.repeats):
        seconds, ours = timed(sweep, x, y, folds)
        times.append(seconds)
    seconds = statistics.median(times)
    looping, looped = timed(by_loop, x, y, folds, n_folds)
    choosing, theirs = timed(by_ridge_cv, x, y[:, :n_targets], folds, n_folds)
    looping, baseline = looping * N_FOLDS / n_folds, choosing * N_FOLDS / n_folds * size.targets / n_targets
    spread = y.std(axis=0)
    away_loop = float(np.nanmax(np.abs(ours - looped) / spread))
    away = float(np.nanmax(np.abs(ours[:, :n_targets] - theirs) / spread[:n_targets]))
    print(f"{size.subjects:,} subjects x {size.dims}, {size.targets} targets, 5 x 5 nested folds, 20 penalties")
    print(f"  ours                        {seconds:9.2f} s   median of {size.repeats}")
    print(
        f"  RidgeCV, a target a time    {baseline:9.2f} s   {baseline / seconds:.1f} times ours; measured "
        f"{choosing:.2f} s for {n_targets} of {size.targets} targets in {n_folds} of {N_FOLDS} folds"
    )
    print(
        f"  Ridge, all targets at once  {looping:9.2f} s   {looping / seconds:.1f} times ours; {n_folds} folds measured"
    )
    print(f"  largest difference of predictions, in SDs: {away:.1e} to RidgeCV, {away_loop:.1e} to Ridge")
    ratio = baseline / seconds
    print(
        json.dumps(
            {
                "name": "ridge_sweep", "ratio": ratio, "target": f">= {AIM:g}, predictions to {AGREE:g}",
                "met": bool(ratio >= AIM and max(away, away_loop) <= AGREE), "ours": seconds,
                "baseline": baseline, "unit": "s",
            }
        )
    )  # fmt: skip


def problem(size: Size) -> tuple[np.ndarray, np.ndarray, FoldSet]:
    """Return vectors with a decaying spectrum, targets with R² from half to none, and folds by family and site."""
    rng = np.random.default_rng(0)
    n, d = size.subjects, size.dims
    axes = np.linalg.qr(rng.normal(size=(d, d)))[0] * np.arange(1, d + 1) ** -0.5
    x = rng.normal(size=(n, d)) @ axes.T
    signal = x @ rng.normal(size=(d, size.targets))
    y = signal / signal.std(axis=0) * np.linspace(1, 0, size.targets) + rng.normal(size=(n, size.targets))
    scans = pd.DataFrame(
        {"scan": np.arange(n), "subject": np.arange(n), "family": np.arange(n) // 2, "site": rng.integers(0, 10, n)}
    )
    return x, y, nested_folds(scans, n_folds=N_FOLDS)


def sweep(x: np.ndarray, y: np.ndarray, folds: FoldSet) -> np.ndarray:
    """Return our predictions out of fold."""
    predicted = np.empty_like(y)
    for split in folds.splits():
        scaler = StandardScaler().fit(x[split.train])
        head = RidgeHead(tuple(ALPHAS.tolist()), relative=False)
        head.fit(scaler.transform(x[split.train]), y[split.train], split.inner)
        predicted[split.test] = head.predict(scaler.transform(x[split.test]))
    return predicted


def by_ridge_cv(x: np.ndarray, y: np.ndarray, folds: FoldSet, n_folds: int) -> np.ndarray:
    """Return RidgeCV's predictions of some outer folds, a target at a time; NaN in the others."""
    predicted = np.full_like(y, np.nan)
    for split in islice(folds.splits(), n_folds):
        scaler = StandardScaler().fit(x[split.train])
        train, test = scaler.transform(x[split.train]), scaler.transform(x[split.test])
        inner = [(np.flatnonzero(split.inner != k), np.flatnonzero(split.inner == k)) for k in np.unique(split.inner)]
        for at in range(y.shape[1]):
            model = RidgeCV(ALPHAS, cv=inner, scoring="neg_mean_squared_error").fit(train, y[split.train, at])
            predicted[split.test, at] = model.predict(test)
    return predicted


def by_loop(x: np.ndarray, y: np.ndarray, folds: FoldSet, n_folds: int) -> np.ndarray:
    """Return Ridge's predictions of some outer folds, all targets at once; NaN in the others."""
    predicted = np.full_like(y, np.nan)
    for split in islice(folds.splits(), n_folds):
        scaler = StandardScaler().fit(x[split.train])
        train, test, target = scaler.transform(x[split.train]), scaler.transform(x[split.test]), y[split.train]
        errors = np.zeros((len(ALPHAS), y.shape[1]))
        for k in np.unique(split.inner):
            inside, outside = split.inner != k, split.inner == k
            for row, alpha in enumerate(ALPHAS):
                model = Ridge(alpha).fit(train[inside], target[inside])
                errors[row] += np.square(model.predict(train[outside]) - target[outside]).mean(axis=0)
        predicted[split.test] = Ridge(ALPHAS[errors.argmin(axis=0)]).fit(train, target).predict(test)
    return predicted


def timed(way: Callable[..., np.ndarray], *arguments: object) -> tuple[float, np.ndarray]:
    started = time.perf_counter()
    found = way(*arguments)
    return time.perf_counter() - started, found


if __name__ == "__main__":
    main()

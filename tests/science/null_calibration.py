"""How often a target without any signal is called significant, by the pipeline as it is meant and by a naive one.

    python tests/science/null_calibration.py [--repetitions 2000] [--kind continuous|binary|multiclass]

100 people of 5 sites, a third of them with a sibling, all scanned twice. Vectors hold the site, the motion,
what siblings share and what is a person's own; the target holds another such sum: it has no signal of its own.

meant   site and motion taken out in every training fold, folds that keep families together, permutations within
        sites that exchange whole families; what confounds explain of a continuous target stays in place
naive   site and motion taken out before the split, folds and permutations by scan
raw     as meant, but vectors as they are, and nothing of the target stays in place

A p value of 5 % or less is a false positive. Of R repetitions its rate has a standard error of
sqrt(0.05 * 0.95 / R): 1.5 % for 200, 0.5 % for 2000. The last line is one JSON object.
"""

import argparse
import json

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.preprocessing import StandardScaler

from boldstream.analysis.adjustment import Adjustment
from boldstream.analysis.folds import nested_folds
from boldstream.analysis.heads.ridge import RidgeHead
from boldstream.analysis.nested import predict_nested
from boldstream.analysis.null_scores import permutation_null, permutation_test
from boldstream.analysis.permutations import exchange, permuted_targets
from boldstream.analysis.steps import ResidualizeStep, ZscoreStep

N_PEOPLE, N_SITES, N_DIMS, N_PERMUTATIONS, LEVEL = 100, 5, 40, 99, 0.05
BAND = (0.035, 0.065)
PIPELINES = ("meant", "naive", "raw")
HEAD = RidgeHead(tuple(np.logspace(-1, 3, 9)))


FRONT = Adjustment((ResidualizeStep(step="residualize", covariates=("site", "mean_fd")), ZscoreStep(step="zscore")))


def study(seed, kind):
    """Draw people, their vectors, a target that has nothing to do with these but by confounds, and the confounds."""
    rng = np.random.default_rng(seed)
    subject = np.repeat(np.arange(N_PEOPLE), 2)
    n = len(subject)
    family = np.where((subject < N_PEOPLE // 3) & (subject % 2 == 1), subject - 1, subject)
    site = rng.integers(0, N_SITES, N_PEOPLE)[family]
    # how much somebody moves is alike in both scans
    fd = 0.5 * rng.normal(size=N_SITES)[site] + rng.normal(size=N_PEOPLE)[subject]
    x = rng.normal(size=(N_SITES, N_DIMS))[site] + 0.7 * np.outer(fd, rng.normal(size=N_DIMS))
    x += rng.normal(size=(N_PEOPLE, N_DIMS))[family] + 0.7 * rng.normal(size=(N_PEOPLE, N_DIMS))[subject]
    x += 0.3 * rng.normal(size=(n, N_DIMS))
    y = 0.7 * rng.normal(size=N_SITES)[site] + 0.7 * fd + rng.normal(size=N_PEOPLE)[family]
    y += rng.normal(size=N_PEOPLE)[subject]
    if kind == "binary":
        y = (y > np.median(y)).astype(float)
    if kind == "multiclass":
        y = np.digitize(y, np.quantile(y, [0.5, 0.8])).astype(float)
    scans = pd.DataFrame({"scan": np.arange(n), "subject": subject, "family": family, "site": site.astype(str)})
    return scans, x, y, pd.DataFrame({"site": scans["site"], "mean_fd": fd})


def p_values(seed, kind, pipelines=PIPELINES):
    """Return the p value of one study by each pipeline."""
    scans, x, y, confounds = study(seed, kind)
    found = {}
    if {"meant", "raw"} & {*pipelines}:
        folds = nested_folds(scans, y, n_inner=3, seed=seed)
        exchanged = exchange(
            scans["subject"], N_PERMUTATIONS, families=scans["family"], blocks=scans["site"], seed=seed
        )
    if "meant" in pipelines:
        stay = pd.get_dummies(confounds, dtype=float) if kind == "continuous" else None
        adjusted = {"front": FRONT, "covariates": confounds}
        found["meant"] = _p(x, y, folds, permuted_targets(y, exchanged, stay), kind, **adjusted)
    if "naive" in pipelines:
        alone = pd.DataFrame({"scan": scans["scan"], "subject": scans["scan"]})
        free = permuted_targets(y, exchange(scans["scan"], N_PERMUTATIONS, seed=seed))
        before = FRONT.fit(x, covariates=confounds).transform(x, covariates=confounds)
        found["naive"] = _p(before, y, nested_folds(alone, y, n_inner=3, seed=seed), free, kind)
    if "raw" in pipelines:
        found["raw"] = _p(x, y, folds, permuted_targets(y, exchanged), kind, front=StandardScaler())
    return found


def _p(x, y, folds, targets, kind, **front):
    found = predict_nested(x, y, folds, HEAD, kind=kind, **front)
    return permutation_test(found, permutation_null(x, targets, folds, HEAD, kind=kind, **front), kind)


def false_positives(repetitions, kind, pipelines=PIPELINES):
    """Return how many of so many studies each pipeline calls significant."""
    found = pd.DataFrame([p_values(seed, kind, pipelines) for seed in range(repetitions)])
    return (found <= LEVEL).sum().to_dict()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=2000)
    parser.add_argument("--kind", choices=["continuous", "binary", "multiclass"], default="continuous")
    asked = parser.parse_args()
    found = false_positives(asked.repetitions, asked.kind)
    for name, count in found.items():
        low, high = stats.binomtest(count, asked.repetitions).proportion_ci(0.95)
        print(
            f"{name:6s} {count / asked.repetitions:6.1%}   [{low:.1%}, {high:.1%}] of {asked.repetitions}, {asked.kind}"
        )
    rates = {name: count / asked.repetitions for name, count in found.items()}
    print(json.dumps({"kind": asked.kind, **rates, "band": BAND, "met": BAND[0] <= rates["meant"] <= BAND[1]}))


if __name__ == "__main__":
    main()

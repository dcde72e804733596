"""What an adjustment removes and what it keeps, in rows that it has not seen; and what happens where it has seen them.

Sizes are such that a failure is not chance: bounds follow from binomial intervals, or from the planted ceiling.
"""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import r2_score, roc_auc_score

from boldstream.analysis.adjustment import Adjustment
from boldstream.analysis.folds import nested_folds
from boldstream.analysis.fronts import AdjustedFeatures
from boldstream.analysis.harmonize import ComBat
from boldstream.analysis.heads.ridge import RidgeHead
from boldstream.analysis.nested import predict_nested, score
from boldstream.analysis.nuisance import MOTION_R2, SITE_ACCURACY, before_and_after, motion_r2, site_accuracy
from boldstream.analysis.pooling import AttentionPooling
from boldstream.analysis.residualize import Residualizer
from boldstream.analysis.steps import HarmonizeStep, ProjectStep, ResidualizeStep, ZscoreStep, check_target

P = 20
SITES = np.array(["A", "B", "C"])
NOISE = np.array([1.0, 1.5, 0.7])
CEILING = 1 / (1 + np.mean(NOISE**2))
"""R2 of an effect of variance 1 in its own direction: 0.445."""
SLACK = 0.04
"""Of R2 in 5000 rows: its standard error there is 0.01, of motion, whose distribution is skewed, 0.02."""


def cohort(n, seed, *, ages_differ=False):
    """Vectors with a trait, motion, age, and shifts and scales of three sites; every direction is its own."""
    rng = np.random.default_rng(seed)
    directions = np.linalg.qr(np.random.default_rng(1).normal(size=(P, P)))[0]
    at = rng.integers(3, size=n)
    age = rng.uniform(10, 40, n) + (15.0 * at if ages_differ else 0.0)
    known = {"site": SITES[at], "age": age, "sex": rng.choice(["F", "M"], n), "mean_fd": rng.gamma(2, 0.1, n)}
    trait = rng.normal(size=n)
    x = rng.normal(size=(n, P)) * NOISE[at][:, None]
    effects = [trait, (known["mean_fd"] - 0.2) / 0.14, (age - age.mean()) / age.std()]
    x += np.stack(effects, axis=1) @ directions[:3]
    x += 3 * np.array([[0.0], [1.0], [-1.0]])[at] * directions[3] * np.sqrt(P) / 2
    return x, known, trait


def explained(train_x, train_y, test_x, test_y):
    return r2_score(test_y, Ridge(1.0).fit(train_x, train_y).predict(test_x))


def subjects(n):
    return np.array([f"{i:05d}" for i in range(n)])


def test_residuals__lose_the_confound_and_keep_the_signal():
    x, known, trait = cohort(1500, 0)
    new, its, its_trait = cohort(5000, 2)
    found = Residualizer(("mean_fd", "site", "age")).fit(x, covariates=known)
    a, b = found.transform(x, covariates=known), found.transform(new, covariates=its)
    assert explained(x, known["mean_fd"], new, its["mean_fd"]) > CEILING - SLACK
    assert explained(a, known["mean_fd"], b, its["mean_fd"]) < 0.01
    assert motion_r2(b, its["mean_fd"], subjects(5000))[MOTION_R2] < 0.01
    # the trait is independent of all covariates, so nothing of it may go
    assert explained(a, trait, b, its_trait) > CEILING - SLACK


def test_harmonised_sites__cannot_be_told_apart_and_age_stays():
    """Sites differ in age; only a recipe that keeps age does not take it for a site's effect."""
    x, known, _ = cohort(6000, 0, ages_differ=True)
    new, its, _ = cohort(600, 2, ages_differ=True)
    assert site_accuracy(new, its["site"], subjects(600))[SITE_ACCURACY] > 0.9
    kept = ComBat(("age",)).fit(x, covariates=known)
    a, b = kept.transform(x, covariates=known), kept.transform(new, covariates=its)
    # age is kept, and tells sites apart; what is left beyond it is looked for in the residuals of age
    ages = Residualizer(("age",)).fit(a, covariates=known)
    left = site_accuracy(ages.transform(b, covariates=its), its["site"], subjects(600))[SITE_ACCURACY]
    low, high = stats.binom.interval(0.99, 600, 1 / 3)
    assert low / 600 < left < high / 600
    lost = ComBat().fit(x, covariates=known)
    many, more, _ = cohort(5000, 3, ages_differ=True)
    found = [
        explained(one.transform(x, covariates=known), known["age"], one.transform(many, covariates=more), more["age"])
        for one in (kept, lost)
    ]
    assert found[0] > CEILING - SLACK
    assert found[1] < CEILING / 2


def low_of(n):
    """Chance in three classes gives less once in a thousand times."""
    return stats.binom.ppf(0.001, n, 1 / 3) / n


def test_probe_of_rows_that_were_fitted_on__flatters_the_adjustment():
    """The canary: residuals of a site's own rows have its mean taken out exactly, so a probe does worse than chance."""
    rng = np.random.default_rng(0)
    site, x = SITES[rng.integers(3, size=90)], rng.normal(size=(90, 60))
    inside = Residualizer(("site",)).fit_transform(x, covariates={"site": site})
    flattered = site_accuracy(inside, site, subjects(90))[SITE_ACCURACY]
    assert flattered < low_of(90)
    step = ResidualizeStep(step="residualize", covariates=("site",))
    honest = before_and_after(Adjustment((step,)), x, {"site": site}, subjects(90))
    assert honest[f"{SITE_ACCURACY}_after_own"] < low_of(90)
    assert low_of(90) < honest[f"{SITE_ACCURACY}_after"]
    assert low_of(90) < honest[f"{SITE_ACCURACY}_before"] < stats.binom.ppf(0.999, 90, 1 / 3) / 90


def test_fitting_on_test_rows__changes_the_adjustment():
    x, known, _ = cohort(200, 0)
    steps = (
        HarmonizeStep(step="harmonize", keep=("age",)),
        ProjectStep(step="project", dim=5),
        ResidualizeStep(step="residualize", covariates=("age", "mean_fd")),
    )
    train = np.arange(200) < 150
    part = {name: values[train] for name, values in known.items()}
    honest = Adjustment(steps).fit(x[train], covariates=part).transform(x, covariates=known)
    poisoned = np.where(train[:, None], x, 100.0)
    same = Adjustment(steps).fit(poisoned[train], covariates=part).transform(x, covariates=known)
    leaky = Adjustment(steps).fit(poisoned, covariates=known).transform(x, covariates=known)
    assert (honest == same).all()
    assert not np.isclose(honest, leaky, atol=0.1).all(axis=1).any()


def auc_at_a_site(keep, seed):
    """Labels of noise, rarer at one of two sites; ComBat keeps the label, in a covariate's place, or never sees it."""
    rng = np.random.default_rng(seed)
    n, p = 400, 100
    site = np.repeat(["A", "B"], n // 2)
    y = (rng.uniform(size=n) < np.where(site == "A", 0.2, 0.8)).astype(int)
    x = rng.normal(size=(n, p)) * np.where(site == "A", 1.0, 4.0)[:, None]
    train = rng.uniform(size=n) < 0.5
    known = {"site": site, "sex": np.where(y, "M", "F")}
    fit = ComBat(keep).fit(x[train], covariates={name: values[train] for name, values in known.items()})
    z = fit.transform(x, covariates=known)
    asked = ~train & (site == "A")
    model = LogisticRegression(C=0.1, max_iter=1000).fit(z[train], y[train])
    return roc_auc_score(y[asked], model.decision_function(z[asked]))


def test_target_kept_by_combat__leaks_and_is_refused():
    """Nieto et al. (2024): nothing is there to be found, and yet test rows' labels show in their vectors.

    Where a site's scale is below the pooled one, they show the other way round: that, too, no probe of noise can do.
    """
    leaking = np.mean([auc_at_a_site(("sex",), seed) for seed in range(20)])
    clean = np.mean([auc_at_a_site((), seed) for seed in range(20)])
    assert abs(leaking - 0.5) > 0.2
    assert abs(clean - 0.5) < 0.05
    with pytest.raises(ValueError, match=r"target 'sex' is a covariate of the step 'harmonize"):
        check_target((HarmonizeStep(step="harmonize", keep=("sex",)),), "sex")


def aurocs_of_noise(seed, n=80, n_folds=4):
    """Labels drawn at random, latents of noise; a query trained on everybody, and one trained in each fold."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, 20, 16)).astype(np.float32), rng.permutation(np.arange(n) % 2).astype(float)
    people = pd.DataFrame({"scan": np.arange(n), "subject": np.arange(n)})
    folds = nested_folds(people, y, n_folds=n_folds, n_inner=2, seed=seed)
    pooling, rest = AttentionPooling("binary", epochs=(40,)), Adjustment((ZscoreStep(step="zscore"),))
    known = {"kind": "binary", "head": RidgeHead(alphas=(1.0,)), "folds": folds, "y": y}
    everybody = predict_nested(pooling.fit_transform(x, y).astype(float), front=rest, **known)
    in_folds = predict_nested(x, front=AdjustedFeatures(pooling, rest), **known)
    return [score(found, "binary")["auroc"] for found in (everybody, in_folds)]


def test_query_trained_on_everybody__tells_random_labels_and_ours_does_not():
    """The head behind it is cross-validated either way: it is the query that knows the test rows' labels."""
    n_seeds, a_class = 40, 80 / 4 / 2
    leaking, ours = np.mean([aurocs_of_noise(seed) for seed in range(n_seeds)], axis=0)
    # of a fold's AUROC by chance (Hanley & McNeil 1982), of the mean over folds and seeds; once in a thousand times
    error = np.sqrt((2 * a_class + 1) / (12 * a_class**2) / (4 * n_seeds))
    allowed = stats.norm.isf(0.0005) * error
    assert abs(ours - 0.5) < allowed
    assert leaking > 0.5 + 5 * allowed

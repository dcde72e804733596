"""The steps of an adjustment: what they learn, what they refuse, and that nothing but `fit` learns."""

import copy
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import config_context
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.model_selection import KFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from boldstream.analysis import fitted
from boldstream.analysis.adjustment import Adjustment
from boldstream.analysis.covariates import Design, column, missing, natural_spline
from boldstream.analysis.fitted import FittedStep, Zscore, moments
from boldstream.analysis.harmonize import ComBat, shrink
from boldstream.analysis.project import Projection
from boldstream.analysis.residualize import Residualizer
from boldstream.analysis.steps import (
    HarmonizeStep,
    Impute,
    ProjectStep,
    ResidualizeStep,
    ZscoreStep,
    check_target,
    needed,
)

ZSCORE = ZscoreStep(step="zscore")
HARMONIZE = HarmonizeStep(step="harmonize", keep=("age", "sex"))
PROJECT = ProjectStep(step="project", dim=4)
RESIDUALIZE = ResidualizeStep(step="residualize", covariates=("age", "sex", "site", "mean_fd"))


def people(n=40, p=6, seed=0, dtype=np.float64):
    """Vectors with effects of three sites, age and motion, and the covariates."""
    rng = np.random.default_rng(seed)
    covariates = pd.DataFrame(
        {
            "age": rng.uniform(8, 60, n),
            "sex": rng.choice(["F", "M"], n),
            "site": np.array(["A", "B", "C"])[np.arange(n) % 3],
            "mean_fd": rng.gamma(2, 0.1, n),
            "global_signal_flag": rng.choice(["no", "yes"], n),
        }
    )
    x = rng.normal(size=(n, p)) * (1 + (covariates["site"] == "C").to_numpy()[:, None])
    x += np.outer(covariates["age"], rng.normal(size=p)) * 0.1 + np.outer(np.arange(n) % 3, rng.normal(size=p))
    return x.astype(dtype), covariates


def ready(name):
    steps = {
        "zscore": Zscore(),
        "combat": ComBat(keep=("age", "sex")),
        "pca": Projection(3),
        "random": Projection(3, "random"),
        "residuals": Residualizer(("age", "sex", "site", "mean_fd"), age_knots=3),
        "all": Adjustment((ZSCORE, HARMONIZE, PROJECT, RESIDUALIZE)),
    }
    return steps[name]


ALL = ["zscore", "combat", "pca", "random", "residuals", "all"]


@pytest.mark.parametrize("estimator", [Zscore(), Projection(2), Projection(2, "random"), Adjustment((ZSCORE, PROJECT))])
def test_estimators_without_covariates__keep_scikit_learns_contract(estimator):
    told = check_estimator(estimator, on_skip=None, on_fail=None)
    assert [(one["check_name"], one["exception"]) for one in told if one["status"] == "failed"] == []
    assert sum(one["status"] == "passed" for one in told) > 40


@pytest.mark.parametrize("name", ALL)
def test_estimators__learn_in_fit_alone(name):
    """`__init__` only stores, `fit` touches no parameter and no data, `transform` neither what was learnt nor data."""
    x, covariates = people()
    estimator = ready(name)
    assert not [key for key in vars(estimator) if key.endswith("_")]
    parameters = copy.deepcopy(estimator.get_params())
    with pytest.raises(NotFittedError):
        estimator.transform(x, covariates=covariates)
    kept, columns = x.copy(), covariates.copy()
    estimator.fit(x, covariates=covariates)
    assert estimator.get_params() == parameters
    learnt = copy.deepcopy(estimator.state())
    other, its = people(seed=1)
    estimator.transform(other, covariates=its)
    assert repr(estimator.state()) == repr(learnt)
    assert (x == kept).all()
    pd.testing.assert_frame_equal(covariates, columns)
    assert repr(clone(estimator).fit(x, covariates=covariates).state()) == repr(learnt)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_estimators__change_every_row_by_itself(name, dtype, monkeypatch):
    x, covariates = people(dtype=dtype)
    whole = ready(name).fit(x, covariates=covariates)
    found = whole.transform(x, covariates=covariates)
    assert found.dtype == dtype
    one = np.concatenate([whole.transform(x[[i]], covariates=covariates.iloc[[i]]) for i in range(len(x))])
    tolerance = 1e-5 if dtype == np.float32 else 1e-10
    np.testing.assert_allclose(one, found, atol=tolerance)
    np.testing.assert_allclose(ready(name).fit_transform(x, covariates=covariates), found, atol=tolerance)
    monkeypatch.setattr(fitted, "BLOCK", 7)
    np.testing.assert_allclose(ready(name).fit_transform(x, covariates=covariates), found, atol=tolerance)


@pytest.mark.parametrize("name", ALL)
def test_target__is_never_looked_at(name):
    x, covariates = people()
    with_target = ready(name).fit(x, np.arange(len(x)), covariates=covariates)
    assert repr(with_target.state()) == repr(ready(name).fit(x, covariates=covariates).state())


@pytest.mark.parametrize("name", ALL)
def test_state__restores_exactly_through_json(name):
    x, covariates = people()
    estimator = ready(name).fit(x, covariates=covariates)
    arrays, values = estimator.state()
    again = ready(name).restore(arrays, json.loads(json.dumps(values)))
    other, its = people(seed=1)
    assert (again.transform(other, covariates=its) == estimator.transform(other, covariates=its)).all()


def test_state__with_a_leftover_or_missing_name_is_refused():
    x, covariates = people()
    arrays, values = ready("combat").fit(x, covariates=covariates).state()
    with pytest.raises(ValueError, match=r"ComBat lacks \['shift_'\], has too much: \['gamma_'\]"):
        ComBat(("age", "sex")).restore({("gamma_" if k == "shift_" else k): v for k, v in arrays.items()}, values)
    arrays, values = ready("all").fit(x, covariates=covariates).state()
    with pytest.raises(ValueError, match=r"arrays \['7.mean_'\] belong to no step"):
        ready("all").restore(arrays | {"7.mean_": arrays["0.mean_"]}, values)
    with pytest.raises(ValueError, match="are not those of 1 steps"):
        Adjustment((ZSCORE,)).restore(arrays, values)


def test_steps__without_learning_of_their_own_are_none():
    with pytest.raises(NotImplementedError):
        FittedStep().fit(np.ones((2, 2)))


def test_zscore__is_scikit_learns():
    x, _ = people()
    x[:, 2] = 3.1
    np.testing.assert_allclose(Zscore().fit_transform(x), StandardScaler().fit_transform(x), atol=1e-12)


def test_moments__of_a_constant_are_exact():
    mean, variance = moments(np.full((10_000, 2), 0.1, dtype=np.float32))
    assert (variance == 0).all()
    assert mean == pytest.approx(0.1)


@pytest.mark.parametrize("shape", [(40, 6), (8, 30)])
def test_pca__is_scikit_learns_up_to_signs(shape):
    x, _ = people(*shape)
    theirs = PCA(3, svd_solver="full").fit(x)
    ours = Projection(3).fit(x)
    np.testing.assert_allclose(np.abs(ours.transform(x)), np.abs(theirs.transform(x)), atol=1e-9)
    np.testing.assert_allclose(ours.variance_ratio_, theirs.explained_variance_ratio_, atol=1e-12)
    largest = np.abs(ours.components_).argmax(axis=1)
    assert (ours.components_[np.arange(3), largest] > 0).all()


@settings(deadline=None, max_examples=40)
@given(n=st.integers(2, 30), p=st.integers(1, 20), dim=st.integers(1, 40), method=st.sampled_from(["pca", "random"]))
def test_projection__has_as_many_orthonormal_directions_as_there_can_be(n, p, dim, method):
    x = np.random.default_rng([n, p]).normal(size=(n, p))
    found = Projection(dim, method).fit(x)
    assert found.dim_effective_ == (min(dim, p, n - 1) if method == "pca" else min(dim, p))
    assert found.transform(x).shape == (n, found.dim_effective_)
    gram = found.components_ @ found.components_.T
    np.testing.assert_allclose(gram, np.eye(found.dim_effective_), atol=1e-8)
    assert found.variance_ratio_.sum() <= 1 + 1e-9


def test_pca__has_no_component_where_nothing_varies():
    """Residuals of k covariates vary in k dimensions less; what is left there is rounding, which points anywhere."""
    x, covariates = people(n=12, p=30, dtype=np.float32)
    residuals = Residualizer(("age", "mean_fd", "sex")).fit_transform(x, covariates=covariates)
    assert Projection(512).fit(residuals).dim_effective_ == 12 - 1 - 3
    assert Projection(512).fit(np.ones((5, 3))).dim_effective_ == 1


def test_random_projection__follows_from_its_seed_alone():
    x, _ = people()
    first, same, other = (Projection(3, "random", seed).fit(x[:n]) for seed, n in ((0, 40), (0, 10), (1, 40)))
    assert (first.components_ == same.components_).all()
    assert not np.isclose(first.components_, other.components_).any()
    assert (first.mean_ == 0).all()


def test_residuals__are_those_of_a_linear_regression_plus_the_mean():
    x, covariates = people()
    design = pd.get_dummies(covariates[["age", "sex", "site", "mean_fd"]], drop_first=True).to_numpy(float)
    expected = x - LinearRegression().fit(design, x).predict(design) + x.mean(axis=0)
    found = Residualizer(("age", "sex", "site", "mean_fd")).fit(x, covariates=covariates)
    np.testing.assert_allclose(found.transform(x, covariates=covariates), expected, atol=1e-10)
    assert found.rank_ == 5


def test_residuals__of_covariates_that_tell_the_same_are_finite():
    x, covariates = people()
    covariates["sex"] = np.where(covariates["site"] == "A", "F", "M")
    found = Residualizer(("sex", "site")).fit(x, covariates=covariates)
    assert found.rank_ == 2
    by_site = Residualizer(("site",)).fit_transform(x, covariates=covariates)
    np.testing.assert_allclose(found.transform(x, covariates=covariates), by_site, atol=1e-10)


def test_residuals__of_too_many_covariates_are_refused():
    x, covariates = people(n=5)
    with pytest.raises(ValueError, match=r"4 columns of covariates .* leave nothing of 5 training rows"):
        Residualizer(("age", "site", "mean_fd")).fit(x, covariates=covariates)


def test_spline__removes_a_bent_age_effect_that_a_line_leaves():
    x, covariates = people(n=300)
    bent = np.square(covariates["age"] - 30) / 100
    x = 0.01 * x + bent.to_numpy()[:, None]
    line = Residualizer(("age",)).fit_transform(x, covariates=covariates)
    spline = Residualizer(("age",), age_knots=5).fit_transform(x, covariates=covariates)
    assert spline.var() < 0.02 * line.var()


@settings(deadline=None)
@given(st.integers(3, 8), st.floats(0.5, 50))
def test_spline__is_straight_outside_its_knots(n_knots, reach):
    knots = np.sort(np.random.default_rng(n_knots).uniform(10, 60, n_knots))
    beyond = knots[-1] + reach * np.arange(1, 4)
    terms = natural_spline(beyond, knots)
    np.testing.assert_allclose(terms[2] - terms[1], terms[1] - terms[0], rtol=1e-6)
    assert (natural_spline(knots[0] - reach * np.arange(3), knots) == 0).all()


def test_knots__that_fall_together_are_refused():
    covariates = {"age": np.repeat([20.0, 30.0], 10)}
    with pytest.raises(ValueError, match="age has too few different values for 4 knots"):
        Design(("age",), 4).fit(covariates, 20)
    with pytest.raises(ValueError, match="3 knots or more"):
        ResidualizeStep(step="residualize", covariates=("age",), age_knots=2)


def test_design__has_mean_zero_over_training_rows():
    _, covariates = people()
    found = Design(("age", "sex", "site"), 3).fit(covariates, 40)
    columns = found.transform(covariates, 40)
    assert columns.shape == (40, 2 + 1 + 2)
    np.testing.assert_allclose(columns.mean(axis=0), 0, atol=1e-12)
    pooled = found.transform({"age": [30.0], "sex": ["F"], "site": ["X"]}, 1, stand_in="")
    assert (pooled[0, -2:] == 0).all()


def test_combat__leaves_training_sites_with_the_same_mean_and_scale():
    """Without kept covariates and with many rows, shrinkage is slight: sites' means and spreads meet."""
    rng = np.random.default_rng(0)
    site = np.repeat(["A", "B"], 2000)
    x = rng.normal(size=(4000, 8)) * np.where(site == "B", 3.0, 1.0)[:, None]
    x += np.where(site == "B", 1.0, 0.0)[:, None] * rng.normal(size=8)
    found = ComBat().fit_transform(x, covariates={"site": site})

    def apart(y, statistic):
        return np.abs(statistic(y[site == "A"], axis=0) - statistic(y[site == "B"], axis=0)).max()

    # what shrinkage leaves of a shift: spread / (n * variance of shifts + spread), at most 1 % here
    assert apart(found, np.mean) < 0.02 * apart(x, np.mean)
    assert apart(found, np.std) < 0.02 * apart(x, np.std)
    np.testing.assert_allclose(found.mean(axis=0), x.mean(axis=0), atol=0.01)


def test_combat__takes_a_dead_dimension_as_it_is():
    x, covariates = people()
    x[:, 1] = 2.5
    found = ComBat(("age",)).fit_transform(x, covariates=covariates)
    np.testing.assert_allclose(found[:, 1], 2.5, atol=1e-9)
    assert np.isfinite(found).all()


def test_combat__of_too_few_rows_or_dimensions_is_refused():
    x, covariates = people()
    covariates.loc[0, "site"] = "lonely"
    with pytest.raises(ValueError, match=r"1 of 4 sites have less than 2 training rows: lonely \(1\)"):
        ComBat().fit(x, covariates=covariates)
    with pytest.raises(ValueError, match="it needs at least 2 of them"):
        ComBat().fit(x[:, :1], covariates=people()[1])
    covariates.loc[0, "site"] = None
    with pytest.raises(ValueError, match="covariate 'site' is missing in 1 of 40 rows"):
        ComBat().fit(x, covariates=covariates)


def test_shrink__of_dimensions_alike_is_their_common_value():
    shift, spread = shrink(np.full(5, 0.3), np.full(5, 2.0), 10)
    np.testing.assert_allclose(shift, 0.3)
    np.testing.assert_allclose(spread, 2.0)


@pytest.mark.parametrize("estimator", ["combat", "residuals"])
def test_unseen_site__is_refused_or_taken_for_another(estimator):
    x, covariates = people()
    fit = ready(estimator).fit(x, covariates=covariates)
    new = covariates.assign(site="X")
    with pytest.raises(ValueError, match=r"site X does not occur in training \(there: A, B, C\)"):
        fit.transform(x, covariates=new)
    fit.set_params(unseen_site="reference", reference_site="B")
    assert (fit.transform(x, covariates=new) == fit.transform(x, covariates=covariates.assign(site="B"))).all()
    fit.set_params(unseen_site="pooled")
    pooled = fit.transform(x, covariates=new)
    by_site = [fit.transform(x, covariates=covariates.assign(site=site)) for site in "ABC"]
    assert not any(np.isclose(pooled, one).all() for one in by_site)
    shares = np.array([14, 13, 13]) / 40
    if estimator == "residuals":
        np.testing.assert_allclose(pooled, np.average(by_site, axis=0, weights=shares), atol=1e-10)
    else:
        around = fit.mean_ + Design(("age", "sex")).fit(covariates, 40).transform(covariates, 40) @ fit.coef_
        z = (x - around) / fit.scale_
        z = (z - shares @ fit.shift_) / np.sqrt(shares @ fit.spread_**2)
        np.testing.assert_allclose(pooled, z * fit.scale_ + around, atol=1e-10)
    fit.set_params(unseen_site="reference", reference_site=None)
    with pytest.raises(ValueError, match="unseen_site: reference needs reference_site"):
        fit.transform(x, covariates=new)


def test_reference_site__must_have_training_rows():
    x, covariates = people()
    with pytest.raises(ValueError, match=r"reference_site 'X' has no training rows \(there: A, B, C\)"):
        Adjustment((HARMONIZE,), unseen_site="reference", reference_site="X").fit(x, covariates=covariates)


def test_adjustment__takes_the_steps_in_their_order():
    x, covariates = people()
    steps = (ZSCORE, RESIDUALIZE, PROJECT)
    z = Zscore().fit_transform(x)
    r = Residualizer(RESIDUALIZE.covariates).fit_transform(z, covariates=covariates)
    expected = Projection(4).fit_transform(r)
    np.testing.assert_allclose(Adjustment(steps).fit_transform(x, covariates=covariates), expected, atol=1e-12)
    other = Adjustment((PROJECT, ZSCORE, RESIDUALIZE)).fit_transform(x, covariates=covariates)
    assert not np.allclose(other, expected)


def test_adjustment__reports_dimensions_asked_and_there():
    x, covariates = people(n=10)
    found = Adjustment((ProjectStep(step="project", dim=512),)).fit(x, covariates=covariates)
    told = found.dims()
    assert (told["dim_nominal"], told["dim_effective"], told["dim_input"]) == (512, 6, 6)
    assert [note[:36] for note in found.notes()] == [
        "6 dimensions instead of 512: vectors",
        "6 dimensions from 10 training rows: ",
    ]
    assert Adjustment((ZSCORE,)).fit(x).dims() == {}


def test_missing_covariate__is_refused_or_filled_in_by_training_rows():
    x, covariates = people()
    covariates.loc[[3, 5], "age"] = None
    covariates.loc[4, "sex"] = None
    steps = (ResidualizeStep(step="residualize", covariates=("age", "sex")),)
    with pytest.raises(ValueError, match="covariate 'age' is missing in 2 of 40 rows"):
        Adjustment(steps).fit(x, covariates=covariates)
    lacking = Adjustment(steps, Impute(age="mean")).lacking(covariates, 40)
    assert [(one.reason, one.message, np.flatnonzero(one.rows).tolist()) for one in lacking] == [
        ("missing_covariate", "sex is missing", [4])
    ]
    found = Adjustment(steps, Impute(age="median", sex="most_frequent")).fit(x, covariates=covariates)
    assert found.filled_ == {
        "age": pytest.approx(covariates["age"].median()),
        "sex": covariates["sex"].mode()[0],
    }
    assert found.n_filled(covariates, 40) == {"age": 2, "sex": 1}
    filled = covariates.fillna({"age": covariates["age"].median(), "sex": covariates["sex"].mode()[0]})
    same = Adjustment(steps).fit(x, covariates=filled)
    np.testing.assert_allclose(
        found.transform(x, covariates=covariates), same.transform(x, covariates=filled), atol=1e-12
    )
    with pytest.raises(ValueError, match="covariate 'age' is missing in all training rows"):
        Adjustment(steps, Impute(age="mean", sex="most_frequent")).fit(x, covariates=covariates.assign(age=np.nan))


def test_foreign_rows__are_told_by_what_is_new():
    x, covariates = people()
    found = Adjustment((RESIDUALIZE,)).fit(x, covariates=covariates)
    new = covariates.copy()
    new.loc[1, "site"] = "X"
    new.loc[2, "sex"] = "other"
    assert [(one.reason, np.flatnonzero(one.rows).tolist()) for one in found.foreign(new, 40)] == [
        ("unseen_level", [2]),
        ("unseen_site", [1]),
    ]
    assert found.n_unseen(new, 40) == 1
    assert [one.reason for one in found.set_params(unseen_site="pooled").foreign(new, 40)] == ["unseen_level"]


def test_column__takes_frames_and_arrays_alike():
    raw = {"sex": ["F", None, "M"], "age": [1.0, None, 3.0], "site": [1.0, np.nan, 2.0]}
    for found in (pd.DataFrame(raw), {name: np.array(values, dtype=object) for name, values in raw.items()}):
        assert column(found, "sex", 3).tolist() == ["F", "", "M"]
        assert column(found, "site", 3).tolist() == ["1", "", "2"]
        assert missing(column(found, "age", 3)).tolist() == [False, True, False]
    with pytest.raises(ValueError, match="covariate 'mean_fd' is not there"):
        column(raw, "mean_fd", 3)
    with pytest.raises(ValueError, match="covariate 'age' is not there"):
        column(None, "age", 3)
    with pytest.raises(ValueError, match=r"covariate 'age' has shape \(3,\), there are 4 rows"):
        column(raw, "age", 4)


def test_target__that_a_step_knows_is_refused():
    steps = (HARMONIZE, PROJECT, RESIDUALIZE)
    assert needed(steps) == ("site", "age", "sex", "mean_fd")
    check_target(steps, "diagnosis")
    with pytest.raises(ValueError, match=r"target 'age' is a covariate of .*harmonize: .*', which keeps its effect"):
        check_target(steps, "age")
    with pytest.raises(ValueError, match=r"target 'mean_fd' is a covariate of .*, which removes its effect"):
        check_target(steps, "mean_fd")


def test_adjustment__is_learnt_inside_folds_by_a_pipeline():
    """Scikit-learn's metadata routing hands each fold its own rows of the covariates."""
    x, covariates = people(n=60)
    y = x[:, 0] + 0.1 * covariates["age"].to_numpy()
    with config_context(enable_metadata_routing=True):
        adjusting = Adjustment((ZSCORE, RESIDUALIZE)).set_fit_request(covariates=True)
        adjusting.set_transform_request(covariates=True)
        pipeline = make_pipeline(adjusting, Ridge())
        found = cross_validate(pipeline, x, y, cv=3, params={"covariates": covariates}, return_estimator=True)
    for fold, (train, _) in zip(found["estimator"], KFold(3).split(x), strict=True):
        alone = Adjustment((ZSCORE, RESIDUALIZE)).fit(x[train], covariates=covariates.iloc[train])
        assert repr(fold[0].state()) == repr(alone.state())

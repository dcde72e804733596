import numpy as np
import pytest
from sklearn.linear_model import RidgeCV
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from boldstream.analysis.metrics import auc, balanced_accuracy, scores
from boldstream.analysis.probes import ALPHAS, held_out, out_of_fold

N, D, SITES = 120, 10, 8


def planted(seed=0, n=N, d=D, noise=0.5):
    """Vectors, an age and a sex that are linear in them, and sites."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    signal = x @ rng.normal(size=d) / np.sqrt(d) + noise * rng.normal(size=n)
    return x, 30 + 10 * signal, np.where(signal > 0, "M", "F"), rng.integers(0, SITES, n)


def test_out_of_fold__finds_a_planted_signal():
    x, age, sex, site = planted()
    predicted, null, _ = out_of_fold(x, age, site, kind="ridge")
    found = scores(age, predicted, "ridge", baseline=null)
    assert found["r2"] > 0.6
    assert found["r"] > 0.8
    assert found["mae"] < 6
    decision, null, folds = out_of_fold(x, sex, site, kind="logistic")
    assert scores(sex, decision, "logistic", folds=folds)["auc"] > 0.85
    assert all(len(set(folds[site == name])) == 1 for name in range(SITES))
    assert set(folds) == set(range(5))
    np.testing.assert_array_equal(null, 0)


def test_out_of_fold__is_at_chance_on_permuted_targets():
    x, age, sex, site = planted()
    rng = np.random.default_rng(1)
    r2s, aucs = [], []
    for _ in range(8):
        order = rng.permutation(N)
        predicted, null, _ = out_of_fold(x, age[order], site, kind="ridge")
        r2s.append(scores(age[order], predicted, "ridge", baseline=null)["r2"])
        decision, _, _ = out_of_fold(x, sex[order], site, kind="logistic")
        aucs.append(scores(sex[order], decision, "logistic")["auc"])
    assert -0.15 < np.mean(r2s) < 0.03
    assert np.mean(aucs) == pytest.approx(0.5, abs=0.07)


def test_out_of_fold__gains_nothing_from_the_name_of_a_group():
    rng = np.random.default_rng(0)
    site = np.repeat(np.arange(SITES), N // SITES)
    age = 10.0 * rng.normal(size=SITES)[site] + rng.normal(size=N)
    x = np.eye(SITES)[site]
    predicted, null, _ = out_of_fold(x, age, site, kind="ridge")
    assert scores(age, predicted, "ridge", baseline=null)["r2"] < 0.05
    # the same with rows of a site on both sides would look like a find
    predicted, null, _ = out_of_fold(x, age, np.arange(N), kind="ridge")
    assert scores(age, predicted, "ridge", baseline=null)["r2"] > 0.9


@pytest.mark.parametrize("d", [D, 300])
def test_out_of_fold__equals_a_pipeline_fitted_fold_by_fold(d):
    x, age, _, site = planted(d=d)
    predicted, null, _ = out_of_fold(x.astype(np.float32), age, site, kind="ridge", seed=3)
    for train, test in GroupKFold(5, shuffle=True, random_state=3).split(x, age, site):
        inner = list(
            GroupKFold(min(5, len(set(site[train]))), shuffle=True, random_state=3).split(x[train], groups=site[train])
        )
        ridge = RidgeCV(np.array(ALPHAS) * d, cv=inner, scoring="neg_mean_squared_error")
        model = make_pipeline(StandardScaler(), ridge).fit(x[train], age[train])
        np.testing.assert_allclose(predicted[test], model.predict(x[test]), rtol=1e-4)
        np.testing.assert_allclose(null[test], age[train].mean())


def test_out_of_fold__chooses_a_ridge_for_sites_that_it_does_not_know():
    rng = np.random.default_rng(0)
    site = np.repeat(np.arange(SITES), N // SITES)
    age = 10.0 * rng.normal(size=SITES)[site] + rng.normal(size=N)
    # a scanner's signature, smeared over many dimensions: by rows it looks like age, and is worth nothing elsewhere
    x = np.eye(SITES)[site] @ rng.normal(size=(SITES, 40)) + 0.1 * rng.normal(size=(N, 40))
    predicted, null, _ = out_of_fold(x, age, site, kind="ridge")
    by_rows = held_out(x[site > 0], age[site > 0], x[site == 0], age[site == 0], "ridge")
    by_sites = held_out(x[site > 0], age[site > 0], x[site == 0], age[site == 0], "ridge", train_groups=site[site > 0])
    assert by_sites["mae"] < by_rows["mae"]
    assert np.abs(predicted - null).mean() < np.abs(age - null).mean()


def test_out_of_fold__of_wide_vectors_finds_a_planted_class():
    x, _, sex, site = planted(noise=0.1)
    rng = np.random.default_rng(2)
    wide = x @ rng.normal(size=(D, 400)) + 0.3 * rng.normal(size=(N, 400))
    decision, _, _ = out_of_fold(wide, sex, site, kind="logistic")
    assert scores(sex, decision, "logistic")["auc"] > 0.9


@pytest.mark.parametrize("d", [3, 300])
def test_out_of_fold__of_collapsed_vectors_gives_numbers(d):
    _, age, sex, site = planted()
    predicted, null, _ = out_of_fold(np.full((N, d), 0.1), age, site, kind="ridge")
    np.testing.assert_allclose(predicted, null)
    decision, _, _ = out_of_fold(np.full((N, d), 0.1), sex, site, kind="logistic")
    np.testing.assert_allclose(decision, 0, atol=1e-6)


def test_out_of_fold__takes_two_groups():
    x, _, sex, site = planted()
    decision, _, _ = out_of_fold(x, sex, site % 2, kind="logistic")
    assert scores(sex, decision, "logistic")["auc"] > 0.8


def test_out_of_fold__is_set_by_its_seed():
    x, age, _, site = planted()
    first, again, other = (out_of_fold(x, age, site, kind="ridge", seed=s).predicted for s in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


def test_held_out__scores_against_the_training_mean():
    x, age, sex, _ = planted()
    found = held_out(x[:80], age[:80], x[80:], age[80:], "ridge")
    assert found["r2"] > 0.5
    assert set(found) == {"r2", "r", "mae"}
    blind = held_out(np.zeros((80, 2)), age[:80], np.zeros((40, 2)), age[80:] + 100, "ridge")
    assert blind["r2"] == pytest.approx(0, abs=1e-9)
    assert blind["r"] == 0
    found = held_out(x[:80], sex[:80], x[80:], sex[80:], "logistic", train_groups=np.arange(80) % 7)
    assert set(found) == {"auc", "balanced_accuracy"}
    assert found["auc"] > 0.8
    assert found["balanced_accuracy"] > 0.65


def test_scores__agree_with_scikit_learn():
    rng = np.random.default_rng(0)
    sex = rng.choice(["F", "M"], 50)
    decision = np.round(rng.normal(size=50) + (sex == "M"), 1)  # with ties
    assert auc(sex, decision) == pytest.approx(roc_auc_score(sex == "M", decision))
    assert balanced_accuracy(sex, decision) == pytest.approx(balanced_accuracy_score(sex == "M", decision > 0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"groups": np.zeros(N)}, r"1 group\(s\) in 5 fold\(s\); out-of-fold predictions need at least 2 of each"),
        ({"groups": [None] * N}, f"the group is missing in {N} rows"),
        ({"groups": [1, 2]}, rf"groups have shape \(2,\), there are {N} rows"),
        ({"x": np.full((N, 2), np.inf)}, f"x holds {2 * N} values that are NaN or infinite"),
        ({"x": np.ones(N)}, rf"x is \(n, d\), got shape \({N},\)"),
        ({"y": np.full(N, np.nan)}, f"the target is missing in {N} rows; leave these rows out"),
        ({"y": np.full(N, np.inf)}, "has to be finite and to vary"),
        ({"y": np.ones(N)}, "has to be finite and to vary"),
        ({"y": np.ones(N), "kind": "logistic"}, r"a logistic probe needs two classes, got \[1.0\]"),
        ({"y": np.arange(N) // 15 == 0, "groups": np.arange(N) // 15, "kind": "logistic"}, "one class only; use fewer"),
        ({"y": np.arange(N) < 2, "groups": np.arange(N) % 2, "kind": "logistic"}, "has one row of a class"),
        ({"y": np.arange(N) % 4 < 2, "groups": np.arange(N) % 4, "kind": "logistic"}, "one class only; use fewer"),
        ({"kind": "lasso"}, "kind is 'ridge' or 'logistic', got 'lasso'"),
        ({"x": np.ones((N - 1, 2)), "groups": np.arange(N)}, rf"the target has shape \({N},\), there are {N - 1} rows"),
    ],
)
def test_out_of_fold__refuses(change, message):
    x, age, _, site = planted()
    values = {"x": x, "y": age, "groups": site, "kind": "ridge"} | change
    with pytest.raises(ValueError, match=message):
        out_of_fold(values["x"], values["y"], values["groups"], kind=values["kind"])


def test_held_out__refuses():
    x, age, sex, _ = planted()
    with pytest.raises(ValueError, match="train_x has 10 dimensions, test_x 9"):
        held_out(x, age, x[:, 1:], age, "ridge")
    with pytest.raises(ValueError, match=r"test_y has the classes \['F', 'X'\], train_y \['F', 'M'\]"):
        held_out(x, sex, x, np.where(sex == "M", "X", "F"), "logistic")
    with pytest.raises(ValueError, match=r"needs two classes, got \['M'\]"):
        held_out(x, sex, x[:3], np.repeat("M", 3), "logistic")

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, balanced_accuracy_score, brier_score_loss, roc_auc_score

from boldstream.analysis.metrics import as_target, auc, auprc, balanced_accuracy, brier, pearson, r2


def test_scores__of_a_perfect_and_of_a_blind_ridge():
    y, null = np.array([1.0, 2.0, 6.0]), np.array([2.0, 2.0, 2.0])
    assert (r2(y, y, null), pearson(y, y, null)) == (1.0, pytest.approx(1.0))
    assert (r2(y, null, null), pearson(y, null, null)) == (0.0, 0.0)
    assert r2(y, null, np.zeros(3)) == pytest.approx(1 - 17 / 41)


@pytest.mark.parametrize(
    ("y", "kind", "message"),
    [
        ([1.0, np.nan], "ridge", "the target is missing in 1 rows; leave these rows out"),
        ([1.0, np.inf], "ridge", "has to be finite and to vary"),
        ([1.0, 1.0], "ridge", "has to be finite and to vary"),
        ([1.0], "ridge", r"the target has shape \(1,\), there are 2 rows"),
        (["M", "M"], "logistic", r"a logistic probe needs two classes, got \['M'\]"),
        ([1.0, 2.0], "lasso", "kind is 'ridge' or 'logistic', got 'lasso'"),
    ],
)
def test_target__refuses(y, kind, message):
    with pytest.raises(ValueError, match=message):
        as_target(y, kind, 2)


def test_classes__are_scored_as_scikit_learn_does():
    rng = np.random.default_rng(0)
    sex = rng.choice(["F", "M"], 50)
    decision = np.round(rng.normal(size=50) + (sex == "M"), 1)  # with ties
    assert auc(sex, decision) == pytest.approx(roc_auc_score(sex == "M", decision))
    assert balanced_accuracy(sex, decision) == pytest.approx(balanced_accuracy_score(sex == "M", decision > 0))


def test_statistics__of_one_class_or_a_constant_target_are_nan():
    one, values = np.ones(3), np.arange(3.0)
    assert all(np.isnan([auc(one, values), balanced_accuracy(one, values), pearson(one, values), r2(one, values, one)]))


def test_auc__inside_folds_is_free_of_their_offsets():
    rng = np.random.default_rng(0)
    y, folds = rng.integers(0, 2, 200), np.arange(200) % 4
    decision = 0.5 * y + rng.normal(size=200)
    inside = auc(y, decision, folds)
    counts = [(y[folds == f].sum() * (1 - y[folds == f]).sum()) for f in range(4)]
    each = [auc(y[folds == f], decision[folds == f]) for f in range(4)]
    assert inside == pytest.approx(np.average(each, weights=counts))
    assert auc(y, decision + 10 * folds, folds) == inside
    assert abs(auc(y, decision + 10 * folds) - inside) > 0.05
    assert np.isnan(auc(y, decision, y))


def test_pearson__of_training_means_is_zero_against_them():
    rng = np.random.default_rng(0)
    site = np.arange(3000) % 3
    y = 10.0 * site + rng.normal(size=3000)
    null = np.array([y[site != s].mean() for s in range(3)])[site]
    blind = null + 0.01 * rng.normal(size=3000)
    assert pearson(y, blind) < -0.9
    assert abs(pearson(y, blind, null)) < 0.06
    assert pearson(y, null + 1e-14 * rng.normal(size=3000), null) == 0
    assert pearson(y, y, null) == pytest.approx(1)


def test_auprc_and_brier__agree_with_scikit_learn():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 80)
    chance = np.clip(0.5 * y + rng.random(80) / 2, 0, 1).round(1)  # with ties
    assert auprc(y, chance) == pytest.approx(average_precision_score(y, chance))
    assert brier(y, chance) == pytest.approx(brier_score_loss(y, chance))
    assert np.isnan(auprc(np.ones(3), np.arange(3.0)))

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, brier_score_loss

from boldstream.analysis.metrics import auc, auprc, balanced_accuracy, brier, pearson, r2, scores


def test_scores__of_a_perfect_and_of_a_blind_ridge():
    y, null = np.array([1.0, 2.0, 6.0]), np.array([2.0, 2.0, 2.0])
    assert scores(y, y, "ridge", baseline=null) == {"r2": 1.0, "r": pytest.approx(1.0), "mae": 0.0}
    assert scores(y, null, "ridge", baseline=null) == {"r2": 0.0, "r": 0.0, "mae": pytest.approx(5 / 3)}
    assert scores(y, null, "ridge", baseline=0.0)["r2"] == pytest.approx(1 - 17 / 41)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"baseline": None}, "R2 and r of a ridge probe need a baseline"),
        ({"predicted": [np.nan, 1.0]}, "predicted holds 1 values that are NaN"),
        ({"predicted": [1.0]}, r"the target has shape \(2,\), there are 1 rows"),
        ({"kind": "logistic", "y": ["M", "M"]}, r"a logistic probe needs two classes, got \['M'\]"),
    ],
)
def test_scores__refuse(values, message):
    values = {"y": [1.0, 2.0], "predicted": [1.0, 2.0], "kind": "ridge", "baseline": 1.5} | values
    with pytest.raises(ValueError, match=message):
        scores(values["y"], values["predicted"], values["kind"], baseline=values["baseline"])


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

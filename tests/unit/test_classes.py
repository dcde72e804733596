"""Three classes and more, against scikit-learn's numbers and by hand: metrics, heads, folds, permutations, transfer."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, balanced_accuracy_score, brier_score_loss, roc_auc_score
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from boldstream.analysis import null_scores
from boldstream.analysis.baselines import MeanHead
from boldstream.analysis.calibration import calibration_of_classes, calibration_of_several
from boldstream.analysis.contest import contest
from boldstream.analysis.folds import nested_folds
from boldstream.analysis.heads.attention import AttentionHead
from boldstream.analysis.heads.catalog import make_head
from boldstream.analysis.heads.linear_classifiers import LogisticHead, SvmHead
from boldstream.analysis.heads.mlp import MlpHead
from boldstream.analysis.heads.neighbours import NeighboursHead
from boldstream.analysis.heads.prototypes import PrototypeHead
from boldstream.analysis.heads.ridge import RidgeHead
from boldstream.analysis.metrics import (
    as_codes,
    auc,
    balanced_accuracy,
    brier,
    brier_of_classes,
    indicators,
    macro_auc,
    macro_auprc,
    macro_recall,
)
from boldstream.analysis.nested import METRICS, as_probabilities, over_share, predict_nested, score
from boldstream.analysis.null_scores import permutation_null, permutation_test
from boldstream.analysis.permutations import exchange, permuted_targets
from boldstream.analysis.transfer import Side, calibration, transfer

N, D = 150, 4
HEADS = ("ridge", "kernel_ridge", "knn", "mlp", "logistic", "svm", "prototype")
CENTRES = np.array([[2.0, 0, 0, 0], [0, 2.0, 0, 0], [0, 0, 2.0, 0]])


def study(seed=0, shares=(0.5, 0.3, 0.2), strength=1.0, n=N):
    """Scans of three sites, three classes of different frequency around centres of their own."""
    rng = np.random.default_rng(seed)
    codes = rng.choice(3, n, p=shares)
    scans = pd.DataFrame({"scan": np.arange(n), "subject": np.arange(n), "site": rng.choice(["a", "b", "c"], n)})
    return scans, rng.normal(size=(n, D)) + strength * CENTRES[codes], codes


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), n_classes=st.integers(3, 5))
def test_metrics__are_scikit_learns(seed, n_classes):
    rng = np.random.default_rng(seed)
    codes = np.concatenate([np.arange(n_classes), rng.integers(0, n_classes, 40)])
    # coarse, so that there are ties
    odds = np.round(rng.normal(size=(len(codes), n_classes)), 1) + 2 * indicators(codes, n_classes)
    chance = np.exp(odds) / np.exp(odds).sum(axis=1, keepdims=True)
    by_sklearn = roc_auc_score(codes, chance, multi_class="ovr", average="macro")
    assert macro_auc(codes, chance) == pytest.approx(by_sklearn)
    shown = indicators(codes, n_classes)
    assert macro_auprc(codes, chance) == pytest.approx(average_precision_score(shown, chance, average="macro"))
    guess = chance.argmax(axis=1)
    assert macro_recall(codes, chance) == pytest.approx(balanced_accuracy_score(codes, guess))
    assert brier_of_classes(codes, chance) == pytest.approx(brier_score_loss(codes, chance))


def test_metrics__of_two_columns_are_those_of_two_classes():
    rng = np.random.default_rng(0)
    y, chance = rng.integers(0, 2, 60), rng.uniform(size=60)
    both, folds = np.stack([1 - chance, chance], axis=1), rng.integers(0, 3, 60)
    assert macro_auc(y, both, folds) == pytest.approx(auc(y, chance, folds))
    assert macro_recall(y, both) == pytest.approx(balanced_accuracy(y, chance - 0.5))
    assert brier_of_classes(y, both) == pytest.approx(2 * brier(y, chance))


def test_metrics__of_a_class_that_is_not_there_are_nan_and_knowing_nothing_is_chance():
    y = np.array([0, 1, 0, 1])
    decision = np.zeros((4, 3))
    assert all(np.isnan(one(y, decision)) for one in (macro_auc, macro_auprc, macro_recall))
    y = np.array([0, 1, 2, 2])
    assert (macro_auc(y, decision), macro_recall(y, decision)) == (0.5, pytest.approx(1 / 3))


def test_codes__are_in_sorted_order():
    assert as_codes(["b", "a", "c"], 3).tolist() == [1, 0, 2]
    with pytest.raises(ValueError, match=r"a classifier needs two classes or more, got \['a'\]"):
        as_codes(["a", "a"], 2)


def test_predictions_of_regressors__become_probabilities_and_decisions():
    share = np.array([0.5, 0.3, 0.2])
    guess = np.array([[0.5, 0.3, 0.2], [0.6, -0.1, 0.4], [-1.0, -1.0, -1.0]])
    np.testing.assert_allclose(as_probabilities(guess, share), [[0.5, 0.3, 0.2], [0.6, 0, 0.4], share])
    np.testing.assert_allclose(over_share(guess, share)[:2], [[0, 0, 0], [0.2, -4 / 3, 1]], atol=1e-12)
    np.testing.assert_array_equal(over_share(guess[:1], np.array([0.7, 0.3, 0.0]))[0, 2], 0)


@pytest.mark.parametrize("name", HEADS)
def test_heads__tell_planted_classes_and_their_probabilities_are_right(name):
    scans, x, codes = study()
    names = np.array(["healthy", "ill", "other"])[codes]
    folds = nested_folds(scans, names, n_folds=3, n_inner=3)
    found = predict_nested(x, names, folds, make_head(name, "multiclass"), kind="multiclass", front=StandardScaler())
    np.testing.assert_array_equal(found.y, codes)
    assert found.predicted.shape == found.null.shape == found.probability.shape == (N, 1, 3)
    np.testing.assert_allclose(found.probability.sum(axis=2), 1)
    np.testing.assert_allclose(found.null[:, 0].mean(axis=0), np.bincount(codes) / N, atol=0.02)
    told = score(found, "multiclass")
    assert list(told) == ["auroc", "balanced_accuracy", "auprc", "brier"]
    assert told["auroc"] > 0.85
    # a rare class is not given up for the others
    assert told["balanced_accuracy"] > 0.7
    knowing_nothing = score(predict_nested(x, names, folds, MeanHead(), kind="multiclass"), "multiclass")
    assert (knowing_nothing["auroc"], knowing_nothing["balanced_accuracy"]) == (0.5, pytest.approx(1 / 3))
    assert told["brier"] < knowing_nothing["brier"] - 0.15
    shuffled = np.random.default_rng(9).permutation(names)
    lost = predict_nested(x, shuffled, folds, make_head(name, "multiclass"), kind="multiclass", front=StandardScaler())
    assert score(lost, "multiclass")["auroc"] < 0.6


def test_logistic__is_scikit_learns_multinomial_at_the_strength_that_inner_folds_choose():
    _, x, codes = study()
    folds = np.arange(N) % 3
    fitted = LogisticHead((0.1, 10.0)).fit(x, codes, folds)
    centred = x - x.mean(axis=0)
    centred /= np.sqrt(np.square(centred).sum() / N)
    areas = []
    for strength in (0.1, 10.0):
        out = np.empty((N, 3))
        for fold in range(3):
            model = LogisticRegression(C=strength, tol=1e-8, max_iter=10_000)
            out[folds == fold] = model.fit(centred[folds != fold], codes[folds != fold]).predict_proba(
                centred[folds == fold]
            )
        areas.append(macro_auc(codes, out, folds))
    assert fitted.strength_ == (0.1, 10.0)[int(np.argmax(areas))]
    assert fitted.auc_ == pytest.approx(max(areas), abs=1e-4)
    whole = LogisticRegression(C=fitted.strength_, tol=1e-8, max_iter=10_000).fit(centred, codes)
    np.testing.assert_allclose(fitted.predict_proba(x), whole.predict_proba(centred), atol=1e-4)
    # decided at equal shares
    weighed = whole.predict_proba(centred) / (np.bincount(codes) / N)
    np.testing.assert_array_equal(fitted.predict(x), weighed.argmax(axis=1))


def test_svm__is_a_machine_a_class_against_the_rest():
    _, x, codes = study()
    fitted = SvmHead((1.0,)).fit(x, codes, np.arange(N) % 3)
    centred = x - x.mean(axis=0)
    centred /= np.sqrt(np.square(centred).sum() / N)
    for label in range(3):
        alone = LinearSVC(C=1.0, dual=False, class_weight="balanced", intercept_scaling=10.0, max_iter=10_000)
        alone.fit(centred, codes == label)
        np.testing.assert_allclose(fitted.decision_function(x)[:, label], alone.decision_function(centred), rtol=1e-5)


def test_prototypes_and_neighbours__are_scikit_learns():
    _, x, codes = study()
    nearest = PrototypeHead().fit(x, codes)
    np.testing.assert_array_equal(nearest.predict(x), NearestCentroid().fit(x, codes).predict(x))
    decision = nearest.decision_function(x)
    assert ((decision > 0).sum(axis=1) == 1).all()
    # of two classes the decision is the one that there is of two
    pair = codes < 2
    two = PrototypeHead().fit(x[pair], codes[pair])
    both = np.stack([two.decision_function(x[pair]) < 0, two.decision_function(x[pair]) > 0], axis=1)
    np.testing.assert_array_equal(both.argmax(axis=1), NearestCentroid().fit(x[pair], codes[pair]).predict(x[pair]))
    shares = NeighboursHead((7,)).fit(x, indicators(codes, 3)).predict(x)
    np.testing.assert_allclose(shares, KNeighborsClassifier(7).fit(x, codes).predict_proba(x))


def test_heads__that_are_trained_by_steps_take_a_column_a_class():
    _, x, codes = study()
    shown = indicators(codes, 3)
    for head in (MlpHead("multiclass", epochs=(2, 32)), AttentionHead("multiclass", epochs=(0, 40))):
        rows = x if isinstance(head, MlpHead) else (x[:, None] + np.zeros((1, 5, 1)))
        found = head.fit(rows, shown).predict(rows)
        np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
        assert balanced_accuracy_score(codes, found.argmax(axis=1)) > 0.6
    untrained = AttentionHead("multiclass", epochs=(0,)).fit(x[:, None], shown)
    np.testing.assert_allclose(untrained.predict(x[:3, None]), np.tile(shown.mean(axis=0), (3, 1)), rtol=1e-5)


@pytest.mark.parametrize(
    ("kind", "y", "message"),
    [
        ("multiclass", np.arange(6) % 3, r"a multiclass target has a column of 0 and 1 a class, got \[0.0, 1.0, 2.0\]"),
        ("multiclass", np.ones((6, 3)) * [1, 1, 0], "a multiclass target has one 1 in every row"),
        ("binary", np.eye(6)[:, :3], r"a binary target is 0 and 1, got \[0.0, 1.0\] of shape \(6, 3\)"),
    ],
)
def test_heads__that_are_trained_by_steps_refuse_other_targets(kind, y, message):
    with pytest.raises(ValueError, match=message):
        MlpHead(kind).fit(np.eye(6), y)


def test_classifiers__name_the_class_that_is_missing():
    scans, x, codes = study()
    names = np.array(["healthy", "ill", "other"])[codes]
    with pytest.raises(ValueError, match="the rows outside an inner fold have nobody of class other; use fewer or"):
        PrototypeHead().fit(x, names, np.where(names == "other", 2, np.arange(N) % 2))
    folds = nested_folds(scans, n_folds=3, n_inner=2)
    alone = np.where(folds.outer[0] == 0, "other", np.where(codes == 1, "ill", "healthy"))
    with pytest.raises(ValueError, match=r"no row of a training fold is of class 2 \(in sorted order, from 0\)"):
        predict_nested(x, alone, folds, LogisticHead(), kind="multiclass")
    with pytest.raises(ValueError, match="no inner fold has rows of some class and of others"):
        LogisticHead().fit(x, np.arange(N) % 3, np.where(np.arange(N) % 3 == 0, 0, 1) + 2 * (np.arange(N) % 2))


@pytest.mark.parametrize("at_once", [null_scores.MOST_AT_ONCE, 3 * N * 3])
def test_permutations__as_columns_of_one_fit_are_what_refits_give(monkeypatch, at_once):
    scans, x, codes = study(strength=0.3)
    folds = nested_folds(scans, codes.astype(str), n_folds=3, n_inner=3)
    drawn = permuted_targets(codes.astype(float), exchange(scans["subject"], 7, blocks=scans["site"]))
    monkeypatch.setattr(null_scores, "MOST_AT_ONCE", at_once)
    head = RidgeHead((0.01, 1.0))
    for metric in ("auroc", "balanced_accuracy", "auprc", "brier"):
        fast = permutation_null(x, drawn, folds, head, kind="multiclass", metric=metric)
        plain = [
            METRICS["multiclass"][metric](*predict_nested(x, y, folds, head, kind="multiclass").arrays) for y in drawn.T
        ]
        np.testing.assert_allclose(fast, plain, atol=1e-12)


def test_contest__of_classes_is_paired_and_has_no_delong():
    scans, x, codes = study()
    folds = nested_folds(scans, codes.astype(str), n_folds=3, n_inner=3)
    whole, part = (predict_nested(z, codes, folds, RidgeHead(), kind="multiclass") for z in (x, x[:, 2:]))
    found = contest(whole, part, "multiclass", units=folds.groups, n=100)
    assert (found.metric, found.verdict) == ("auroc", "better")
    assert np.isnan(found.delong_p)
    p = permutation_test(
        whole,
        permutation_null(
            x,
            permuted_targets(codes.astype(float), exchange(scans["subject"], 19)),
            folds,
            RidgeHead(),
            kind="multiclass",
        ),
        "multiclass",
    )
    assert p == pytest.approx(1 / 20)


def test_calibration__of_classes_is_the_mean_of_each_against_the_rest():
    rng = np.random.default_rng(0)
    chance = rng.dirichlet([2, 1, 1], 4000)
    codes = (rng.uniform(size=(4000, 1)) > chance.cumsum(axis=1)).sum(axis=1)
    right = calibration_of_several(codes, chance)
    assert right.in_the_large < 0.02
    assert right.slope == pytest.approx(1, abs=0.08)
    each = [calibration_of_classes(codes == label, chance[:, label]) for label in range(3)]
    assert right.error == pytest.approx(np.mean([one.error for one in each]))
    biased = chance * [1, 1, 3]
    wrong = calibration_of_several(codes, biased / biased.sum(axis=1, keepdims=True))
    assert wrong.in_the_large == pytest.approx(0.17, abs=0.03)
    assert wrong.error > right.error


@pytest.mark.parametrize("name", ["logistic", "ridge", "prototype"])
def test_transfer__of_classes_carries_over_and_calibration_is_mended(name):
    sides = []
    for seed, who, shares in ((0, "s", (0.5, 0.3, 0.2)), (1, "t", (0.2, 0.3, 0.5))):
        scans, x, codes = study(seed, shares, n=300)
        named = scans.assign(scan=who + scans["scan"].astype(str), subject=who + scans["subject"].astype(str))
        sides.append(Side(x, np.array(["a", "b", "c"])[codes], named))
    found = transfer(*sides, make_head(name, "multiclass"), kind="multiclass", front=StandardScaler())
    assert set(found.versions) == {"unchanged", "recentred", "recalibrated"}
    assert score(found.unchanged, "multiclass")["auroc"] > 0.9
    np.testing.assert_allclose(found.unchanged.null[0, 0], np.unique(sides[0].y, return_counts=True)[1] / 300)
    told = {version: calibration(one, "multiclass") for version, one in found.versions.items()}
    # the source's shares are not those of the target
    assert told["recalibrated"].in_the_large < told["unchanged"].in_the_large / 2
    assert score(found.recalibrated, "multiclass")["brier"] < score(found.unchanged, "multiclass")["brier"]
    with pytest.raises(ValueError, match=r"both cohorts need the same three classes or more, got \['a', 'b'"):
        transfer(sides[0], sides[1]._replace(y=np.full(300, "z")), make_head(name, "multiclass"), kind="multiclass")

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from boldstream.analysis.baselines import MeanHead
from boldstream.analysis.folds import nested_folds
from boldstream.analysis.heads.linear_classifiers import LogisticHead
from boldstream.analysis.heads.neighbours import NeighboursHead
from boldstream.analysis.heads.ridge import KernelRidgeHead, RidgeHead
from boldstream.analysis.metrics import auc
from boldstream.analysis.nested import METRICS, predict_nested, score
from boldstream.analysis.null_scores import permutation_null, permutation_test
from boldstream.analysis.permutations import exchange, permuted_targets

N = 120


def study(d=6, seed=0):
    rng = np.random.default_rng(seed)
    scans = pd.DataFrame({"scan": np.arange(N), "subject": np.arange(N), "site": rng.choice(["a", "b", "c"], N)})
    x = rng.normal(size=(N, d)) * rng.uniform(0.5, 4, d)
    y = 50 + x @ rng.normal(size=d) + rng.normal(size=N)
    return scans, x, y


def test_predict_nested__is_what_a_loop_by_hand_gives():
    scans, x, y = study()
    folds = nested_folds(scans, y, n_repeats=2)
    found = predict_nested(x, y, folds, RidgeHead((5.0,), relative=False), kind="continuous", front=StandardScaler())
    for split in folds.splits():
        scaler = StandardScaler().fit(x[split.train])
        model = Ridge(5.0).fit(scaler.transform(x[split.train]), y[split.train])
        by_hand = model.predict(scaler.transform(x[split.test]))
        np.testing.assert_allclose(found.predicted[split.test, split.repeat], by_hand)
        assert (found.null[split.test, split.repeat] == y[split.train].mean()).all()
    scores = score(found, "continuous")
    by_repeat = [
        1 - np.square(y - found.predicted[:, k]).sum() / np.square(y - found.null[:, k]).sum() for k in range(2)
    ]
    assert scores["r2"] == pytest.approx(np.mean(by_repeat))
    assert scores["r2"] > 0.8
    assert set(scores) == {"r2", "r", "mae"}
    assert found.folds_id == folds.id


@pytest.mark.parametrize("head", [LogisticHead(), RidgeHead(), NeighboursHead(), KernelRidgeHead("linear")])
def test_predict_nested__of_two_classes_takes_classifiers_and_regressors(head):
    scans, x, y = study()
    ill = np.where(y > np.quantile(y, 0.7), "ill", "well")
    folds = nested_folds(scans, ill)
    found = predict_nested(x, ill, folds, head, kind="binary", front=StandardScaler())
    np.testing.assert_array_equal(found.y, ill == "well")
    scores = score(found, "binary")
    assert scores["auroc"] == pytest.approx(auc(ill, found.predicted[:, 0], found.fold[:, 0]))
    assert scores["auroc"] > 0.85
    assert scores["balanced_accuracy"] > 0.7
    assert scores["auprc"] > 0.9
    assert scores["brier"] < 0.8 * 0.3 * 0.7
    assert ((found.probability >= 0) & (found.probability <= 1)).all()


def test_score__of_knowing_nothing_is_nothing():
    scans, x, y = study()
    folds = nested_folds(scans, y)
    assert score(predict_nested(x, y, folds, MeanHead(), kind="continuous"), "continuous")["r2"] == 0
    ill = y > np.quantile(y, 0.7)
    found = score(predict_nested(x, ill, nested_folds(scans, ill), MeanHead(), kind="binary"), "binary")
    assert (found["auroc"], found["balanced_accuracy"]) == (0.5, 0.5)
    assert found["brier"] == pytest.approx(0.3 * 0.7, abs=0.001)


class Spy(TransformerMixin, BaseEstimator):
    """A front that says what it is given."""

    given: list

    def __init__(self, given=None):
        self.given = given

    def __sklearn_clone__(self):
        return self

    def fit(self, X, y=None, covariates=None):
        self.given.append((len(X), y, None if covariates is None else list(covariates["fd"])))
        self.rows_ = set(X[:, 0])
        return self

    def transform(self, X, covariates=None):
        assert covariates is None or list(covariates["fd"]) == list(X[:, 0])
        return X


def test_predict_nested__fits_the_front_to_training_rows_alone_and_shows_it_no_target():
    scans, x, y = study()
    covariates = pd.DataFrame({"fd": x[:, 0]})
    folds = nested_folds(scans, y)
    for beside in (None, covariates):
        spy = Spy([])
        predict_nested(x, y, folds, RidgeHead(), kind="continuous", front=spy, covariates=beside)
        assert [n for n, *_ in spy.given] == [len(split.train) for split in folds.splits()]
        assert all(target is None for _, target, _ in spy.given)
    assert [list(x[split.train, 0]) for split in folds.splits()] == [fd for *_, fd in spy.given]


@pytest.mark.parametrize("head", [RidgeHead(), KernelRidgeHead("correlation"), KernelRidgeHead("rbf")])
@pytest.mark.parametrize("kind", ["continuous", "binary"])
def test_permutation_null__is_that_of_refits(kind, head):
    scans, x, y = study()
    target = y if kind == "continuous" else (y > 50).astype(float)
    folds = nested_folds(scans, target, n_repeats=2)
    drawn = permuted_targets(target, exchange(scans["subject"], 3, blocks=scans["site"]))
    front = make_pipeline(StandardScaler(), PCA(4))
    for metric in list(METRICS[kind])[:: 1 if isinstance(head, RidgeHead) else 3]:
        at_once = permutation_null(x, drawn, folds, head, kind=kind, front=front, metric=metric)
        one_by_one = [
            METRICS[kind][metric](*predict_nested(x, column, folds, head, kind=kind, front=front).arrays)
            for column in drawn.T
        ]
        np.testing.assert_allclose(at_once, one_by_one, rtol=1e-8)


def test_permutation_null__of_other_heads_is_of_refits():
    kind = "continuous"
    scans, x, y = study()
    folds = nested_folds(scans, y)
    drawn = permuted_targets(y, exchange(scans["subject"], 2, blocks=scans["site"]))
    knn = permutation_null(x, drawn[:, :2], folds, NeighboursHead(), kind=kind)
    expected = [score(predict_nested(x, c, folds, NeighboursHead(), kind=kind), kind) for c in drawn[:, :2].T]
    np.testing.assert_allclose(knn, [next(iter(one.values())) for one in expected])


def test_permutation_test__finds_a_signal_and_low_errors_are_good():
    scans, x, y = study()
    folds = nested_folds(scans, y)
    drawn = permuted_targets(y, exchange(scans["subject"], 99, blocks=scans["site"]))
    found = predict_nested(x, y, folds, RidgeHead(), kind="continuous")
    for metric in ("r2", "mae"):
        null = permutation_null(x, drawn, folds, RidgeHead(), kind="continuous", metric=metric)
        assert permutation_test(found, null, "continuous", metric) == pytest.approx(0.01)
    blind = predict_nested(np.random.default_rng(5).normal(size=x.shape), y, folds, RidgeHead(), kind="continuous")
    assert permutation_test(blind, null, "continuous", "mae") > 0.1


def test_predict_nested__takes_frames_and_lists():
    scans, x, y = study()
    folds = nested_folds(scans, y)
    expected = predict_nested(x, y, folds, RidgeHead(), kind="continuous").predicted
    for other in (pd.DataFrame(x), list(x)):
        found = predict_nested(other, y, folds, RidgeHead(), kind="continuous")
        np.testing.assert_allclose(found.predicted, expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.ones((3, 2))}, "x has 3 rows, folds-[0-9a-f]+ is of 120 scans"),
        ({"y": np.ones(3)}, r"the target has shape \(3,\), there are 120 rows"),
        ({"covariates": pd.DataFrame({"fd": [1.0]})}, "covariates has 1 rows"),
    ],
)
def test_predict_nested__refuses(change, message):
    scans, x, y = study()
    values = {"x": x, "y": y, "covariates": None} | change
    with pytest.raises(ValueError, match=message):
        predict_nested(
            values["x"], values["y"], nested_folds(scans, y), RidgeHead(), kind="continuous",
            covariates=values["covariates"],
        )  # fmt: skip

import numpy as np
import pandas as pd
import pytest
from sklearn.preprocessing import StandardScaler

from boldstream.analysis.folds import nested_folds
from boldstream.analysis.heads.attention import AttentionHead
from boldstream.analysis.heads.catalog import make_head
from boldstream.analysis.leakage import check_out_of_fold
from boldstream.analysis.nested import predict_nested, score
from latents import SPECIAL, latents_of

N, N_ROIS, D = 150, 10, 4


def study(seed=0):
    rng = np.random.default_rng(seed)
    y = rng.normal(size=N)
    x = latents_of(y, N_ROIS, D, rng)
    people = pd.DataFrame({"scan": np.arange(N), "subject": np.arange(N)})
    return x, y, nested_folds(people, y, n_folds=3, n_inner=3)


def test_query__finds_the_region_that_matters():
    x, y, folds = study()
    pooled = score(predict_nested(x, y, folds, AttentionHead(), kind="continuous"), "continuous")["r2"]
    front = {"kind": "continuous", "front": StandardScaler()}
    mean = score(predict_nested(x.mean(axis=1), y, folds, make_head("ridge", "continuous"), **front), "continuous")[
        "r2"
    ]
    assert mean < 0.2
    assert pooled > mean + 0.2
    fitted = AttentionHead().fit(x, y)
    assert fitted.attention_.argmax() == SPECIAL
    assert fitted.attention_.sum() == pytest.approx(1)
    # nothing is drawn
    np.testing.assert_array_equal(fitted.predict(x), AttentionHead().fit(x, y).predict(x))
    classes = (y > 0).astype(float)
    found = score(predict_nested(x, classes, folds, AttentionHead("binary"), kind="binary"), "binary")
    assert found["auroc"] > 0.8
    assert found["brier"] < 0.2


def test_without_a_signal__the_mean_is_predicted():
    x, y, folds = study()
    noise = np.random.default_rng(5).permutation(y)
    found = score(predict_nested(x, noise, folds, AttentionHead(), kind="continuous"), "continuous")
    assert abs(found["r2"]) < 0.1
    untrained = AttentionHead(epochs=(0,)).fit(x, y)
    assert untrained.epochs_ == 0
    np.testing.assert_allclose(untrained.predict(x), y.mean(), atol=1e-6)
    np.testing.assert_allclose(untrained.attention_, 1 / N_ROIS, rtol=1e-5)
    shares = AttentionHead("binary", epochs=(0,)).fit(x, (y > 0.5).astype(float))
    np.testing.assert_allclose(shares.predict(x), (y > 0.5).mean(), rtol=1e-5)


def test_head__sees_nothing_of_test_rows():
    x, y, folds = study()

    def predict(vectors, target):
        latents = vectors.reshape(N, N_ROIS, D)
        return predict_nested(latents, target, folds, AttentionHead(epochs=(0, 5)), kind="continuous").predicted

    def careless(vectors, target):
        strength = np.abs([np.corrcoef(vectors[:, at], target)[0, 1] for at in range(vectors.shape[1])])
        return predict(np.where(strength >= np.sort(strength)[-5], vectors, 0.0), target)

    check_out_of_fold(predict, x.reshape(N, -1), y, folds)
    with pytest.raises(ValueError, match=r"the target leaks|fitted to test rows"):
        check_out_of_fold(careless, x.reshape(N, -1), y, folds)


def test_constant_latents__do_no_harm():
    x, y, _ = study()
    x[:, :, 2] = 7.0
    assert np.isfinite(AttentionHead(epochs=(5,)).fit(x, y).predict(x)).all()


@pytest.mark.parametrize(
    ("x", "y", "kind", "message"),
    [
        (np.zeros((4, 3)), np.arange(4), "continuous", r"latents are \(n, n_rois, d\), got shape \(4, 3\)"),
        (np.full((4, 3, 2), np.nan), np.arange(4), "continuous", "latents hold 24 values that are NaN or infinite"),
        (np.zeros((4, 3, 2)), np.arange(4), "binary", "a binary target is 0 and 1, got"),
    ],
)
def test_latents__that_cannot_be_pooled_are_refused(x, y, kind, message):
    with pytest.raises(ValueError, match=message):
        AttentionHead(kind).fit(x, y)

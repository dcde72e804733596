"""Attention pooling as a step: what the query has learnt, applied to any rows, stored and restored."""

import json
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.exceptions import NotFittedError

from boldstream.analysis import pooling
from boldstream.analysis.adjustment import Adjustment
from boldstream.analysis.folds import nested_folds
from boldstream.analysis.fronts import AdjustedFeatures
from boldstream.analysis.heads.attention import AttentionHead
from boldstream.analysis.heads.catalog import make_head
from boldstream.analysis.leakage import check_out_of_fold
from boldstream.analysis.nested import predict_nested, score
from boldstream.analysis.null_scores import permutation_null
from boldstream.analysis.pooling import AttentionPooling
from boldstream.analysis.steps import AttentionStep, ProjectStep, ResidualizeStep, ZscoreStep, part_attention
from latents import SPECIAL, latents_of

N, N_ROIS, D = 60, 8, 4
ZSCORE = ZscoreStep(step="zscore")


def study(seed=0):
    """Latents of which one region holds the target, and the folds of their rows."""
    rng = np.random.default_rng(seed)
    y = rng.normal(size=N)
    people = pd.DataFrame({"scan": np.arange(N), "subject": np.arange(N)})
    return latents_of(y, N_ROIS, D, rng), y, nested_folds(people, y, n_folds=3, n_inner=3)


def test_pooled_vectors__are_what_the_head_reads():
    """The head's readout, on the step's vectors, gives the head's predictions."""
    x, y, _ = study()
    head = AttentionHead(epochs=(40,)).fit(x, y)
    pooled = AttentionPooling(epochs=(40,)).fit_transform(x, y)
    assert (pooled.shape, pooled.dtype) == ((N, D), np.float32)
    read = (pooled - head.centre_.mean(axis=0)) / head.scale_ @ head.model_.weight.numpy()
    found = (read + float(head.model_.offset)) * head.unit_ + head.mean_
    np.testing.assert_allclose(found, head.predict(x), atol=1e-4)
    assert head.attention_.argmax() == SPECIAL
    # it sees the target better than the mean does: one region of eight
    assert np.corrcoef(pooled[:, 1], y)[0, 1] > np.corrcoef(x[:, :, 1].mean(axis=1), y)[0, 1] + 0.2


def test_query__of_three_classes_is_trained_by_all_of_them():
    x, y, folds = study()
    codes = np.digitize(y, np.quantile(y, [1 / 3, 2 / 3])).astype(float)
    codes[:2] = np.nan
    fitted = AttentionPooling("multiclass", epochs=(40,)).fit(x, codes, folds.outer[0])
    assert fitted.n_train_ == N - 2
    pooled = fitted.transform(x)
    assert np.corrcoef(pooled[:, 1], y)[0, 1] > np.corrcoef(x[:, :, 1].mean(axis=1), y)[0, 1] + 0.2
    lone = np.where(np.arange(N) < 3, 2.0, np.arange(N) % 2)
    with pytest.raises(ValueError, match="28 and 29 and 3 rows of 3 classes are too few for a query to be trained on"):
        AttentionPooling("multiclass").fit(x, lone, np.where(np.arange(N) < 3, 0, 1 + np.arange(N) % 2))


def test_untrained_query__gives_the_mean():
    x, y, _ = study()
    fitted = AttentionPooling(epochs=(0,)).fit(x, y)
    assert (fitted.epochs_, fitted.n_train_) == (0, N)
    np.testing.assert_allclose(fitted.transform(x), x.mean(axis=1), atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(shift=st.lists(st.floats(-50, 50, width=32), min_size=D, max_size=D))
def test_what_is_common_to_all_regions__moves_the_vector_and_no_weight(shift):
    x, y, _ = study()
    fitted = AttentionPooling(epochs=(10,)).fit(x, y)
    moved = fitted.transform(x.astype(np.float64) + np.array(shift))
    np.testing.assert_allclose(moved - np.array(shift), fitted.transform(x), atol=1e-4)


def test_every_row__is_pooled_by_itself_to_the_bit(monkeypatch):
    x, y, _ = study()
    fitted = AttentionPooling(epochs=(20,)).fit(x, y)
    whole = fitted.transform(x)
    assert (np.concatenate([fitted.transform(x[[row]]) for row in range(N)]) == whole).all()
    monkeypatch.setattr(pooling, "BLOCK_BYTES", 7 * 8 * N_ROIS * D)
    assert (fitted.transform(x) == whole).all()


def test_fit__leaves_out_rows_without_a_value_and_is_the_same_every_time():
    x, y, folds = study()
    lacking = y.copy()
    lacking[::4] = np.nan
    labels = folds.outer[0]
    there = ~np.isnan(lacking)
    estimator = AttentionPooling(epochs=(0, 10))
    found = clone(estimator).fit(x, lacking, labels)
    same = clone(estimator).fit(x[there], y[there], labels[there])
    assert repr(found.state()) == repr(same.state())
    assert found.n_train_ == there.sum()
    with pytest.raises(NotFittedError):
        estimator.transform(x)


def test_state__restores_exactly_through_json():
    x, y, _ = study()
    fitted = AttentionPooling("binary", epochs=(20,)).fit(x, (y > 0).astype(float))
    arrays, values = fitted.state()
    again = AttentionPooling().restore(arrays, json.loads(json.dumps(values)))
    assert (again.transform(x) == fitted.transform(x)).all()
    with pytest.raises(ValueError, match=r"AttentionPooling lacks \['query_'\], has too much: nothing"):
        AttentionPooling().restore({"centre_": arrays["centre_"]}, values)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((2, N_ROIS + 1, D)), r"latents are 9 x 4 \(regions x dimensions\), the query was trained on 8 x 4"),
        (np.zeros((2, N_ROIS, D - 1)), r"latents are 8 x 3 \(regions x dimensions\), the query was trained on 8 x 4"),
        (np.zeros((2, D)), r"latents are 4 \(regions"),
        (np.full((2, N_ROIS, D), np.inf), "latents of 2 of 2 rows hold NaN or infinite values"),
        (np.stack([np.zeros((N_ROIS, D)), np.full((N_ROIS, D), np.nan)]), "latents of 1 of 2 rows hold NaN"),
    ],
)
def test_latents__that_the_query_does_not_fit_are_refused(x, message):
    known, y, _ = study()
    with pytest.raises(ValueError, match=message):
        AttentionPooling(epochs=(0,)).fit(known, y).transform(x)


@pytest.mark.parametrize(
    ("kind", "y", "folds", "message"),
    [
        ("binary", [0, 0, 0, 1], [0, 0, 1, 1], "3 and 1 rows of two classes are too few for a query to be trained on"),
        ("binary", [0, 0, 0, 0], [0, 0, 1, 1], "4 and 0 rows of two classes are too few"),
        ("continuous", [1, np.nan, np.nan, np.nan], [0, 0, 1, 1], "1 rows with a value are too few"),
        ("continuous", [1, 2, np.nan, np.nan], [0, 0, 1, 1], "2 rows with a value are too few"),
        ("continuous", [1, 2, 3], [0, 0, 1], r"y has shape \(3,\), X has 4 rows"),
    ],
)
def test_rows__that_no_query_can_be_trained_on_are_refused(kind, y, folds, message):
    with pytest.raises(ValueError, match=message):
        AttentionPooling(kind).fit(np.zeros((4, N_ROIS, D)), np.array(y, dtype=float), np.array(folds))


def test_front__is_trained_in_the_fold_alone():
    """The canary: an adjustment behind a query, as the probe room fits it; and a query that has seen everybody."""
    x, y, folds = study()
    epochs, flat = (5,), x.reshape(N, -1).astype(np.float64)
    front = AdjustedFeatures(AttentionPooling(epochs=epochs), Adjustment((ZSCORE,)))
    head = make_head("ridge", "continuous")

    def predict(vectors, target):
        latents = vectors.reshape(x.shape)
        return predict_nested(latents, target, folds, head, kind="continuous", front=front).predicted

    def careless(vectors, target):
        pooled = AttentionPooling(epochs=(80,)).fit_transform(vectors.reshape(x.shape), target)
        return predict_nested(pooled.astype(float), target, folds, head, kind="continuous").predicted

    check_out_of_fold(predict, flat, y, folds)
    with pytest.raises(ValueError, match="the target leaks"):
        check_out_of_fold(careless, flat, y, folds)


class Told(TransformerMixin, BaseEstimator):
    """Features that remember what they were fitted with."""

    reads_target = True
    seen: ClassVar[list] = []

    def fit(self, X, y, folds):
        self.seen.append((y, folds))
        return self

    def transform(self, X):
        return X.mean(axis=1)


def test_features_that_read_the_target__are_given_that_of_training_rows_and_their_inner_folds():
    x, y, folds = study()
    front = AdjustedFeatures(Told(), Adjustment((ZSCORE,)))
    predict_nested(x, y, folds, make_head("ridge", "continuous"), kind="continuous", front=front)
    assert len(Told.seen) == 3
    for (target, labels), split in zip(Told.seen, folds.splits(), strict=True):
        np.testing.assert_array_equal(target, y[split.train])
        np.testing.assert_array_equal(labels, split.inner)


def test_permuted_targets__train_the_query_anew():
    """A ridge takes permuted targets as columns of one fit, but not behind a front that reads the target."""
    x, y, folds = study()
    front = AdjustedFeatures(AttentionPooling(epochs=(80,)), Adjustment((ZSCORE,)))
    head, drawn = make_head("ridge", "continuous"), np.stack([y, np.random.default_rng(1).permutation(y)], axis=1)
    found = permutation_null(x, drawn, folds, head, kind="continuous", front=front)
    one_by_one = [
        score(predict_nested(x, target, folds, head, kind="continuous", front=front), "continuous")["r2"]
        for target in drawn.T
    ]
    np.testing.assert_allclose(found, one_by_one)
    assert found[0] > found[1] + 0.2


def test_steps__are_parted_into_what_pools_and_what_follows():
    attention = AttentionStep(step="attention", target="age")
    rest = (ProjectStep(step="project", dim=4), ZSCORE)
    assert part_attention((attention, *rest)) == (attention, rest)
    assert part_attention(rest) == (None, rest)
    assert part_attention(()) == (None, ())
    for steps in ((ZSCORE, attention), (attention, attention)):
        with pytest.raises(ValueError, match=r"step 'attention: .* trained for age, seed 0': regions are pooled once"):
            part_attention(steps)
    with pytest.raises(ValueError, match=r"target 'age' is a covariate of the step 'residualize: age'.*removes"):
        part_attention((attention, ResidualizeStep(step="residualize", covariates=("age",))))
    told = AttentionStep(step="attention", target={"column": "dx", "classes": ["TC", "ASD"]}, seed=3)
    assert told.describe() == "attention: regions pooled by a query trained for dx (TC or ASD), seed 3"

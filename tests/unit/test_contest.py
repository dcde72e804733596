import numpy as np
import pandas as pd
import pytest

from boldstream.analysis.contest import contest
from boldstream.analysis.delong import delong_test
from boldstream.analysis.folds import nested_folds
from boldstream.analysis.heads.ridge import RidgeHead
from boldstream.analysis.nested import predict_nested

N = 150


def rivals(kind, n_repeats=1):
    """Predictions of a target by all that it hangs on, by half of it, and by all of it plus a little noise."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, 4))
    y = x.sum(axis=1) + rng.normal(size=N)
    y = y if kind == "continuous" else y > 0
    folds = nested_folds(pd.DataFrame({"scan": np.arange(N), "subject": np.arange(N)}), y, n_repeats=n_repeats)
    vectors = (x, x[:, :2], x + 0.02 * rng.normal(size=x.shape))
    return folds, y, x, [predict_nested(v, y, folds, RidgeHead(), kind=kind) for v in vectors]


@pytest.mark.parametrize(("kind", "metric"), [("continuous", "r2"), ("continuous", "mae"), ("binary", "auroc")])
def test_contest__tells_the_better_from_the_worse_and_equals_apart_not(kind, metric):
    folds, _, _, (whole, half, twin) = rivals(kind, n_repeats=2)
    found = contest(whole, half, kind, units=folds.groups, metric=metric, n=300)
    assert (found.metric, found.verdict) == (metric, "better")
    assert found.difference.value == pytest.approx(found.first - found.second)
    assert contest(half, whole, kind, units=folds.groups, metric=metric, n=300).verdict == "worse"
    assert contest(whole, twin, kind, units=folds.groups, metric=metric, n=300).verdict == "not told apart"


def test_contest__has_delongs_p_where_every_row_is_a_subject():
    folds, _, _, (whole, half, _) = rivals("binary")
    found = contest(whole, half, "binary", units=folds.groups, n=100)
    by_hand = delong_test(whole.y, whole.predicted[:, 0], half.predicted[:, 0], folds.outer[0])
    assert found.delong_p == by_hand.p_value < 0.01
    assert found.difference.value == pytest.approx(by_hand.difference.value)
    assert np.isnan(contest(whole, half, "binary", units=np.arange(N) // 2, n=100).delong_p)
    assert np.isnan(contest(whole, half, "binary", units=folds.groups, metric="brier", n=100).delong_p)


def test_contest__refuses_other_folds_and_targets():
    folds, y, x, (whole, *_) = rivals("continuous")
    other = nested_folds(pd.DataFrame({"scan": np.arange(N), "subject": np.arange(N)}), y, seed=1)
    with pytest.raises(
        ValueError, match=f"predictions are of {folds.id} and of {other.id}; compare on the same fold set"
    ):
        contest(whole, predict_nested(x, y, other, RidgeHead(), kind="continuous"), "continuous", units=folds.groups)
    with pytest.raises(ValueError, match="predictions are of different targets"):
        contest(
            whole, predict_nested(x, y + 1, folds, RidgeHead(), kind="continuous"), "continuous", units=folds.groups
        )

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from boldstream.analysis.intervals import Estimate, bootstrap_ci, paired_difference_ci
from boldstream.analysis.metrics import auc, pearson, r2


def test_bootstrap_ci__of_a_mean_is_that_of_the_normal_distribution():
    x = np.random.default_rng(0).normal(size=400)
    found = bootstrap_ci(lambda v: v.mean(), x)
    assert found.value == pytest.approx(x.mean())
    half = 1.96 * x.std() / 20
    assert (found.low, found.high) == pytest.approx((x.mean() - half, x.mean() + half), abs=0.1 * half)
    assert found == bootstrap_ci(lambda v: v.mean(), x)
    assert found != bootstrap_ci(lambda v: v.mean(), x, seed=1)


def test_paired_difference_ci__excludes_zero_where_one_model_is_better():
    rng = np.random.default_rng(0)
    y = rng.normal(size=150)
    null, good, bad = np.zeros(150), y + rng.normal(size=150), y + 1.5 * rng.normal(size=150)
    found = paired_difference_ci(r2, (y, good, null), (y, bad, null), n=500)
    assert found.excludes_zero
    assert found.low > 0
    assert paired_difference_ci(r2, (y, bad, null), (y, good, null), n=500).high < 0
    twin = good + 0.01 * rng.normal(size=150)
    assert not paired_difference_ci(r2, (y, good, null), (y, twin, null), n=500).excludes_zero


def test_paired_difference_ci__draws_the_same_rows_for_both():
    y = np.random.default_rng(0).normal(size=50)
    assert paired_difference_ci(pearson, (y, y**3), (y, y**3), n=50) == Estimate(0.0, 0.0, 0.0)


def test_bootstrap_ci__leaves_resamples_without_a_class_out():
    y, decision = np.array([0, 0, 0, 0, 1.0]), np.array([1.0, 2.0, 3.0, 5.0, 4.0])
    found = bootstrap_ci(auc, y, decision, n=200)
    assert 0 <= found.low < found.value == 0.75 < found.high == 1


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (([1.0, 2.0], [1.0]), r"arrays of one length, at least 2 rows, got lengths \[1, 2\]"),
        (([1.0],), r"at least 2 rows, got lengths \[1\]"),
        (([1.0, 1.0],), "the statistic is NaN in 20 of 20 resamples"),
    ],
)
def test_bootstrap_ci__refuses(arrays, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_ci(lambda *a: float("nan"), *arrays, n=20)


def skewed(n=60):
    return np.random.default_rng(3).lognormal(size=n)


def test_bca__is_scipys_for_the_same_resamples():
    x, n, drawn = skewed(), 999, []

    def spread(v):
        drawn.append(v.std())
        return drawn[-1]

    ours = bootstrap_ci(spread, x, n=n, method="bca")
    resamples = SimpleNamespace(bootstrap_distribution=np.array(drawn[:n]))
    theirs = stats.bootstrap((x,), np.std, n_resamples=0, bootstrap_result=resamples, method="BCa").confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))
    # the correction is large here, so agreement says something
    assert abs(bootstrap_ci(np.std, x, n=n).high - ours.high) > 0.1 * ours.high


def test_bootstrap_ci__draws_units_whole():
    rng = np.random.default_rng(0)
    subject = np.repeat(np.arange(50), 4)
    x = rng.normal(size=50)[subject]
    alone = bootstrap_ci(np.mean, x)
    whole = bootstrap_ci(np.mean, x, units=subject, method="bca")
    per_subject = bootstrap_ci(np.mean, x[::4], method="bca")
    assert whole.high - whole.low == pytest.approx(per_subject.high - per_subject.low, rel=1e-9)
    assert whole.high - whole.low > 1.6 * (alone.high - alone.low)


def test_bca__of_what_does_not_vary_is_a_point():
    assert bootstrap_ci(np.mean, np.ones(5), n=20, method="bca") == Estimate(1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("units", "message"),
    [([1, 2], r"units have shape \(2,\), there are 3 rows"), ([1, 1, 1], "at least 2 units")],
)
def test_bootstrap_ci__refuses_units(units, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_ci(np.mean, np.arange(3.0), units=units)

import numpy as np
import pytest
from scipy import stats

from boldstream.analysis.delong import delong_test
from boldstream.analysis.metrics import auc

# DeLong et al.'s own data, 43 of 49 patients with ovarian cancer, as the manual of SAS/STAT prints it (PROC LOGISTIC,
# "Comparing receiver operating characteristic curves"): albumin, total protein, K-G score (10 - it is used), outcome
# fmt: off
PATIENTS = np.array([
    (3.0, 5.8, 10, 0), (3.2, 6.3, 5, 1), (3.9, 6.8, 3, 1), (2.8, 4.8, 6, 0), (3.2, 5.8, 3, 1), (0.9, 4.0, 5, 0),
    (2.5, 5.7, 8, 0), (1.6, 5.6, 5, 1), (3.8, 5.7, 5, 1), (3.7, 6.7, 6, 1), (3.2, 5.4, 4, 1), (3.8, 6.6, 6, 1),
    (4.1, 6.6, 5, 1), (3.6, 5.7, 5, 1), (4.3, 7.0, 4, 1), (3.6, 6.7, 4, 0), (2.3, 4.4, 6, 1), (4.2, 7.6, 4, 0),
    (4.0, 6.6, 6, 0), (3.5, 5.8, 6, 1), (3.8, 6.8, 7, 1), (3.0, 4.7, 8, 0), (4.5, 7.4, 5, 1), (3.7, 7.4, 5, 1),
    (3.1, 6.6, 6, 1), (4.1, 8.2, 6, 1), (4.3, 7.0, 5, 1), (4.3, 6.5, 4, 1), (3.2, 5.1, 5, 1), (2.6, 4.7, 6, 1),
    (3.3, 6.8, 6, 0), (1.7, 4.0, 7, 0), (3.7, 6.1, 5, 1), (3.3, 6.3, 7, 1), (4.2, 7.7, 6, 1), (3.5, 6.2, 5, 1),
    (2.9, 5.7, 9, 0), (2.1, 4.8, 7, 1), (2.8, 6.2, 8, 0), (4.0, 7.0, 7, 1), (3.3, 5.7, 6, 1), (3.7, 6.9, 5, 1),
    (3.6, 6.6, 5, 1),
])
# fmt: on


def test_delong__gives_the_published_numbers():
    albumin, protein, score, outcome = PATIENTS.T
    found = delong_test(outcome, albumin, 10 - score)
    assert found.first == pytest.approx((0.7366, 0.5549, 0.9182), abs=6e-5)
    assert found.second == pytest.approx((0.7258, 0.5243, 0.9273), abs=6e-5)
    assert found.difference.value == pytest.approx(0.0108, abs=6e-5)
    assert (found.difference.high - found.difference.low) / 2 / 1.959964 == pytest.approx(0.0953, abs=6e-5)
    assert found.p_value == pytest.approx(0.9102, abs=2e-4)
    other = delong_test(outcome, protein, 10 - score)
    assert other.first == pytest.approx((0.6478, 0.4518, 0.8439), abs=6e-5)
    assert other.difference.value == pytest.approx(-0.0780, abs=6e-5)
    assert other.p_value == pytest.approx(0.4561, abs=2e-4)


def test_delong__is_right_about_chance():
    rng = np.random.default_rng(0)
    p = []
    for _ in range(400):
        y = rng.integers(0, 2, 120)
        shared = y + rng.normal(size=120)
        p.append(delong_test(y, shared + rng.normal(size=120), shared + rng.normal(size=120)).p_value)
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert 0.02 < np.mean(np.array(p) < 0.05) < 0.09


def test_delong__compares_rows_of_one_fold_only():
    rng = np.random.default_rng(0)
    y, folds = rng.integers(0, 2, 200), np.arange(200) % 4
    first, second = y + rng.normal(size=200), rng.normal(size=200)
    plain = delong_test(y, first, second, folds)
    offset = delong_test(y, first + 10 * folds, second - 7 * folds, folds)
    assert plain == offset
    assert plain.first.value == pytest.approx(auc(y, first, folds))
    assert plain.p_value < 1e-4
    whole = delong_test(y, first, second)
    assert plain.difference.high - plain.difference.low == pytest.approx(
        whole.difference.high - whole.difference.low, rel=0.15
    )


def test_delong__of_a_model_with_itself_is_no_difference():
    y, x = PATIENTS[:, 3], PATIENTS[:, 0]
    found = delong_test(y, x, x)
    assert found.p_value == 1
    assert found.difference == (0, 0, 0)


@pytest.mark.parametrize(
    ("first", "folds", "message"),
    [
        ([1, 2, 3, np.nan], None, "decision values are not all finite"),
        ([1, 2, 3, 4], [0, 0, 1, 1], "no fold has two rows of both classes"),
    ],
)
def test_delong__refuses(first, folds, message):
    with pytest.raises(ValueError, match=message):
        delong_test([0, 1, 0, 1], first, [1, 2, 3, 4], folds)

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.linear_model import LogisticRegression

from boldstream.analysis.calibration import (
    calibration_of_classes,
    calibration_of_numbers,
    fit_curve,
    fit_line,
    log_odds,
    reliability_curve,
)

N = 4000


def drawn(seed=0, n=N):
    """Probabilities, and classes drawn by them."""
    rng = np.random.default_rng(seed)
    p = stats.norm.cdf(rng.normal(size=n))
    return p, (rng.random(n) < p).astype(float)


def test_numbers__are_calibrated_by_least_squares():
    rng = np.random.default_rng(0)
    predicted = rng.normal(40, 10, N)
    y = 5 + 0.5 * predicted + rng.normal(size=N)
    told = calibration_of_numbers(y, predicted)
    theirs = stats.linregress(predicted, y)
    assert (told.slope, told.intercept) == pytest.approx((theirs.slope, theirs.intercept))
    assert told.in_the_large == pytest.approx(y.mean() - predicted.mean())
    assert np.isnan(told.error)
    slope, intercept = fit_line(predicted, y)
    assert calibration_of_numbers(y, intercept + slope * predicted)[:3] == pytest.approx((0, 1, 0), abs=1e-9)


def test_numbers__that_do_not_vary_have_no_slope():
    told = calibration_of_numbers([1.0, 2.0, 3.0], [1.0, 1.0, 1.0])
    assert told.in_the_large == 1
    assert np.isnan([told.slope, told.intercept]).all()
    assert fit_line([1.0, 1.0], [3.0, 5.0]) == (1.0, 3.0)


def test_classes__drawn_by_their_probabilities_are_calibrated():
    told = calibration_of_classes(*reversed(drawn()))
    assert told.in_the_large == pytest.approx(0, abs=0.02)
    assert (told.slope, told.intercept) == pytest.approx((1, 0), abs=0.1)
    assert told.error < 0.03


def test_classes__predicted_too_boldly_have_a_slope_below_1():
    p, y = drawn()
    bold = 1 / (1 + np.exp(-(3 * log_odds(p) + 1)))
    told = calibration_of_classes(y, bold)
    assert told.slope == pytest.approx(1 / 3, abs=0.05)
    assert told.intercept == pytest.approx(-1 / 3, abs=0.1)
    assert told.error > 0.1
    assert told.in_the_large < -0.03
    curve = fit_curve(log_odds(bold), y)
    mended = calibration_of_classes(y, curve.predict_proba(log_odds(bold)[:, None])[:, 1])
    assert (mended.slope, mended.intercept) == pytest.approx((1, 0), abs=0.02)
    assert mended.error < 0.03


@pytest.mark.parametrize("y", [[0.0, 0.0, 1.0, 1.0], [1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
def test_classes__told_without_a_mistake_have_no_slope(y):
    told = calibration_of_classes(y, [0.1, 0.2, 0.7, 0.8])
    assert np.isnan([told.slope, told.intercept]).all()
    assert told.in_the_large == pytest.approx(np.mean(y) - 0.45)


def test_curve__stays_finite_where_classes_are_told_without_a_mistake():
    model = fit_curve([-2.0, -1.0, 1.0, 2.0], [0.0, 0.0, 1.0, 1.0])
    assert 0 < model.coef_[0, 0] < 10
    # of many rows, Platt's targets hardly differ from the classes
    p, y = drawn()
    plain = LogisticRegression(C=np.inf).fit(log_odds(p)[:, None], y)
    assert fit_curve(log_odds(p), y).coef_ == pytest.approx(plain.coef_, rel=0.01)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=2, max_size=60), st.integers(1, 12))
def test_reliability__bins_hold_every_row_once(rows, n_bins):
    p, y = (np.array(values, dtype=float) for values in zip(*rows, strict=True))
    curve = reliability_curve(y, p, n_bins=n_bins)
    assert curve.n_rows.sum() == len(rows)
    assert (curve.predicted @ curve.n_rows, curve.seen @ curve.n_rows) == pytest.approx((p.sum(), y.sum()))
    assert (np.diff(curve.predicted) > 0).all()
    assert 0 <= calibration_of_classes(y, p, n_bins=n_bins).error <= 1


def test_log_odds__of_certainty_are_finite():
    assert np.isfinite(log_odds([0.0, 1.0])).all()


@pytest.mark.parametrize(("y", "predicted"), [([1.0], [1.0]), ([1.0, 2.0], [1.0]), ([[1.0, 2.0]], [[1.0, 2.0]])])
def test_calibration__of_what_is_no_pair_of_rows_is_refused(y, predicted):
    for measure in (calibration_of_numbers, calibration_of_classes, fit_curve):
        with pytest.raises(ValueError, match="calibration needs two rows of one length"):
            measure(y, predicted)

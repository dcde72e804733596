import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boldstream.analysis.quality import effective_rank
from boldstream.analysis.spectrum import alpha_req, lidar, measure_spread


def with_spectrum(values, n=200, seed=0):
    """Rows whose covariance has exactly these eigenvalues, along random axes."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, len(values)))
    rows = np.linalg.qr(rows - rows.mean(axis=0))[0] * np.sqrt(n)
    axes = np.linalg.qr(rng.normal(size=(len(values), len(values))))[0]
    return (rows * np.sqrt(values)) @ axes + 3


@settings(max_examples=20, deadline=None)
@given(st.floats(0.3, 3), st.integers(5, 40))
def test_alpha_req__is_the_exponent_planted(alpha, d):
    assert alpha_req(with_spectrum(np.arange(1, d + 1) ** -alpha)) == pytest.approx(alpha, rel=1e-6)


def test_alpha_req__takes_a_range_of_ranks():
    values = np.concatenate([np.arange(1, 11) ** -1.0, 1e-3 * np.arange(1, 11) ** -4.0])
    assert alpha_req(with_spectrum(values), last=10) == pytest.approx(1)
    assert alpha_req(with_spectrum(values)) > 2
    with pytest.raises(ValueError, match="2 eigenvalues are too few for a power law"):
        alpha_req(with_spectrum(values), first=19)
    with pytest.raises(ValueError, match="0 eigenvalues are too few"):
        alpha_req(np.ones((5, 4)))


def test_measure_spread__counts_directions_and_dead_dimensions():
    even = measure_spread(with_spectrum(np.ones(7)))
    assert even.participation_ratio == pytest.approx(7)
    assert even.top_share == pytest.approx(1 / 7)
    x = np.random.default_rng(0).normal(size=(50, 4)) * [1, 1e-8, 2, 0] + 0.1
    found = measure_spread(x)
    assert found.n_dead == 2
    np.testing.assert_allclose(found.std, x.std(axis=0), atol=1e-15)
    collapsed = measure_spread(np.full((5, 3), 0.1))
    assert collapsed.n_dead == 3
    assert np.isnan(collapsed.participation_ratio)
    np.testing.assert_array_equal(collapsed.std, 0)


def views(n_subjects=200, n_views=5, n_signal=4, n_noise=12, seed=0):
    """Windows of subjects who differ in a few directions; in others, a thousand times larger, windows do."""
    rng = np.random.default_rng(seed)
    subject = np.repeat(np.arange(n_subjects), n_views)
    signal = rng.normal(size=(n_subjects, n_signal))[subject] + 0.1 * rng.normal(size=(len(subject), n_signal))
    return np.column_stack([signal, 1000 * rng.normal(size=(len(subject), n_noise))]), subject


def test_lidar__counts_directions_that_tell_subjects_apart():
    # delta is of the within-subject variance, which is all noise here; without it only signal counts
    x, subject = views()
    assert lidar(x, subject, delta=1e-12) == pytest.approx(4, abs=0.5)
    everything = effective_rank(np.linalg.svd(x - x.mean(axis=0), compute_uv=False))
    assert everything > 10
    assert lidar(x, np.random.default_rng(0).permutation(subject), delta=1e-12) > 12
    assert lidar(5 * x, subject) == pytest.approx(lidar(x, subject))


@pytest.mark.parametrize(
    ("x", "subject", "message"),
    [
        (np.eye(3), [0, 1, 2], "LiDAR needs views of at least 2 subjects, 2 of one; got 3 of 3"),
        (np.eye(3), [0, 0, 0], "got 3 of 1"),
        (np.eye(3), [0, 0], "got 3 of 1"),
        (np.ones((4, 2)), [0, 0, 1, 1], "views do not vary"),
    ],
)
def test_lidar__refuses(x, subject, message):
    with pytest.raises(ValueError, match=message):
        lidar(x, subject)

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boldstream.analysis.attribution import region_shares, region_terms


@given(st.integers(1, 9), st.integers(1, 6), st.integers(0, 2**31))
def test_terms__sum_to_the_prediction_of_the_mean(n_rois, n_dims, seed):
    rng = np.random.default_rng(seed)
    latents, weights = rng.normal(size=(n_rois, n_dims)), rng.normal(size=(3, n_dims))
    terms = region_terms(latents, weights)
    np.testing.assert_allclose(terms.sum(axis=1), weights @ latents.mean(axis=0), atol=1e-12)


@given(st.integers(2, 30), st.integers(1, 9), st.integers(0, 2**31))
def test_shares__sum_to_one_whatever_is_added_to_a_region(n, n_rois, seed):
    rng = np.random.default_rng(seed)
    terms = rng.normal(size=(n, n_rois))
    shares = region_shares(terms + rng.normal(size=n_rois) * 100)
    assert shares.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(shares, region_shares(terms), atol=1e-8)


def test_shares__find_the_region_and_tell_the_one_that_works_against():
    rng = np.random.default_rng(0)
    signal = rng.normal(size=500)
    terms = np.stack([2 * signal, -0.5 * signal, 0.1 * rng.normal(size=500)], axis=1)
    shares = region_shares(terms)
    np.testing.assert_allclose(shares, [4 / 3, -1 / 3, 0.0], atol=0.02)
    assert not region_shares(np.ones((5, 3))).any()


def test_terms__refuse_what_does_not_fit():
    with pytest.raises(ValueError, match="latents have 2 dimensions, weights 3"):
        region_terms(np.ones((4, 2)), np.ones((1, 3)))
    with pytest.raises(ValueError, match="1 values that are NaN or infinite"):
        region_shares([[1.0, np.nan]])

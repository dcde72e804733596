import numpy as np
import pytest

from boldstream.analysis.reliability import icc, identification_within

# Shrout & Fleiss (1979), table 2: six targets, four judges; table 4: ICC(2,1) .29, ICC(3,1) .71
JUDGES = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]).T


def test_icc__gives_the_published_example():
    found = icc(np.stack([JUDGES, JUDGES + 100, np.ones_like(JUDGES)], axis=2))
    np.testing.assert_allclose(found.agreement[:2], 0.29, atol=0.005)
    np.testing.assert_allclose(found.consistency[:2], 0.71, atol=0.005)
    assert np.isnan(found.agreement[2])
    assert np.isnan(found.consistency[2])


def test_icc__is_the_share_of_variance_planted():
    rng = np.random.default_rng(0)
    person = rng.normal(size=(3000, 2)) * [2, 1]
    sessions = person + rng.normal(size=(2, 3000, 2)) + np.array([0.0, 1.0])[:, None, None]
    np.testing.assert_allclose(icc(sessions).consistency, [4 / 5, 1 / 2], atol=0.03)
    np.testing.assert_allclose(icc(sessions).agreement, [4 / 5.5, 1 / 2.5], atol=0.03)


def test_identification_within__is_free_of_a_scanners_signature():
    rng = np.random.default_rng(0)
    site = np.repeat(np.arange(20), 2)
    scanner = 10 * rng.normal(size=(20, 30))[site]
    first, second = (scanner + rng.normal(size=(40, 30)) for _ in range(2))  # no person is in it
    found = identification_within(first, second, site)
    assert (found.n, found.chance) == (40, 0.5)
    assert 0.3 < found.accuracy < 0.7  # among all it would look like ten times chance
    assert abs(found.i_diff) < 1
    person = rng.normal(size=(40, 30))
    assert identification_within(first + person, second + person, site).accuracy > 0.85
    alone = np.concatenate([[99], site[1:]])
    assert identification_within(first, second, alone).n == 38


def test_reliability__refuses():
    with pytest.raises(ValueError, match=r"got shape \(1, 5, 2\)"):
        icc(np.ones((1, 5, 2)))
    with pytest.raises(ValueError, match="sessions hold 20 values that are NaN"):
        icc(np.full((2, 5, 2), np.nan))
    with pytest.raises(ValueError, match=r"sites have shape \(1,\), there are 3 subjects"):
        identification_within(np.eye(3), np.eye(3), [1])
    with pytest.raises(ValueError, match="no site has two subjects"):
        identification_within(np.eye(3), np.eye(3), [1, 2, 3])

"""Drift between known and new vectors: the rate of false alarms, and what it finds."""

import numpy as np
import pytest

from boldstream.analysis.drift import drift

D = 24


def people(rng, n, shift=0.0, scale=1.0, scans=1):
    """Return correlated vectors of n subjects, several scans each, and the subjects."""
    mix = np.random.default_rng(7).normal(size=(6, D))
    trait = rng.normal(size=(n, 6)) @ mix * scale + shift
    vectors = np.repeat(trait, scans, axis=0) + 0.1 * rng.normal(size=(n * scans, D))
    return vectors, np.repeat([f"{i}" for i in range(n)], scans)


def found(rng, n_known, n_new, **new):
    known, names = people(rng, n_known)
    vectors, others = people(rng, n_new, **new)
    return drift(known, vectors, known_subjects=names, new_subjects=others, n_permutations=199)


def test_drift__alarms_as_often_as_it_says_whatever_the_sizes():
    rng, alpha, n = np.random.default_rng(0), 0.1, 200
    for n_known, n_new, scans in ((60, 5, 1), (30, 30, 2)):
        p = np.array([found(rng, n_known, n_new, scans=scans).p_value for _ in range(n)])
        # two-sided 99.9 % bounds of Binomial(200, .1)
        assert 6 <= (p <= alpha).sum() <= 36, (p <= alpha).mean()


def test_drift__counts_a_subject_once():
    rng = np.random.default_rng(1)
    many = [found(rng, 60, 5, scans=40).p_value for _ in range(100)]
    assert (np.array(many) <= 0.05).sum() <= 14  # by rows, nearly all would be


def test_drift__finds_another_level_another_spread_and_another_length():
    rng = np.random.default_rng(2)
    moved = found(rng, 60, 12, shift=np.eye(D)[3] * 8)
    assert (moved.p_value, moved.where) == (0.005, "dimension 3")
    assert moved.shift[3] == pytest.approx(moved.largest)
    assert found(rng, 60, 12, scale=4.0).p_value == 0.005
    flat = found(rng, 60, 12, scale=0.0)
    assert flat.p_value == 0.005
    assert flat.shift[-1] < -1


def test_drift__tests_nothing_with_few_subjects():
    rng = np.random.default_rng(3)
    assert found(rng, 60, 4) is None
    assert found(rng, 4, 60) is None


def test_drift__takes_constant_dimensions_and_tiny_values():
    rng = np.random.default_rng(4)
    known, names = people(rng, 30)
    new, others = people(rng, 10)
    for x in (known, new):
        x[:, 0] = 5.0
    plain = drift(known, new, known_subjects=names, new_subjects=others)
    tiny = drift(known * 1e-12, new * 1e-12, known_subjects=names, new_subjects=others)
    assert plain.p_value == tiny.p_value
    np.testing.assert_allclose(plain.shift, tiny.shift)
    assert plain.shift[0] == 0


def test_drift__refuses_what_does_not_fit():
    x, names = np.ones((6, 3)), list("abcdef")
    with pytest.raises(ValueError, match="vectors have 3 and 2 dimensions"):
        drift(x, x[:, :2], known_subjects=names, new_subjects=names)
    with pytest.raises(ValueError, match="6 vectors of 5 subjects' names"):
        drift(x, x, known_subjects=names[:5], new_subjects=names)
    with pytest.raises(ValueError, match="NaN or infinite"):
        drift(x, np.full((6, 3), np.nan), known_subjects=names, new_subjects=names)

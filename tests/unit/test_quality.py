import numpy as np
import pytest

from boldstream.analysis.quality import found_again, identification, mean_pairwise_cosine, rankme


def pair(n=20, d=50, noise=0.5, seed=0):
    rng = np.random.default_rng(seed)
    subject = rng.normal(size=(n, d))
    return subject + noise * rng.normal(size=(n, d)), subject + noise * rng.normal(size=(n, d))


@pytest.mark.parametrize("metric", ["correlation", "cosine"])
def test_identification__finds_subjects(metric):
    result = identification(*pair(), metric)
    assert (result.n, result.accuracy, result.correct, result.chance) == (20, 1.0, (20, 20), 0.05)
    assert result.i_diff == pytest.approx(100 * (result.self_similarity - result.other_similarity))
    assert result.i_diff > 60
    assert result.p_value < 1e-20


def test_identification__similarities_are_correlations():
    first, second = pair(n=4)
    table = np.corrcoef(first, second)[:4, 4:]
    result = identification(first, second)
    assert result.self_similarity == pytest.approx(np.diagonal(table).mean())
    assert result.other_similarity == pytest.approx(table[~np.eye(4, dtype=bool)].mean())


def test_identification__directions_are_counted_apart():
    second = np.array([[1.0, 0.0], [0.8, 0.6]])
    first = np.array([[1.0, 0.1], [1.0, 0.0]])
    result = identification(first, second, "cosine")
    assert result.correct == (1, 0)
    assert result.accuracy == 0.25
    np.testing.assert_array_equal(found_again(first, second, "cosine"), [[True, False], [False, False]])


def test_identification__of_strangers_is_at_chance():
    hits = [identification(pair(seed=s)[0], pair(seed=s + 1000)[0]).accuracy for s in range(200)]
    assert np.mean(hits) == pytest.approx(0.05, abs=0.01)
    result = identification(pair(seed=1)[0], pair(seed=2)[0])
    assert result.chance_95 == 0.15  # Binomial(20, 1/20): P(X <= 3) = .984, P(X <= 2) = .925


def test_identification__of_a_collapsed_embedding_finds_nobody():
    row = np.random.default_rng(0).normal(size=(1, 30))
    result = identification(np.repeat(row, 10, axis=0), np.repeat(row, 10, axis=0))
    assert result.accuracy == 0
    assert result.p_value == pytest.approx(1)
    assert result.i_diff == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (np.ones((3, 4)), np.ones((4, 4)), "two sets of at least 2 rows alike"),
        (np.eye(3), np.ones((3, 3)), "row 0 of second has no direction"),
        (np.full((3, 4), np.nan), np.ones((3, 4)), "first holds 12 values that are NaN"),
        (np.ones(3), np.ones(3), r"first is \(n, d\), got shape \(3,\)"),
    ],
)
def test_identification__refuses(first, second, message):
    with pytest.raises(ValueError, match=message):
        identification(first, second)


def test_rankme__counts_directions():
    rng = np.random.default_rng(0)
    assert rankme(np.eye(7)) == pytest.approx(7)
    assert rankme(np.outer(rng.normal(size=30), rng.normal(size=8))) == pytest.approx(1, abs=1e-6)
    assert 7 < rankme(rng.normal(size=(5000, 8))) <= 8
    with pytest.raises(ValueError, match="all zero, so they have no rank"):
        rankme(np.zeros((3, 3)))


def test_mean_pairwise_cosine__equals_the_mean_over_pairs():
    x = np.random.default_rng(0).normal(size=(15, 4))
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    table = unit @ unit.T
    assert mean_pairwise_cosine(x) == pytest.approx(table[~np.eye(15, dtype=bool)].mean())
    assert mean_pairwise_cosine(np.ones((5, 3))) == pytest.approx(1)
    with pytest.raises(ValueError, match="at least 2 rows"):
        mean_pairwise_cosine(np.ones((1, 3)))
    with pytest.raises(ValueError, match="row 1 of x has no direction"):
        mean_pairwise_cosine([[1.0, 0.0], [0.0, 0.0]])

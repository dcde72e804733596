import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import procrustes as scipy_procrustes
from scipy.stats import ortho_group

from boldstream.analysis.compare import compare, debiased_cka, linear_cka, neighbour_overlap, paired_cosine, procrustes


def cloud(n=60, d=8, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) * np.linspace(1, 3, d) + 5


def turned(x, scale=3.0, shift=2.0, seed=1):
    return scale * x @ ortho_group.rvs(x.shape[1], random_state=seed) + shift


@given(scale=st.floats(1e-3, 1e3), shift=st.floats(-100, 100), seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_measures_of_similarity__do_not_see_rotation_scale_and_shift(scale, shift, seed):
    x, y = cloud(), cloud(seed=5) + cloud()
    moved = turned(y, scale, shift, seed)
    assert linear_cka(x, moved) == pytest.approx(linear_cka(x, y), rel=1e-9)
    assert procrustes(x, moved) == pytest.approx(procrustes(x, y), rel=1e-9)
    assert neighbour_overlap(x, moved) == neighbour_overlap(x, y)


def test_rotated_copy__is_the_same_representation():
    found = compare(cloud(), turned(cloud()))
    assert found.cka == pytest.approx(1)
    assert found.procrustes == pytest.approx(0, abs=1e-12)
    assert found.overlap == 1
    assert found.moved.max() < 1e-6
    np.testing.assert_allclose(found.first, found.second, atol=1e-8)
    assert found.cosine.max() < 0.999  # the axes are not the same


def test_equal_vectors__have_cosine_one():
    found = compare(cloud(), cloud())
    np.testing.assert_allclose(found.cosine, 1, rtol=1e-12)
    np.testing.assert_allclose(paired_cosine(cloud(), -2 * cloud()), -1, rtol=1e-12)
    np.testing.assert_allclose(paired_cosine([[1, 0], [1, 1]], [[0, 2], [1, 0]]), [0, np.sqrt(0.5)])


def test_unrelated_vectors__are_at_chance():
    found = compare(cloud(400, seed=1), cloud(400, seed=2))
    assert found.overlap_chance == 10 / 399
    # 4,000 draws: the standard error of the share is 0.0025
    assert found.overlap == pytest.approx(found.overlap_chance, abs=0.01)
    assert found.cka == pytest.approx(found.cka_chance, abs=0.02)
    assert found.procrustes == pytest.approx(found.procrustes_chance, abs=0.05)


def test_few_scans_of_many_dimensions__have_high_chance_levels():
    found = compare(cloud(12, 300, seed=1), cloud(12, 300, seed=2))
    assert found.cka > 0.8
    assert found.cka == pytest.approx(found.cka_chance, abs=0.02)
    assert found.procrustes == pytest.approx(found.procrustes_chance, abs=0.05)
    assert found.k == 5


def test_cka_chance__is_the_mean_over_pairings():
    rng = np.random.default_rng(3)
    x, y = cloud(8, 4, seed=1), cloud(8, 4, seed=1) + cloud(8, 4, seed=2)
    drawn = [linear_cka(x, y[rng.permutation(8)]) for _ in range(4000)]
    # the standard error of the mean is 0.002
    assert compare(x, y).cka_chance == pytest.approx(np.mean(drawn), abs=0.01)


def test_cka__is_that_of_the_kernels():
    x, y = cloud(20, 30, seed=1), cloud(20, 5, seed=2)
    centre = np.eye(20) - 1 / 20
    k, kk = (centre @ m @ m.T @ centre for m in (x, y))
    expected = (k * kk).sum() / np.sqrt((k * k).sum() * (kk * kk).sum())
    assert linear_cka(x, y) == pytest.approx(expected)
    assert linear_cka(y, x) == pytest.approx(expected)


def test_procrustes__is_scipys_and_pads_the_narrower():
    x, y = cloud(seed=1), cloud(seed=1) + cloud(seed=2)
    assert procrustes(x, y) == pytest.approx(scipy_procrustes(x, y)[2])
    padded = np.pad(y[:, :3], ((0, 0), (0, 5)))
    assert procrustes(x, y[:, :3]) == pytest.approx(scipy_procrustes(x, padded)[2])
    assert procrustes(y[:, :3], x) == pytest.approx(procrustes(x, y[:, :3]))


def test_other_dimensions__have_no_cosine_but_all_else():
    found = compare(cloud(), np.pad(turned(cloud()), ((0, 0), (0, 4))))
    assert found.cosine is None
    assert found.n_dims == (8, 12)
    assert (found.cka, found.overlap) == (pytest.approx(1), 1)
    assert found.procrustes == pytest.approx(0, abs=1e-12)


def test_neighbours__are_counted_by_hand():
    line = np.array([[0.0], [1.0], [3.0], [7.0]])
    other = np.array([[0.0], [7.0], [1.0], [8.0]])
    # nearest in line: 1, 0, 1, 2; in other: 2, 3, 0, 1
    assert neighbour_overlap(line, other, 1) == 0
    assert neighbour_overlap(line, -2 * line, 1) == 1
    # the two nearest in line: 12, 02, 10, 21; in other: 21, 32, 01, 12
    assert neighbour_overlap(line, other, 2) == 7 / 8


def test_moved_scan__is_found():
    x = cloud(100, 16)
    y = turned(x)
    y[17] += 60
    found = compare(x, y)
    assert np.argmax(found.moved) == 17
    assert found.moved[17] > 5 * np.median(found.moved)
    assert np.square(found.moved).mean() == pytest.approx(found.procrustes)


def test_one_dimension__can_be_compared():
    found = compare(np.arange(1.0, 6)[:, None], -2 * np.arange(1.0, 6)[:, None] + 13)
    assert (found.cka, found.procrustes, found.overlap) == (pytest.approx(1), pytest.approx(0, abs=1e-12), 1)
    assert found.first.shape == found.second.shape == (5, 2)


def test_result__is_the_same_for_the_same_seed():
    x, y = cloud(seed=1), cloud(seed=2)
    assert compare(x, y, seed=3).procrustes_chance == compare(x, y, seed=3).procrustes_chance
    assert compare(x, y, seed=3).procrustes_chance != compare(x, y, seed=4).procrustes_chance


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (cloud(5), cloud(6), r"the same scans, at least 3, are needed; got 5 and 6 rows"),
        (cloud(2), cloud(2), r"at least 3, are needed; got 2 and 2 rows"),
        (np.ones((5, 2)), cloud(5), r"all 5 rows of first are equal, so nothing can be compared"),
        (cloud(5, 2), np.full((5, 2), 7.0), r"all 5 rows of second are equal"),
        (cloud(5) * [[np.nan]], cloud(5), r"first holds 40 values that are NaN or infinite"),
        (cloud(5) * [[1], [0], [1], [1], [1]], cloud(5), r"row 1 of first is zero, so it has no cosine"),
        (np.ones(5), cloud(5), r"first is \(n, d\), got shape \(5,\)"),
    ],
)
def test_compare__refuses_what_cannot_be_compared(first, second, message):
    with pytest.raises(ValueError, match=message):
        compare(first, second)


def test_single_measures__refuse_what_does_not_fit():
    with pytest.raises(ValueError, match=r"cosines need two sets of one shape, got \(5, 8\) and \(5, 3\)"):
        paired_cosine(cloud(5), cloud(5, 3))
    for k in (0, 4):
        with pytest.raises(ValueError, match=rf"k is {k}; of 5 scans, 1 to 3 neighbours can be compared"):
            neighbour_overlap(cloud(5), cloud(5), k)


def song(k, other):
    """Song et al.'s estimate as printed, for kernels."""
    n = len(k)
    k, other = k - np.diag(np.diag(k)), other - np.diag(np.diag(other))
    one = np.ones(n)
    shared = (one @ k @ one) * (one @ other @ one) / ((n - 1) * (n - 2)) - 2 / (n - 2) * (one @ k @ other @ one)
    return (np.trace(k @ other) + shared) / (n * (n - 3))


def test_debiased_cka__is_the_ratio_of_songs_estimates():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 7)) + 2, rng.normal(size=(20, 30))
    y[:, :7] += 2 * x
    k, other = x @ x.T, y @ y.T  # not centred: the estimate does not mind
    expected = song(k, other) / np.sqrt(song(k, k) * song(other, other))
    assert debiased_cka(x, y) == pytest.approx(expected)
    assert debiased_cka(x, 3 * x @ np.linalg.qr(rng.normal(size=(7, 7)))[0] + 1) == pytest.approx(1)


def test_debiased_cka__of_unrelated_rows_is_zero_where_the_plain_one_is_not():
    rng = np.random.default_rng(0)
    pairs = [(rng.normal(size=(30, 100)), rng.normal(size=(30, 100))) for _ in range(40)]
    assert abs(np.mean([debiased_cka(*pair) for pair in pairs])) < 0.02
    assert np.mean([linear_cka(*pair) for pair in pairs]) > 0.7


def test_debiased_cka__refuses_three_rows():
    with pytest.raises(ValueError, match="a debiased CKA needs at least 4 scans, got 3"):
        debiased_cka(np.eye(3), np.eye(3))

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boldstream.analysis.permutations import benjamini_hochberg, exchange, permutation_p, permuted_targets

SUBJECTS = np.array(["a", "b", "b", "c", "d", "e", "f", "g"])
FAMILIES = np.array(["x", "x", "x", "y", "y", None, None, "z"])
SITES = np.array([1, 1, 1, 1, 1, 1, 1, 2])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_exchange__keeps_subjects_families_and_blocks_whole(seed):
    drawn = exchange(SUBJECTS, 5, families=FAMILIES, blocks=SITES, seed=seed)
    for source in drawn:
        taken = SUBJECTS[source]
        assert taken[1] == taken[2]  # both scans of b take one subject's target
        assert sorted({*zip(SUBJECTS, taken, strict=True)}) == sorted(set(zip(SUBJECTS, taken, strict=True)))
        assert sorted(dict(zip(SUBJECTS, taken, strict=True)).values()) == sorted(set(SUBJECTS))
        np.testing.assert_array_equal(SITES[source], SITES)
        assert {taken[0], taken[1]} in ({"a", "b"}, {"c", "d"})  # relatives take from relatives
        assert {taken[5], taken[6]} == {"e", "f"}
        assert taken[7] == "g"


def test_exchange__draws_all_arrangements_equally():
    drawn = exchange(["a", "b", "c", "d"], 4000, families=["x", "x", "y", "y"])
    _, count = np.unique(drawn, axis=0, return_counts=True)
    assert len(count) == 8  # two families in either order, two members in either order each
    assert count.min() > 400
    np.testing.assert_array_equal(exchange(SUBJECTS, 3, seed=1), exchange(SUBJECTS, 3, seed=1))
    assert (exchange(SUBJECTS, 3, seed=1) != exchange(SUBJECTS, 3, seed=2)).any()


def test_permuted_targets__of_confounds_keep_what_they_explain():
    rng = np.random.default_rng(0)
    motion = rng.normal(size=300)
    y = 5 + 3 * motion + rng.normal(size=300)
    drawn = exchange(np.arange(300), 50)
    free, kept = permuted_targets(y, drawn), permuted_targets(y, drawn, motion[:, None])
    assert free.shape == kept.shape == (300, 50)
    np.testing.assert_array_equal(np.sort(free, axis=0), np.sort(y)[:, None].repeat(50, axis=1))
    assert np.abs([np.corrcoef(motion, column)[0, 1] for column in free.T]).max() < 0.3
    assert min(np.corrcoef(motion, column)[0, 1] for column in kept.T) > 0.9
    np.testing.assert_allclose(permuted_targets(y, np.arange(300)[None], motion[:, None])[:, 0], y)


def test_permutation_p__is_never_zero():
    assert permutation_p(1.0, np.zeros(999)) == pytest.approx(0.001)
    assert permutation_p(0.0, np.zeros(9)) == 1
    assert permutation_p(0.5, [0.2, 0.5, 0.9]) == pytest.approx(3 / 4)
    with pytest.raises(ValueError, match="a p value needs scores: nan, and 0 of 1 NaN"):
        permutation_p(np.nan, [0.0])


def test_benjamini_hochberg__gives_the_published_example():
    # Benjamini & Hochberg (1995), section 3.2: of 15 p values, four are discoveries at 0.05; Bonferroni finds three
    p = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344]
    p += [0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0]
    assert (benjamini_hochberg(p) <= 0.05).sum() == 4
    assert (15 * np.array(p) <= 0.05).sum() == 3
    assert benjamini_hochberg([0.01, np.nan, 0.04])[[0, 2]] == pytest.approx([0.02, 0.04])
    assert np.isnan(benjamini_hochberg([0.01, np.nan])[1])
    assert np.isnan(benjamini_hochberg([np.nan])).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"families": [1, 1, 2, 2, 2, 2, 2, 2]}, "subject b is in more than one family"),
        ({"blocks": [1, 1, 2, 2, 2, 2, 2, 2]}, "subject b is in more than one block"),
        ({"families": [1] * 8, "blocks": [1] * 7 + [2]}, "the family of subject a is in more than one block"),
        ({"blocks": [1, 2, 2, 3, 4, 5, 6, 7]}, "every one is alone in its block"),
        ({"blocks": [None] * 8}, "blocks are missing in 8 rows"),
        ({"families": [1]}, "families have length 1, there are 8 rows"),
    ],
)
def test_exchange__refuses(change, message):
    with pytest.raises(ValueError, match=message):
        exchange(SUBJECTS, 1, **change)

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from boldstream.analysis.outliers import copies, find_duplicates, outlier_scores
from boldstream.parcellation.qc import measure_scan
from boldstream.parcellation.qc_rules import QualityRules, judge

ABIDE = Path(__file__).parents[2].parent / "shared" / "data" / "abide" / "abide_cc200.npz"


def cohort(n=200, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 64)) @ np.random.default_rng(99).normal(size=(64, 64))


@pytest.mark.parametrize("n", [20, 60, 200])
def test_outliers__false_alarms_of_a_normal_cohort_are_at_the_stated_level(n):
    scores = np.concatenate([outlier_scores(cohort(n, seed)).scores for seed in range(800 // n)])
    assert (scores > 2).mean() == pytest.approx(stats.norm.sf(2), abs=0.019)
    assert (scores > 3).mean() < 0.008
    assert not (scores > 4.5).any()


@pytest.mark.parametrize("length", [3.0, 30.0, 1e6])
def test_outliers__finds_planted_scans(length):
    x = cohort()
    planted = [3, 50, 77, 130, 199]
    rng = np.random.default_rng(5)
    spread = x.std(axis=0)
    for row in planted:
        x[row] += length * spread * rng.choice([-1, 1], 64)
    found = outlier_scores(x)
    assert set(np.argsort(found.scores)[-5:]) == set(planted)
    assert (found.scores[planted] > 4).all()
    assert np.isfinite(found.scores).all()
    assert (np.delete(found.scores, planted) > 4).sum() == 0
    np.testing.assert_allclose(found.p_values, stats.norm.sf(found.scores))


def test_outliers__are_not_hidden_by_a_cluster_of_them():
    x = cohort()
    x[:20] += 20 * x.std(axis=0)
    scores = outlier_scores(x).scores
    assert (scores[:20] > 4).all()
    assert (scores[20:] > 4).mean() < 0.02


def test_outliers__of_sites_that_differ_are_sought_in_each():
    x = cohort(120)
    sites = ["a"] * 60 + ["b"] * 50 + ["c"] * 10
    x[60:110] += 15 * x.std(axis=0)
    x[110:] -= 15 * x.std(axis=0)
    x[[5, 70]] += 30 * x[:60].std(axis=0) * np.random.default_rng(1).choice([-1, 1], 64)
    scores = outlier_scores(x, sites).scores
    assert set(np.argsort(scores)[-2:]) == {5, 70}
    assert (scores > 4).sum() == 2


def test_outliers__of_small_and_nameless_sites_are_against_the_cohort():
    x = cohort(100)
    x[98:] += 30 * x.std(axis=0)
    scores = outlier_scores(x, [*["a"] * 90, *[None] * 8, "b", "b"]).scores
    assert (scores[98:] > 4).all()
    assert (scores[:98] < 4).all()


def test_outliers__are_the_same_for_the_same_seed():
    np.testing.assert_array_equal(outlier_scores(cohort(), seed=3).scores, outlier_scores(cohort(), seed=3).scores)


def test_outliers__of_few_scans_are_not_sought():
    found = outlier_scores(cohort(19))
    assert np.isnan(found.scores).all()
    assert np.isnan(found.p_values).all()
    assert found.note == "19 of 19 scans have connectivity to compare; outliers are sought among 20 or more"
    assert outlier_scores([]).note.startswith("0 of 0 scans")
    assert outlier_scores([None, None]).note.startswith("0 of 2 scans")


def test_outliers__leave_scans_without_a_sketch_out():
    x = list(cohort(50))
    x[7] = None
    x[9] = np.full(64, np.nan)
    found = outlier_scores(x)
    assert np.flatnonzero(np.isnan(found.scores)).tolist() == [7, 9]
    assert np.flatnonzero(np.isnan(found.coordinates[:, 0])).tolist() == [7, 9]
    rest = outlier_scores([row for i, row in enumerate(x) if i not in (7, 9)])
    np.testing.assert_allclose(np.delete(found.scores, [7, 9]), rest.scores)


def test_outliers__without_spread_are_none():
    assert "have the same connectivity" in outlier_scores(np.ones((30, 64))).note
    x = np.repeat(cohort(1), 40, axis=0)
    x[:5] = cohort(5)
    assert np.isnan(outlier_scores(x).scores).all()


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_outliers__of_scans_on_a_line_or_plane(rank):
    x = np.random.default_rng(0).normal(size=(60, rank)) @ np.random.default_rng(1).normal(size=(rank, 64))
    found = outlier_scores(x)
    assert np.isfinite(found.scores).all()
    assert (found.scores > 4).sum() == 0


@pytest.mark.parametrize(
    ("sketches", "sites", "message"),
    [
        (np.ones((3, 4)), ["a"], "there are 1 sites for 3 sketches"),
        ([np.ones(4), np.ones(5)], None, "sketches have 4 and 5 numbers; they are of one length in a cohort"),
    ],
)
def test_outliers__refuses(sketches, sites, message):
    with pytest.raises(ValueError, match=message):
        outlier_scores(sketches, sites)


def test_duplicates__are_grouped_in_order():
    keys = ["d", "b", "c", "a", "e", "f"]
    assert find_duplicates(keys, ["1", "2", "2", "1", None, None]) == [("a", "d"), ("b", "c")]
    assert find_duplicates([], []) == []


def test_copies__of_one_subject_leave_the_first_and_of_several_none():
    subjects = {"s1_r1": "1", "s1_r2": "1", "s1_r3": "1", "s2": "2", "s3": "3"}
    assert copies([("s1_r1", "s1_r2", "s1_r3"), ("s2", "s3")], subjects) == {
        "s1_r2": "s1_r1",
        "s1_r3": "s1_r1",
        "s2": "s3",
        "s3": "s2",
    }


@pytest.mark.abide
@pytest.mark.skipif(not ABIDE.exists(), reason="needs ../shared/data/abide")
def test_duplicates__of_abide_are_the_pair_that_two_subjects_share():
    with np.load(ABIDE) as scans:
        michigan = [*[name for name in scans.files if name.startswith("UM_1")][:20], "UM_1_0050279", "UM_1_0050286"]
        names = sorted(set(michigan))
        hashes = [measure_scan(scans[name], 2.0).content_sha256 for name in names]
        worst = next(name for name in scans.files if name.endswith("51478"))
        decision = judge(measure_scan(scans[worst], 2.0), QualityRules())
    assert find_duplicates(names, hashes) == [("UM_1_0050279", "UM_1_0050286")]
    assert decision.status == "quarantine"
    assert decision.message.startswith("bad_roi_share: share of regions constant or not finite 0.59 is above 0.5")

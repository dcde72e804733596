import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boldstream.analysis.roi_statistics import QUANTILES, Histogram, Moments, RoiStatistics
from boldstream.analysis.shift import compare_cohorts, compare_regions, compare_scan
from boldstream.parcellation.gradients import MeanConnectivity, functional_connectivity

N_ROIS = 12


def scans(n, seed=0, n_rois=N_ROIS):
    """Scans of one population: shared networks, noise, a level and a spread of each region."""
    mixing = np.random.default_rng(99).normal(size=(4, n_rois))
    level, spread = np.linspace(50, 500, n_rois), np.linspace(1, 3, n_rois)
    found = []
    for i in range(n):
        rng = np.random.default_rng([seed, i])
        x = rng.normal(size=(80, 4)) @ mixing + rng.normal(size=(80, n_rois))
        found.append(level + spread * rng.lognormal(0, 0.1) * x)
    return found


def statistics(population):
    parts = [(lambda x: x), (lambda x: x.mean(0, keepdims=True)), (lambda x: x.std(0, keepdims=True))]
    moments = [Moments(N_ROIS) for _ in parts]
    for x in population:
        for one, part in zip(moments, parts, strict=True):
            one.add(part(x))
    histograms = [Histogram(one) for one in moments]
    connectivity = MeanConnectivity(N_ROIS)
    for x in population:
        connectivity.add(functional_connectivity(x))
        for one, part in zip(histograms, parts, strict=True):
            one.add(part(x))
    return RoiStatistics.gathered(
        moments, histograms, connectivity, t_r=np.array([2.0]), length=np.array([80.0, 80.0, 80.0])
    )


@given(
    seed=st.integers(0, 2**32 - 1), cuts=st.lists(st.integers(1, 299), max_size=6, unique=True), scale=st.floats(-3, 6)
)
def test_moments_and_quantiles__are_numpys_however_values_are_grouped(seed, cuts, scale):
    rng = np.random.default_rng(seed)
    x = rng.standard_t(3, size=(300, 3)) * 10**scale + rng.normal(size=3) * 1e4
    x[:, 2] = 7.0
    groups = np.split(x, sorted(cuts))
    rng.shuffle(groups)
    moments = Moments(3)
    for group in groups:
        moments.merge(Moments(3).add(group))
    assert moments.count == 300
    np.testing.assert_allclose(moments.mean, x.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(moments.sd, x.std(axis=0), rtol=1e-6, atol=1e-9 * abs(x).max())
    np.testing.assert_array_equal([moments.low, moments.high], [x.min(axis=0), x.max(axis=0)])

    whole = Moments(3).add(x)
    one, many = Histogram(whole).add(x), Histogram(whole)
    for group in groups:
        many.merge(Histogram(whole).add(group).counts)
    np.testing.assert_array_equal(one.counts, many.counts)
    assert (one.counts.sum(axis=1) == 300).all()
    low, high = (np.quantile(x, QUANTILES, axis=0, method=method) for method in ("lower", "higher"))
    away = np.maximum(np.maximum(low - one.quantiles(), one.quantiles() - high), 0)
    assert (away <= one.width + 1e-12 * abs(x).max()).all()


def test_statistics__survive_their_bytes():
    found = statistics(scans(5))
    again = RoiStatistics.from_bytes(found.to_bytes())
    assert found.to_bytes() == again.to_bytes()
    assert again.n_scans == 5
    with pytest.raises(ValueError, match=r"is no \.npz of statistics"):
        RoiStatistics.from_bytes(b"something else")


def test_shift__names_nothing_in_scans_of_the_same_population_and_what_is_planted():
    trained = statistics(scans(200))
    same = [compare_scan(x, trained) for x in scans(100, seed=1)]
    regions = compare_regions(np.stack([one.spread for one in same]), 0.05, trained.n_scans)
    assert not regions.off.any()
    assert abs(regions.share.mean() - 0.1) < 0.05
    assert min(one.similarity for one in same) > 0.5
    assert max(one.outside for one in same) <= 1

    changed = [x * np.where(np.isin(np.arange(N_ROIS), (3, 7)), 2.0, 1.0) for x in scans(100, seed=1)]
    found = compare_regions(np.stack([compare_scan(x, trained).spread for x in changed]), 0.05, trained.n_scans)
    assert set(np.flatnonzero(found.off)) == {3, 7}
    assert (found.direction[[3, 7]] > 0.9).all()

    turned = np.random.default_rng(3).permutation(N_ROIS)
    assert compare_scan(scans(1, seed=2)[0][:, turned], trained).similarity < 0.2
    assert compare_scan(np.ones((80, N_ROIS)), trained).similarity == 0
    assert compare_scan(scans(1, seed=2)[0] * 10, trained).outside == 1


def test_cohorts__differ_by_what_is_planted():
    trained = statistics(scans(200))
    same = compare_cohorts(statistics(scans(100, seed=1)), trained)
    assert (abs(same.iqr - 1) < 0.1).all()
    assert (abs(same.median) < 0.1).all()
    assert (same.similarity > 0.99, same.difference < 0.03) == (True, True)

    def other(x):
        changed = x + np.where(np.arange(N_ROIS) == 3, 50.0, 0.0)
        changed[:, 5] = np.random.default_rng(int(abs(x[0, 0] * 1e6))).normal(size=len(x))
        changed[:, 7] = 1.0
        return changed * np.where(np.arange(N_ROIS) == 2, 3.0, 1.0)

    found = compare_cohorts(statistics([other(x) for x in scans(100, seed=1)]), trained)
    assert abs(found.iqr[2] / same.iqr[2] - 3) < 0.01
    assert found.iqr[7] < 0.01
    assert abs(found.median[3] - same.median[3] - 50 / (trained.quantiles[3] - trained.quantiles[1])[3]) < 0.01
    assert np.isnan(found.connectivity[7])
    assert np.nanargmax(found.connectivity) == 5
    assert found.similarity < same.similarity


def test_regions__that_many_scans_do_not_cover_are_not_named():
    rng = np.random.default_rng(0)

    def uncovered(seed, n):
        return [x * (rng.random(N_ROIS) > 0.3) for x in scans(n, seed=seed)]

    trained = statistics(uncovered(0, 100))
    sides = np.stack([compare_scan(x, trained).spread for x in uncovered(1, 60)])
    assert (sides >= 0).all()  # 0 is the least there is, and a third of the training scans have it
    assert not compare_regions(sides, 0.05, trained.n_scans).off.any()


@pytest.mark.parametrize(("n_trained", "n_scans"), [(16, 20), (50, 50), (200, 100)])
def test_regions__are_named_by_chance_as_rarely_as_is_said(n_trained, n_scans):
    rng = np.random.default_rng(0)
    named = []
    for _ in range(60):
        x = rng.normal(size=(n_trained + n_scans, 60))
        low, *_, high = Histogram(Moments(60).add(x[:n_trained])).add(x[:n_trained]).quantiles()
        new = x[n_trained:]
        sides = (new > high).astype(np.int8) - (new < low).astype(np.int8)
        named.append(compare_regions(sides, 0.05, n_trained).off.any())
    # 60 draws of 5 % are more than 8 in 1 of 1000 cases; taking the range for known gives 20 and more
    assert sum(named) <= 8

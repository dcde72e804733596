import numpy as np
import pandas as pd
import pytest

from boldstream.analysis.folds import nested_folds
from boldstream.analysis.nuisance import probe_motion, probe_site

N = 240


def study(effect, seed=0):
    rng = np.random.default_rng(seed)
    site = rng.choice(3, N, p=[0.6, 0.3, 0.1])
    scans = pd.DataFrame({"scan": np.arange(N), "subject": np.arange(N) // 2, "site": site[np.arange(N) // 2 * 2]})
    fd = np.exp(rng.normal(size=N) - 2)
    x = rng.normal(size=(N, 12)) + effect * np.eye(12)[scans["site"]]
    x[:, 7] += effect * np.log(fd)
    return scans, x, fd


def test_probe_site__tells_planted_sites_and_is_at_chance_without():
    scans, x, _ = study(3.0)
    found = probe_site(x, scans["site"], nested_folds(scans), n=200)
    assert found.balanced_accuracy.low > 0.8
    assert (found.chance, found.sites, found.n_left_out) == (1 / 3, ("0", "1", "2"), 0)
    none = [probe_site(study(0.0, seed)[1], scans["site"], nested_folds(scans), n=50) for seed in range(5)]
    assert np.mean([one.balanced_accuracy.value for one in none]) == pytest.approx(1 / 3, abs=0.05)


def test_probe_site__counts_rare_sites_as_much_as_frequent_ones():
    rng = np.random.default_rng(0)
    site = (np.arange(400) % 10 == 0).astype(int)
    x = rng.normal(size=(400, 5)) + np.outer(site, np.full(5, 0.6))
    scans = pd.DataFrame({"scan": np.arange(400), "subject": np.arange(400), "site": site})
    # one site is nine times as frequent: to name it always is right nine times of ten, and half right of two sites
    assert probe_site(x, site, nested_folds(scans), n=100).balanced_accuracy.low > 0.6


def test_probe_site__leaves_out_sites_that_a_fold_does_not_train_on():
    scans, x, _ = study(3.0)
    site = scans["site"].to_numpy().copy()
    site[:2] = 9
    found = probe_site(x, site, nested_folds(scans.assign(site=site)), n=50)
    assert found.sites == ("0", "1", "2")
    assert found.n_left_out == 2
    with pytest.raises(ValueError, match=r"1 site\(s\) are in every training fold"):
        probe_site(x, np.zeros(N), nested_folds(scans))


def test_probe_motion__tells_planted_motion_and_nothing_without():
    scans, x, fd = study(1.0)
    fd[:3] = [np.nan, 0.0, np.nan]
    found = probe_motion(x, fd, scans, n=200)
    assert found.n_left_out == 3
    assert found.r2.low > 0.3
    assert found.r.value > 0.6
    assert found.largest_r == pytest.approx(abs(np.corrcoef(np.log(fd[3:]), x[3:, 7])[0, 1]))
    scans, x, fd = study(0.0)
    assert probe_motion(x, fd, scans, n=200).r2.low < 0.02

"""Probes across sites: heads, folds of whole sites, and nested predictions together."""

import numpy as np
import pandas as pd
import pytest
from sklearn.preprocessing import StandardScaler

from boldstream.analysis.folds import leave_site_out, nested_folds
from boldstream.analysis.heads.catalog import make_head
from boldstream.analysis.nested import predict_nested, score

N, SITES = 120, 8
SITE = np.repeat(np.arange(SITES), N // SITES)


def scans_of(site=SITE):
    return pd.DataFrame({"scan": np.arange(N), "subject": np.arange(N), "site": site})


def probed(x, y, folds, kind="continuous"):
    head = make_head("ridge" if kind == "continuous" else "logistic", kind)
    return predict_nested(x, y, folds, head, kind=kind, front=StandardScaler())


def test_name_of_a_site__is_worth_nothing_at_other_sites():
    rng = np.random.default_rng(0)
    age = 10.0 * rng.normal(size=SITES)[SITE] + rng.normal(size=N)
    x = np.eye(SITES)[SITE]
    assert score(probed(x, age, leave_site_out(scans_of())), "continuous")["r2"] < 0.05
    # the same with rows of a site on both sides would look like a find
    assert score(probed(x, age, nested_folds(scans_of(), age)), "continuous")["r2"] > 0.9


@pytest.mark.parametrize("d", [3, 300])
def test_collapsed_vectors__give_numbers(d):
    rng = np.random.default_rng(0)
    x, folds = np.full((N, d), 0.1), leave_site_out(scans_of())
    found = probed(x, rng.normal(size=N), folds)
    np.testing.assert_allclose(found.predicted, found.null)
    decision = probed(x, rng.integers(0, 2, N), folds, "binary").predicted
    np.testing.assert_allclose(decision, 0, atol=1e-4)  # the solver stops at a gradient of 1e-6


def test_permuted_targets__are_at_chance():
    rng = np.random.default_rng(1)
    x, folds = rng.normal(size=(N, 10)), leave_site_out(scans_of(rng.integers(0, SITES, N)))
    signal = x @ rng.normal(size=10)
    r2s, aucs = [], []
    for _ in range(8):
        order = rng.permutation(N)
        r2s.append(score(probed(x, signal[order], folds), "continuous")["r2"])
        aucs.append(score(probed(x, signal[order] > 0, folds, "binary"), "binary")["auroc"])
    assert -0.15 < np.mean(r2s) < 0.03
    assert np.mean(aucs) == pytest.approx(0.5, abs=0.07)

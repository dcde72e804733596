"""How much of site and motion a probe finds: nothing in noise, all that is planted, whatever the basis."""

import numpy as np
import pytest
from scipy import stats

from boldstream.analysis.adjustment import Adjustment
from boldstream.analysis.fronts import AdjustedFeatures
from boldstream.analysis.nuisance import PooledFor, before_and_after, motion_r2, site_accuracy
from boldstream.analysis.pooling import AttentionPooling
from boldstream.analysis.steps import HarmonizeStep, ProjectStep, ResidualizeStep

N, P = 240, 10
SUBJECTS = np.array([f"{i:03d}" for i in range(N)])
SITE = np.array(["A", "B", "C"])[np.arange(N) % 3]
MOTION = np.random.default_rng(3).gamma(2, 0.1, N)


def vectors(shift=0.0, motion=0.0):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, P)) + shift * (np.arange(N) % 3)[:, None] * rng.normal(size=P)
    return x + motion * np.outer(MOTION, rng.normal(size=P))


def test_noise__tells_neither_site_nor_motion():
    low, high = stats.binom.interval(0.999, N, 1 / 3)
    found = site_accuracy(vectors(), SITE, SUBJECTS)
    assert found["site_chance"] == pytest.approx(1 / 3)
    assert low / N < found["site_balanced_accuracy"] < high / N
    assert motion_r2(vectors(), MOTION, SUBJECTS)["mean_fd_r2"] < 0.05


def test_planted_site_and_motion__are_found():
    x = vectors(shift=3.0, motion=20.0)
    assert site_accuracy(x, SITE, SUBJECTS)["site_balanced_accuracy"] > 0.95
    assert motion_r2(x, MOTION, SUBJECTS)["mean_fd_r2"] > 0.5


def test_probes__do_not_care_for_the_basis():
    """A site in a dimension a thousandth as large as the others is found as well as in one of their size."""
    x = vectors(shift=0.4, motion=5.0)
    skew = np.linalg.qr(np.random.default_rng(1).normal(size=(P, P)))[0] * np.logspace(0, -3, P)
    for probe, target, name in ((site_accuracy, SITE, "site_balanced_accuracy"), (motion_r2, MOTION, "mean_fd_r2")):
        assert probe(x @ skew + 5, target, SUBJECTS)[name] == pytest.approx(probe(x, target, SUBJECTS)[name], abs=1e-6)


def test_a_projection_that_loses_nothing__changes_nothing():
    step = ProjectStep(step="project", dim=P)
    found = before_and_after(Adjustment((step,)), vectors(0.4, 5.0), {"site": SITE, "mean_fd": MOTION}, SUBJECTS)
    for name in ("site_balanced_accuracy", "mean_fd_r2"):
        assert found[f"{name}_after"] == pytest.approx(found[f"{name}_before"], abs=1e-6)
    assert found["n_measured"] == N


def test_two_rows_of_a_subject__are_never_trained_and_tested_on():
    """Every subject has a vector of its own, twice, and sites are noise: who knows a subject knows its site."""
    n = 200
    x = np.repeat(np.random.default_rng(0).normal(size=(n, 100)), 2, axis=0)
    site = np.repeat(np.array(["A", "B"])[np.random.default_rng(1).integers(2, size=n)], 2)
    low, high = stats.binom.interval(0.999, n, 0.5)
    subjects = np.repeat([f"{i:03d}" for i in range(n)], 2)
    assert low / n < site_accuracy(x, site, subjects)["site_balanced_accuracy"] < high / n
    assert site_accuracy(x, site, np.arange(2 * n).astype(str))["site_balanced_accuracy"] > high / n


def test_small_sites_and_unknown_ones__are_left_out():
    site = SITE.copy()
    site[:4], site[4:20] = "lonely", ""
    found = site_accuracy(vectors(3.0), site, SUBJECTS)
    assert found["site_chance"] == pytest.approx(1 / 3)
    assert site_accuracy(vectors(), np.full(N, "A"), SUBJECTS) == {}
    assert motion_r2(vectors(), np.full(N, np.nan), SUBJECTS) == {}
    assert motion_r2(vectors(), np.full(N, 0.1), SUBJECTS) == {}


def test_what_cannot_be_measured__says_why():
    covariates = {"site": SITE[:12], "mean_fd": np.full(12, np.nan)}
    step = ProjectStep(step="project", dim=2)
    told = before_and_after(Adjustment((step,)), vectors()[:12], covariates, SUBJECTS[:12])
    assert told == {"not_measured": "too few subjects: two sites of 5, or 10 with mean_fd, in each half"}
    harmonize = HarmonizeStep(step="harmonize", keep=(), min_per_site=100)
    told = before_and_after(Adjustment((harmonize,)), vectors(), {"site": SITE}, SUBJECTS)
    assert told["not_measured"].startswith("the adjustment cannot be learnt from half of the rows: 3 of 3 sites have")


def test_a_site_of_one_subject__is_measured_without_it():
    site = SITE.copy()
    site[0] = "X"
    step = ResidualizeStep(step="residualize", covariates=("site",))
    assert before_and_after(Adjustment((step,)), vectors(), {"site": site}, SUBJECTS)["n_measured"] == N - 1


def test_latents__behind_a_query_that_has_learnt_nothing_are_measured_as_their_means():
    rng = np.random.default_rng(0)
    latents = (vectors(shift=1.0, motion=10.0)[:, None] + rng.normal(size=(N, 3, P))).astype(np.float32)
    known = {"site": SITE, "mean_fd": MOTION}
    steps = Adjustment((ResidualizeStep(step="residualize", covariates=("site",)),))
    asked = PooledFor(rng.normal(size=N), np.arange(N) % 3)
    behind = AdjustedFeatures(AttentionPooling(epochs=(0,)), steps)
    found = before_and_after(behind, latents, known, SUBJECTS, pooled_for=asked)
    assert found == pytest.approx(before_and_after(steps, latents.mean(axis=1), known, SUBJECTS), abs=1e-3)
    # rows without a value are measured too, and none is trained on
    lacking = PooledFor(np.full(N, np.nan), asked.folds)
    found = before_and_after(behind, latents, known, SUBJECTS, pooled_for=lacking)
    assert found["not_measured"].endswith("0 rows with a value are too few for a query to be trained on")

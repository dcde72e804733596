"""Transfer holds what it claims: no shift costs nothing, planted ones what they must, and diagnostics say which."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.preprocessing import StandardScaler

from boldstream.analysis.folds import nested_folds
from boldstream.analysis.heads.catalog import make_head
from boldstream.analysis.intervals import bootstrap_ci
from boldstream.analysis.nested import METRICS, predict_nested
from boldstream.analysis.transfer import Side, calibration, degradation, on_folds_of, transfer
from boldstream.analysis.transfer_shift import covariate_overlap, vector_shift

D, R2 = 16, 0.4
WEIGHT = np.random.default_rng(7).normal(size=D)
WEIGHT /= np.linalg.norm(WEIGHT)
N_SOURCE, N_TARGET = 1500, 800
SD_AGE = 40 / np.sqrt(12)
"""Of adults from 20 to 60."""


def cohort(name, n, seed, *, sites, scanner=0.0, age=(20, 60), turned=0.0, bent=0.0):
    """People whose age is in their vectors with a known ceiling; a scanner may offset, an illness turn them.

    Parameters
    ----------
    scanner : float
        Standard deviations by which every dimension is offset.
    turned : float
        Share of the weight that lies along other directions than in the source.
    bent : float
        How far from a line age is in the vectors, at the youngest.
    """
    rng = np.random.default_rng(seed)
    years = rng.uniform(*age, n)
    level = (years - 40) / SD_AGE
    level = level - bent * np.square(np.minimum(level + 1.8, 0))
    other = np.linalg.qr(np.column_stack([WEIGHT, rng.normal(size=D)]))[0][:, 1]
    along = np.sqrt(1 - turned**2) * WEIGHT + turned * other
    noise = rng.normal(size=(n, D))
    x = noise + (np.sqrt(R2 / (1 - R2)) * level)[:, None] * along + scanner
    scans = pd.DataFrame({"scan": [f"{name}{i}" for i in range(n)], "subject": [f"{name}{i}" for i in range(n)]})
    scans["site"], scans["age"] = rng.choice(sites, n), years
    return Side(x, years, scans)


SOURCE = cohort("s", N_SOURCE, 0, sites=["A", "B", "C", "D"])


def judged(target, head="ridge"):
    """Transfer, and the target's own cross-validation on the same scans."""
    found = transfer(SOURCE, target, make_head(head, "continuous"), kind="continuous", front=StandardScaler())
    folds = nested_folds(target.scans, target.y)
    own = predict_nested(
        target.x, target.y, folds, make_head(head, "continuous"), kind="continuous", front=StandardScaler()
    )
    return found, own


def lost(predictions, own, target):
    return degradation(predictions, own, "continuous", units=target.scans["subject"], n=300)


def test_no_shift__costs_nothing_and_reaches_the_ceiling():
    target = cohort("t", N_TARGET, 1, sites=["E", "F"])
    found, own = judged(target)
    told = lost(found.unchanged, own, target)
    # fitted to more people than the target has, it is no worse than the target's own
    assert told.difference.low > -0.03
    assert told.verdict != "worse"
    value = bootstrap_ci(METRICS["continuous"]["r2"], *on_folds_of(found.unchanged, own).arrays, n=300, method="bca")
    assert value.low < R2 < value.high
    calibrated = calibration(found.unchanged, "continuous")
    assert calibrated.in_the_large == pytest.approx(0, abs=1.5)
    assert calibrated.slope == pytest.approx(1, abs=0.12)
    shift = vector_shift(SOURCE.x, target.x, SOURCE.scans["subject"], target.scans["subject"])
    assert shift.told_apart == pytest.approx(0.5, abs=0.06)
    assert shift.p_value > 0.01


def test_scanner_offset__costs_calibration_and_is_mended_without_targets():
    target = cohort("t", N_TARGET, 1, sites=["E"], scanner=0.8)
    found, own = judged(target)
    assert lost(found.unchanged, own, target).verdict == "worse"
    # the best predictor's slope along the weight, in standard deviations of age, times the offset along it
    expected = np.sqrt(R2 * (1 - R2)) * 0.8 * WEIGHT.sum() * SD_AGE
    assert calibration(found.unchanged, "continuous").in_the_large == pytest.approx(-expected, abs=1.0)
    for mended in (found.recentred, found.recalibrated):
        assert lost(mended, own, target).difference.low > -0.04
        assert calibration(mended, "continuous").in_the_large == pytest.approx(0, abs=1.5)
    # ranks are not touched: the offset is the same for all
    assert METRICS["continuous"]["r"](*found.unchanged.arrays) == pytest.approx(np.sqrt(R2), abs=0.04)
    shift = vector_shift(SOURCE.x, target.x, SOURCE.scans["subject"], target.scans["subject"])
    assert (shift.told_apart > 0.9, shift.p_value) == (True, 0.001)


def test_turned_signal__is_lost_and_nothing_mends_it():
    target = cohort("t", N_TARGET, 1, sites=["E"], turned=0.95)
    found, own = judged(target)
    for predictions in found.versions.values():
        assert lost(predictions, own, target).verdict == "worse"
        assert lost(predictions, own, target).first < 0.15
    assert lost(found.unchanged, own, target).second == pytest.approx(R2, abs=0.08)


def test_children__are_beyond_the_adults_and_the_overlap_says_so():
    target = cohort("t", N_TARGET, 1, sites=["E"], age=(6, 20), bent=0.6)
    found, own = judged(target)
    assert lost(found.unchanged, own, target).verdict == "worse"
    ages = covariate_overlap(SOURCE.scans, target.scans, ["age", "site"])
    assert [round(one.outside) for one in ages] == [1, 1]
    # recentring takes away that they are children: worse than leaving them
    assert lost(found.recentred, own, target).first < lost(found.unchanged, own, target).first
    # the source's mean is far off: R2 against it flatters, against the target's own mean it does not
    assert METRICS["continuous"]["r2"](*found.unchanged.arrays) > 0.2
    assert lost(found.unchanged, own, target).first < 0


@pytest.mark.parametrize("name", ["logistic", "prototype"])
def test_classes__transfer_to_their_ceiling_and_an_offset_spoils_the_threshold_only(name):
    rng = np.random.default_rng(0)

    def patients(label, n, offset):
        ill = rng.random(n) < 0.4
        x = rng.normal(size=(n, D)) + np.outer(1.2 * ill, WEIGHT) + offset * WEIGHT
        scans = pd.DataFrame({"scan": [f"{label}{i}" for i in range(n)], "subject": [f"{label}{i}" for i in range(n)]})
        return Side(x, ill.astype(int), scans.assign(site=rng.choice(["A", "B", "C"], n)))

    source, plain, off = patients("s", 1500, 0.0), patients("t", 1000, 0.0), patients("u", 1000, 1.0)
    ceiling = stats.norm.cdf(1.2 / np.sqrt(2))
    head = make_head(name, "binary")
    for target in (plain, off):
        found = transfer(source, target, head, kind="binary", front=StandardScaler())
        assert METRICS["binary"]["auroc"](*found.unchanged.arrays) == pytest.approx(ceiling, abs=0.03)
        told, mended = (calibration(one, "binary") for one in (found.unchanged, found.recalibrated))
        assert mended.error < 0.06
        assert mended.in_the_large == pytest.approx(0, abs=0.02)
        assert (abs(told.in_the_large) > 0.1) == (target is off)
        accuracy = METRICS["binary"]["balanced_accuracy"](*found.unchanged.arrays)
        best = stats.norm.cdf(1.2 / 2)
        assert accuracy < best - 0.04 if target is off else accuracy == pytest.approx(best, abs=0.03)
        back = METRICS["binary"]["balanced_accuracy"](*found.recentred.arrays)
        assert back == pytest.approx(best, abs=0.035)

import warnings

import numpy as np
import pytest

from boldstream.analysis.collapse import (
    CollapseMetrics,
    CollapseThresholds,
    TokenMoments,
    find_alarms,
    measure_collapse,
    phase_randomised,
)
from boldstream.analysis.quality import mean_pairwise_cosine, rankme

S, N, D = 12, 30, 8


def moments_of(tokens, size=None):
    moments = TokenMoments()
    for start in range(0, len(tokens), size or len(tokens)):
        moments.add(tokens[start : start + (size or len(tokens))])
    return moments


def healthy(seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(1, N, D)) + rng.normal(size=(S, 1, D)) + rng.normal(size=(S, N, D))


def position_only():
    rng = np.random.default_rng(0)
    return rng.normal(size=(1, N, D)) + 1.0 + 1e-4 * rng.normal(size=(S, N, D))


def measured(tokens, phase=None, zero=None):
    moments = moments_of(tokens)
    vectors = moments.vectors()
    return measure_collapse(moments, vectors if phase is None else phase, vectors[0] if zero is None else zero)


def test_measure_collapse__equals_the_definitions():
    tokens = healthy()
    vectors = tokens.mean(axis=1)
    found = measured(tokens, phase=vectors + 0.1, zero=np.zeros(D))
    between = tokens.var(axis=0)
    assert found.feature_std == pytest.approx(tokens.std(axis=(0, 1)).mean())
    assert found.feature_std_min == pytest.approx(tokens.std(axis=(0, 1)).min())
    assert found.between_std == pytest.approx(np.sqrt(between.mean(axis=0)).mean())
    assert found.subject_share == pytest.approx(between.mean(axis=0).sum() / tokens.mean(axis=0).var(axis=0).sum())
    assert found.rankme == pytest.approx(rankme(vectors))
    assert found.rankme_centred == pytest.approx(rankme(vectors - vectors.mean(axis=0)))
    assert found.mean_cosine == pytest.approx(mean_pairwise_cosine(vectors))
    mean_length = np.linalg.norm(vectors, axis=1).mean()
    assert found.sensitivity_phase == pytest.approx(0.1 * np.sqrt(D) / mean_length)
    assert found.sensitivity_zero == pytest.approx(1.0)


def test_token_moments__do_not_depend_on_batches():
    tokens = (healthy() + 1e4).astype(np.float32)
    whole = moments_of(tokens)
    for size in (1, 5):
        parts = moments_of(tokens, size)
        assert parts.count == S
        for name in ("vectors", "position_means", "between_variance"):
            np.testing.assert_allclose(getattr(parts, name)(), getattr(whole, name)(), rtol=1e-9)


def test_token_moments__keep_their_digits_beside_a_large_common_token():
    tokens = 1e6 + 1e-3 * np.random.default_rng(0).normal(size=(S, N, D))
    np.testing.assert_allclose(moments_of(tokens).between_variance(), tokens.var(axis=0), rtol=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.1])
def test_measure_collapse__of_a_constant_encoder_gives_numbers(value):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = measured(np.full((S, N, D), value, dtype=np.float32))
    assert found.metrics("collapse/") == pytest.approx(
        {
            "collapse/feature_std": 0.0,
            "collapse/feature_std_min": 0.0,
            "collapse/between_std": 0.0,
            "collapse/subject_share": 0.0,
            "collapse/rankme": 1.0,
            "collapse/rankme_centred": 1.0,
            "collapse/mean_cosine": 1.0,
            "collapse/sensitivity_phase": 0.0,
            "collapse/sensitivity_zero": 0.0,
        },
        abs=1e-6,
    )
    assert len(find_alarms(found, CollapseThresholds())) == 6


def test_measure_collapse__of_position_only_tokens_raises_the_right_alarms():
    alarms = find_alarms(measured(position_only()), CollapseThresholds())
    assert {alarm.split()[0] for alarm in alarms} == {
        "subject_share", "mean_cosine", "sensitivity_phase", "sensitivity_zero",
    }  # fmt: skip


def test_measure_collapse__of_scans_along_one_line_has_centred_rank_one():
    rng = np.random.default_rng(0)
    line = rng.normal(size=(1, 1, D)) + rng.normal(size=(S, 1, 1)) * rng.normal(size=(1, 1, D))
    found = measured(line + rng.normal(size=(1, N, D)))
    assert found.rankme_centred == pytest.approx(1.0, abs=1e-6)
    assert found.rankme > 1.2


def test_find_alarms__is_silent_for_a_healthy_encoder():
    found = measured(healthy(), phase=healthy(1).mean(axis=1), zero=np.zeros(D))
    assert find_alarms(found, CollapseThresholds()) == []


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("feature_std", 0.002, r"^feature_std 0.002 is below 0.01: features hardly vary .*\(constant encoder\)$"),
        ("subject_share", 2e-4, r"^subject_share 0.0002 is below 0.001: tokens vary .*\(position-only encoder\)$"),
        ("rankme_centred", 1.25, r"^rankme_centred 1.25 is below 2: scans differ along one line"),
        ("mean_cosine", 0.99995, r"^mean_cosine 0.99995 is above 0.9999: the vectors of all scans point the same way"),
        ("sensitivity_phase", 1e-5, r"^sensitivity_phase 1e-05 is below 0.001: .*\(encoder ignores connectivity\)$"),
        ("sensitivity_zero", 1e-5, r"^sensitivity_zero 1e-05 is below 0.001: .*\(encoder ignores its input\)$"),
        ("sensitivity_zero", float("nan"), r"^sensitivity_zero nan is below"),
    ],
)
def test_find_alarms__says_number_threshold_and_meaning(name, value, message):
    good = dict.fromkeys(CollapseMetrics.__dataclass_fields__, 3.0) | {"mean_cosine": 0.5}
    (alarm,) = find_alarms(CollapseMetrics(**(good | {name: value})), CollapseThresholds())
    with pytest.raises(RuntimeError, match=message):
        raise RuntimeError(alarm)


def test_find_alarms__follows_the_thresholds():
    found = measured(position_only())
    lax = CollapseThresholds(subject_share=0, mean_cosine=1, sensitivity=0)
    assert find_alarms(found, lax) == []
    assert measured(healthy()[:, :1]).subject_share == float("inf")


def test_measure_collapse__leaves_zero_vectors_out_of_the_cosine():
    tokens = healthy()
    tokens[0] = 0.0
    assert measured(tokens).mean_cosine == pytest.approx(mean_pairwise_cosine(tokens[1:].mean(axis=1)))


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (np.ones((3, 4)), r"tokens are \(n_scans, n_positions, n_dims\), got shape \(3, 4\)"),
        (np.ones((1, N + 1, D)), rf"tokens are \({N + 1}, {D}\) a scan, but \({N}, {D}\) in the scans before"),
        (np.full((1, N, D), np.nan), f"tokens hold {N * D} values that are NaN or infinite; the encoder diverged"),
    ],
)
def test_token_moments__refuse(tokens, message):
    moments = moments_of(healthy())
    with pytest.raises(ValueError, match=message):
        moments.add(tokens)
    assert moments.count == S


def test_measure_collapse__refuses():
    moments = moments_of(healthy())
    with pytest.raises(ValueError, match=r"phase has shape \(3, 8\), the scans' vectors have \(12, 8\)"):
        measure_collapse(moments, np.ones((3, D)), np.zeros(D))
    with pytest.raises(ValueError, match="zero holds 8 values that are NaN"):
        measure_collapse(moments, np.ones((S, D)), np.full(D, np.nan))
    with pytest.raises(ValueError, match=r"1 scan\(s\) added, at least 2 needed"):
        measured(healthy()[:1])
    with pytest.raises(ValueError, match=r"0 scan\(s\) added, at least 1 needed"):
        TokenMoments().vectors()


def coupled(n_timepoints, kind=np.float64):
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(3, n_timepoints, 1))
    return (5 + shared + 0.2 * rng.normal(size=(3, n_timepoints, 6))).astype(kind)


@pytest.mark.parametrize("n_timepoints", [200, 201])
def test_phase_randomised__keeps_spectra_and_destroys_coupling(n_timepoints):
    windows = coupled(n_timepoints)
    found = phase_randomised(windows, np.random.default_rng(1))
    power = [np.abs(np.fft.rfft(x, axis=1)) for x in (windows, found)]
    np.testing.assert_allclose(power[1], power[0], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(found.mean(axis=1), windows.mean(axis=1))
    np.testing.assert_allclose(found.std(axis=1), windows.std(axis=1))
    off = ~np.eye(6, dtype=bool)
    assert np.mean([np.corrcoef(w.T)[off].mean() for w in windows]) > 0.9
    assert abs(np.mean([np.corrcoef(w.T)[off].mean() for w in found])) < 0.05


def test_phase_randomised__is_set_by_the_generator_alone():
    windows = coupled(50, np.float32)
    whole = phase_randomised(windows, np.random.default_rng(3))
    assert whole.dtype == np.float32
    rng = np.random.default_rng(3)
    parts = np.concatenate([phase_randomised(windows[:1], rng), phase_randomised(windows[1:], rng)])
    np.testing.assert_array_equal(parts, whole)
    assert not np.allclose(phase_randomised(windows, np.random.default_rng(4)), whole)
    np.testing.assert_array_equal(phase_randomised(np.zeros((2, 9, 3)), rng), 0)


def test_phase_randomised__refuses():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"windows are \(W, n_timepoints, n_rois\), got shape \(3, 4\)"):
        phase_randomised(np.ones((3, 4)), rng)
    with pytest.raises(ValueError, match="windows hold 24 values that are NaN"):
        phase_randomised(np.full((2, 3, 4), np.nan), rng)

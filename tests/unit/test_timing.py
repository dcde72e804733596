import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boldstream.errors import ScanError
from boldstream.parcellation.timing import (
    ChosenTR,
    check_t_r,
    choose_t_r,
    header_t_r,
    pick,
    resample,
    resampled_length,
    resampling_notes,
    sidecar_t_r,
)
from science.compare_resampling import compare_resampling, main

RATES = [(0.735, 2.205), (0.735, 2.0), (0.72, 2.205), (1.66, 2.205), (2.0, 3.0)]


@pytest.mark.parametrize("t_r", [0.06, 0.735, 2.0, 29.0])
def test_check__lets_repetition_times_through(t_r):
    assert check_t_r(t_r, "header") == t_r


@pytest.mark.parametrize(
    ("t_r", "message"),
    [
        (0.0, "bad_t_r: header: 0 s is no repetition time; correct it there, or give t_r in seconds"),
        (-2.0, "-2 s is no repetition time; correct"),
        (1000.0, "1000 s is no repetition time; these look like milliseconds"),
        (float("nan"), "nan s is no repetition time; correct"),
        (float("inf"), "inf s is no repetition time; correct"),
    ],
)
def test_check__refuses_what_no_scanner_has(t_r, message):
    with pytest.raises(ScanError, match=message):
        check_t_r(t_r, "header")


def test_sidecar__says_seconds_or_nothing():
    assert sidecar_t_r(b'{"RepetitionTime": 2}', "a.json") == 2.0
    assert sidecar_t_r(b'{"RepetitionTime": null}', "a.json") is None
    assert sidecar_t_r(b'{"EchoTime": 0.03}', "a.json") is None
    assert sidecar_t_r(b"[1]", "a.json") is None


@pytest.mark.parametrize("value", ["2.0", [2.0], True, {"s": 2}])
def test_sidecar__refuses_what_is_no_number(value):
    data = json.dumps({"RepetitionTime": value}).encode()
    with pytest.raises(ScanError, match=r"bad_t_r: a.json: RepetitionTime is .*, not a number of seconds"):
        sidecar_t_r(data, "a.json")


@pytest.mark.parametrize("data", [b"{", b"\xff\xfe\xff", b""])
def test_sidecar__refuses_what_is_no_json(data):
    with pytest.raises(ScanError, match=r"bad_t_r: a.json is not JSON"):
        sidecar_t_r(data, "a.json")


@pytest.mark.parametrize(
    ("step", "zooms", "units", "t_r"),
    [
        (float(np.float32(0.735)), (2, 2, 2), "sec", 0.735),
        (2000.0, (3, 3, 3), "msec", 2.0),
        (735000.0, (2, 2, 2), "usec", 0.735),
        (2.0, (3, 3, 3), "unknown", 2.0),
        (1.0, (2, 2, 2), "sec", 1.0),
        (1.0, (), "sec", 1.0),
        (2000.0, (3, 3, 3), "sec", 2000.0),
        (1.0, (1.0, 1.0, 1.0), "sec", None),
        (0.0, (2, 2, 2), "sec", None),
        (-1.0, (2, 2, 2), "sec", None),
        (float("nan"), (2, 2, 2), "sec", None),
        (2.0, (2, 2, 2), "hz", None),
    ],
)
def test_header__says_seconds_or_nothing(step, zooms, units, t_r):
    assert header_t_r(step, zooms, units) == t_r


def test_header__is_what_nibabel_reads():
    nibabel = pytest.importorskip("nibabel")
    image = nibabel.Nifti1Image(np.zeros((2, 2, 2, 3), dtype=np.int16), np.diag([2, 2, 2, 1]))
    image.header.set_zooms((2, 2, 2, 0.735))
    image.header.set_xyzt_units("mm", "sec")
    *zooms, step = image.header.get_zooms()
    assert header_t_r(float(step), zooms, image.header.get_xyzt_units()[1]) == 0.735


def test_choice__is_the_first_that_says_something():
    assert choose_t_r({"t_r": None, "a.json": 2.0, "header": 2.001}) == ChosenTR(2.0, "a.json")
    assert choose_t_r({"t_r": None, "header": 0.8}) == ChosenTR(0.8, "header")
    assert choose_t_r({"t_r": None}) == ChosenTR(None, None)


@pytest.mark.parametrize("other", [1.0, 2000.0, 0.0, float("nan")])
def test_choice__notes_who_says_something_else(other):
    chosen = choose_t_r({"t_r": 2.0, "a.json": 2.0, "header": other})
    assert (chosen.t_r, chosen.source) == (2.0, "t_r")
    assert chosen.notes == (f"header says {other:g} s, taken is 2 s of t_r",)


def test_choice__refuses_a_source_that_cannot_be_right():
    with pytest.raises(ScanError, match=r"bad_t_r: a.json: 2000 s .*milliseconds"):
        choose_t_r({"t_r": None, "a.json": 2000.0, "header": 2.0})


def waves(t, hertz, phases=0.0):
    return np.sin(2 * np.pi * np.multiply.outer(t, hertz) + phases)


@pytest.mark.parametrize(("t_r", "target"), [*RATES, (0.72, 0.735), (2.0, 0.72), (3.0, 2.0)])
@settings(deadline=None, max_examples=40)
@given(share=st.floats(0.02, 0.75), phase=st.floats(0, 6.28))
def test_resample__keeps_amplitude_and_phase_of_what_the_target_can_hold(t_r, target, share, phase):
    hertz = share * 0.5 / max(t_r, target)
    out = resample(waves(np.arange(0, 200 * target, t_r), [hertz], phase), t_r, target)
    t = np.arange(len(out)) * target
    middle = slice(40, -40)
    assert np.abs(out - waves(t, [hertz], phase))[middle].max() < 1e-2


@pytest.mark.parametrize(("t_r", "target"), RATES)
@settings(deadline=None, max_examples=40)
@given(where=st.floats(0, 1), phase=st.floats(0, 6.28))
def test_resample__removes_by_40_db_what_the_target_cannot_hold(t_r, target, where, phase):
    slowest, fastest = 1.2 * 0.5 / target, 0.5 / t_r
    hertz = slowest + where * (fastest - slowest)
    series = waves(np.arange(0, 200 * target, t_r), [hertz], phase)
    assert np.abs(resample(series, t_r, target)[20:-20]).max() < 1e-2


def test_pick__folds_what_resample_removes():
    t = np.arange(490) * 0.735
    series = waves(t, [0.3])  # the Nyquist frequency of 2.205 s is 0.227 Hz
    folded = waves(np.arange(164) * 2.205, [0.3 - 1 / 2.205])
    np.testing.assert_allclose(pick(series, 3), folded, atol=1e-6)
    assert np.abs(resample(series, 0.735, 2.205)[20:-20]).max() < 1e-2
    assert pick(series, 3).dtype == np.float32


def test_pick__refuses_a_stride_of_nothing():
    with pytest.raises(ValueError, match="stride must be at least 1, got 0"):
        pick(np.zeros((4, 2)), 0)


@settings(deadline=None, max_examples=40)
@given(value=st.floats(-1e4, 1e4), n=st.integers(2, 300), rate=st.sampled_from([*RATES, (2.0, 0.72)]))
def test_resample__keeps_constants_constant(value, n, rate):
    out = resample(np.full((n, 2), value), *rate)
    assert out.shape == (resampled_length(n, *rate), 2)
    np.testing.assert_array_equal(out, np.float32(value))


@settings(deadline=None, max_examples=40)
@given(n=st.integers(2, 300), t_r=st.floats(0.3, 4), target=st.floats(0.3, 4))
def test_resample__is_as_long_as_announced_and_as_the_scan(n, t_r, target):
    out = resample(np.zeros((n, 1)), t_r, target)
    assert len(out) == resampled_length(n, t_r, target)
    assert abs(len(out) * target - n * t_r) <= target + 2e-3 * n * t_r


@settings(deadline=None, max_examples=40)
@given(n=st.integers(2, 100), scale=st.floats(0.1, 10))
def test_resample__is_linear(n, scale):
    a, b = np.random.default_rng(n).normal(size=(2, n, 3))
    together = resample(a + scale * b, 0.735, 2.205)
    apart = resample(a, 0.735, 2.205) + scale * resample(b, 0.735, 2.205)
    np.testing.assert_allclose(together, apart, atol=1e-4)


@settings(deadline=None, max_examples=40)
@given(offset=st.floats(-1e4, 1e4), slope=st.floats(-10, 10))
def test_resample__keeps_offset_and_drift_to_the_ends(offset, slope):
    t = np.arange(100) * 0.735
    out = resample((offset + slope * t)[:, None], 0.735, 2.2)
    np.testing.assert_allclose(out[:, 0], offset + slope * np.arange(len(out)) * 2.2, rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("rate", [(2.0, 0.72), (0.735, 2.0)])
def test_resample__is_the_same_around_any_offset(rate):
    series = np.random.default_rng(0).normal(size=(100, 2))
    np.testing.assert_allclose(resample(series + 1e4, *rate), resample(series, *rate) + 1e4, atol=2e-3)


def test_resample__leaves_equal_repetition_times_alone():
    series = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)
    np.testing.assert_array_equal(resample(series, 2.0, 2.001), series)


def test_resample__refuses_nonsense():
    series = np.zeros((30, 3))
    with pytest.raises(ValueError, match="target_t_r must be a positive number"):
        resample(series, 2.0, 0.0)
    with pytest.raises(ScanError, match=r"t_r_unknown: .*check the sidecar's unit"):
        resample(series, 1e-5, 2.0)
    with pytest.raises(ScanError, match="t_r_unknown: repetition time is None"):
        resample(series, None, 2.0)
    with pytest.raises(ScanError, match="too_short: 1 timepoint"):
        resample(series[:1], 1.0, 2.0)


def test_notes__say_that_upsampling_adds_nothing():
    assert resampling_notes(2.0, 0.72) == ("upsampled from 2 s to 0.72 s: nothing faster than 0.25 Hz is in it",)
    assert resampling_notes(0.72, 2.0) == resampling_notes(2.0, 2.0) == ()


def test_comparison__finds_what_picking_folds():
    rows = compare_resampling(n_scans=2, n_rois=8, n_timepoints=490, fast_shares=(0.0, 0.5), seed=0)
    by = {(row.fast_share, row.method): row for row in rows}
    assert by[0.5, "pick"].aliased > 0.3
    assert by[0.5, "resample"].aliased < 0.1
    assert by[0.0, "pick"].aliased == by[0.0, "resample"].aliased == 0
    assert by[0.0, "resample"].fc_planted == pytest.approx(by[0.0, "pick"].fc_planted, abs=0.02)
    assert by[0.5, "resample"].fc_planted > by[0.5, "pick"].fc_planted


def test_comparison__prints_its_table(capsys):
    main(["--scans", "2", "--rois", "6"])
    lines = capsys.readouterr().out.splitlines()
    assert json.loads(lines[-1])["name"] == "compare_resampling"
    assert sum("resample" in line for line in lines[:-1]) >= 3

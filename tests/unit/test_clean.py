import inspect
import io
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nilearn import signal
from nilearn.interfaces.fmriprep import load_confounds, load_confounds_strategy
from scipy.interpolate import CubicSpline

from boldstream.errors import ConfigError, ScanError
from boldstream.parcellation.clean import CleaningSpec, clean_series, restore_axis
from boldstream.parcellation.confounds import PARAMETERS, PRESETS, ConfoundFiles, count_dummies, read_confounds
from boldstream.parcellation.denoise import bridge, denoise

N, T_R = 120, 2.0
MOTION = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")
BAND = {"detrend": True, "high_pass": 0.01, "low_pass": 0.1}
SCRUB = {"confounds": "scrubbing", "scrub": 0, "wm_csf": "basic", "motion": "basic"}


def confounds_table(n=N, outliers=(), dummies=0, seed=0):
    """A table as fMRIPrep writes it; timepoints in `outliers` have moved."""
    rng = np.random.default_rng(seed)
    table = {}
    for name in (*MOTION, "csf", "white_matter", "global_signal"):
        table[name] = rng.normal(size=n) + (0 if name in MOTION else 500)
        table[f"{name}_derivative1"] = np.diff(table[name], prepend=np.nan)
        table[f"{name}_power2"] = table[name] ** 2
        table[f"{name}_derivative1_power2"] = table[f"{name}_derivative1"] ** 2
    for i in range(3):
        table[f"cosine{i:02d}"] = np.cos(np.pi * (np.arange(n) + 0.5) * (i + 1) / n)
        table[f"a_comp_cor_{i:02d}"] = rng.normal(size=n)
        table[f"aroma_motion_{i:02d}"] = rng.normal(size=n)
    for name, usual in (("framewise_displacement", 0.1), ("std_dvars", 1.0)):
        table[name] = np.full(n, usual)
        table[name][0] = np.nan
    table["framewise_displacement"][[i for i in outliers if i > 0]] = 2.0
    table["std_dvars"][[i for i in outliers if i == 0]] = 3.0  # the first has no displacement
    for i in range(dummies):
        table[f"non_steady_state_outlier{i:02d}"] = np.eye(n, dtype=int)[i]
    return pd.DataFrame(table)


COMPONENTS = {
    f"a_comp_cor_{i:02d}": {"Method": "aCompCor", "Mask": "combined", "Retained": True, "VarianceExplained": 0.1}
    for i in range(3)
}


def confound_files(table=None, **kinds):
    table = confounds_table(**kinds) if table is None else table
    text = table.to_csv(sep="\t", index=False, na_rep="n/a")
    return ConfoundFiles(text.encode(), json.dumps(COMPONENTS).encode(), "sub-1_task-rest_desc-preproc_bold.nii.gz")


def series(n=N, n_rois=4, seed=0):
    """Slow waves around 1000 with a drift and noise."""
    rng = np.random.default_rng(seed)
    t = np.arange(n) * T_R
    waves = np.sin(2 * np.pi * np.multiply.outer(t, rng.uniform(0.02, 0.08, n_rois)) + rng.uniform(0, 6, n_rois))
    return (1000 + 0.05 * t[:, None] + 5 * waves + rng.normal(size=(n, n_rois))).astype(np.float32)


def cleaned(values=None, files=None, t_r=T_R, **spec):
    return clean_series(series() if values is None else values, t_r, CleaningSpec(**spec), files)


@given(n=st.integers(1, 50), n_rois=st.integers(1, 4), seed=st.integers(0, 99))
def test_clean__by_default_changes_nothing(n, n_rois, seed):
    values = series(n, n_rois, seed)
    values[0, 0] = np.nan
    found = clean_series(values, None, CleaningSpec(), None)
    np.testing.assert_array_equal(found.values, values)
    assert (found.n_timepoints, found.n_dummies, found.fd, found.mean_fd) == (n, 0, None, None)
    assert (found.censored.size, found.censored_share, found.regressors, found.notes) == (0, 0.0, (), ())


def on_disk(tmp_path, table):
    """The files as a person has them, for nilearn itself."""
    table.to_csv(tmp_path / "sub-1_task-rest_desc-confounds_timeseries.tsv", sep="\t", index=False, na_rep="n/a")
    (tmp_path / "sub-1_task-rest_desc-confounds_timeseries.json").write_text(json.dumps(COMPONENTS))
    return str(tmp_path / "sub-1_task-rest_space-MNI152NLin6Asym_desc-preproc_bold.nii.gz")


@pytest.mark.parametrize("preset", ["simple", "scrubbing", "compcor"])
@pytest.mark.parametrize("given", [{}, {"global_signal": "power2"}])
@pytest.mark.parametrize("band", [{}, {"detrend": True}, {"detrend": True, "low_pass": 0.1}])
def test_clean__without_censoring_is_nilearn(tmp_path, preset, given, band):
    frame, sample_mask = load_confounds_strategy(on_disk(tmp_path, confounds_table()), preset, demean=False, **given)
    assert sample_mask is None
    expected = signal.clean(
        series().astype(np.float64),
        confounds=frame,
        standardize=None,
        detrend=band.get("detrend", False),
        low_pass=band.get("low_pass"),
        t_r=T_R,
    )
    found = cleaned(files=confound_files(), confounds=preset, **given, **band)
    assert found.regressors == tuple(frame.columns)
    np.testing.assert_allclose(found.values, expected, rtol=1e-5, atol=1e-3)


def test_clean__without_high_pass_censors_as_nilearn(tmp_path):
    table = confounds_table(outliers=[30, 31, 60])
    frame, sample_mask = load_confounds_strategy(on_disk(tmp_path, table), "scrubbing", demean=False)
    expected = signal.clean(
        series().astype(np.float64), confounds=frame, sample_mask=sample_mask, standardize=None, detrend=False
    )
    found = cleaned(files=confound_files(table), confounds="scrubbing", censored="drop")
    np.testing.assert_array_equal(np.flatnonzero(found.kept), sample_mask)
    np.testing.assert_allclose(found.values, expected, rtol=1e-5, atol=1e-3)


def test_presets__are_those_of_nilearn():
    theirs = inspect.getmodule(load_confounds_strategy).preset_strategies
    assert set(PRESETS) == set(theirs)
    for name, preset in theirs.items():
        ours = CleaningSpec(confounds=name).resolved()
        assert ours.components == preset["strategy"]
        assert ours.parameters == {k: v for k, v in preset.items() if k not in ("strategy", "global_signal", "demean")}


def test_parameters__have_nilearns_defaults():
    theirs = inspect.signature(load_confounds).parameters
    for component in PARAMETERS.values():
        assert component == {name: theirs[name].default for name in component}


def test_clean__of_own_components_takes_those():
    found = cleaned(files=confound_files(), strategy=("motion", "wm_csf"), motion="basic", wm_csf="derivatives")
    derivatives = {"csf_derivative1", "white_matter_derivative1"}
    assert set(found.regressors) == {*MOTION, "csf", "white_matter", *derivatives}
    scrubbed = cleaned(files=confound_files(outliers=[9]), strategy=("scrub",), scrub=0)
    assert (scrubbed.regressors, scrubbed.censored.tolist()) == ((), [9])
    aroma = cleaned(files=confound_files(), strategy=("ica_aroma",), ica_aroma="basic")
    assert set(aroma.regressors) == {f"aroma_motion_0{i}" for i in range(3)}


def test_clean__of_denoised_images_takes_no_aroma_components():
    files = ConfoundFiles(confound_files().table, None, "sub-1_desc-smoothAROMAnonaggr_bold.nii.gz")
    assert set(cleaned(files=files, confounds="ica_aroma").regressors) == {
        "cosine00", "cosine01", "cosine02", "csf", "white_matter",
    }  # fmt: skip


@pytest.mark.parametrize("band", [{}, BAND])
def test_clean__removes_planted_motion(band):
    table = confounds_table()
    values = series() + 300 * table[["trans_x", "rot_z"]].to_numpy() @ np.ones((2, 4))
    # what regression takes from the waves by chance, it takes from both; means it leaves alone
    with_motion, without = (
        cleaned(found, confound_files(table), confounds="simple", **band).values for found in (values, series())
    )
    np.testing.assert_allclose(with_motion - with_motion.mean(axis=0), without - without.mean(axis=0), atol=0.01)


def test_clean__keeps_the_band_and_no_more():
    t = np.arange(400) * T_R
    slow, inside, fast = (np.sin(2 * np.pi * hertz * t) for hertz in (0.002, 0.05, 0.2))
    found = cleaned((900 + slow + inside + fast)[:, None], **BAND).values[:, 0]
    np.testing.assert_allclose(found[50:-50], inside[50:-50], atol=0.05)


def test_clean__detrends():
    line = 1000 + np.multiply.outer(np.arange(N), [1.0, -3.0])
    np.testing.assert_allclose(cleaned(line, t_r=None, detrend=True).values, 0, atol=1e-6)


def test_clean__replaces_cosines_by_its_high_pass():
    assert "cosine00" in cleaned(files=confound_files(), confounds="simple").regressors
    assert "cosine00" not in cleaned(files=confound_files(), confounds="simple", **BAND).regressors


patterns = st.sets(st.integers(0, N - 1), min_size=1, max_size=N // 3)


@settings(deadline=None, max_examples=12)
@given(outliers=patterns, censored=st.sampled_from(["interpolate", "drop"]), band=st.sampled_from([{}, BAND]))
def test_clean__never_looks_at_censored_timepoints(outliers, censored, band):
    table, values = confounds_table(outliers=outliers), series()
    spec = SCRUB | {"censored": censored} | band
    found = cleaned(values, confound_files(table), **spec)
    assert found.censored.tolist() == sorted(outliers)
    values[found.censored] = 1e6
    table.loc[found.censored, [*MOTION, "csf"]] = 1e6
    np.testing.assert_array_equal(cleaned(values, confound_files(table), **spec).values, found.values)


@pytest.mark.parametrize("outliers", [(50, 69), range(55, 65), (0, 1, 118, 119)], ids=["mirrored", "middle", "ends"])
def test_clean__bridges_what_nilearn_leaves_standing(outliers):
    values = series()
    clean = cleaned(values, detrend=True, low_pass=0.1).values
    values[list(outliers)] += 1000
    found = cleaned(values, confound_files(outliers=outliers), strategy=("scrub",), scrub=0, detrend=True, low_pass=0.1)
    assert np.abs(found.values - clean)[found.kept].max() < 6  # of 1000


@pytest.mark.parametrize("gap", [1, 3, 10])
def test_denoise__bridged_by_lines_is_nearer_the_truth_than_by_splines(gap):
    """Against the same filter of the series without any gap; docs/cleaning.md has the numbers of real scans."""
    rng = np.random.default_rng(0)
    lines, splines, everything = [], [], np.ones(200, dtype=bool)
    for _ in range(10):
        values = 0.1 * np.cumsum(rng.normal(size=(200, 20)), axis=0) + 0.3 * rng.normal(size=(200, 20))
        kept = everything.copy()
        kept[50 : 50 + gap] = kept[120 : 120 + gap] = False
        truth = denoise(values, T_R, everything, None, **BAND)[kept]
        splined = CubicSpline(np.flatnonzero(kept), values[kept])(np.arange(200))
        lines.append(np.std(denoise(values, T_R, kept, None, **BAND) - truth))
        splines.append(np.std(denoise(splined, T_R, everything, None, **BAND)[kept] - truth))
    assert np.median(lines) < np.median(splines)


def test_clean__puts_lines_in_place_of_censored_timepoints():
    files = confound_files(outliers=[0, 1, 40, 41, 42, 119])
    spec = SCRUB | {"detrend": True}
    found, dropped = (cleaned(files=files, censored=how, **spec) for how in ("interpolate", "drop"))
    np.testing.assert_array_equal(found.values[found.kept], dropped.values)
    np.testing.assert_allclose(found.values[41], (found.values[39] + found.values[43]) / 2, atol=1e-5)
    np.testing.assert_array_equal(found.values[[0, 1, 119]], found.values[[2, 2, 118]])
    assert (len(found.values), len(dropped.values)) == (120, 114)
    assert found.censored_share == pytest.approx(6 / 120)
    assert dropped.notes == ("6 timepoints dropped: what is left is not evenly spaced",)
    assert found.notes == ()


def test_clean__leaves_out_short_runs_between_censored_timepoints():
    found = cleaned(files=confound_files(outliers=[50, 54]), confounds="scrubbing")
    assert found.censored.tolist() == [50, 51, 52, 53, 54]
    found = cleaned(files=confound_files(outliers=[50, 54]), confounds="scrubbing", scrub=3)
    assert found.censored.tolist() == [50, 54]
    assert not cleaned(files=confound_files(outliers=[50]), confounds="scrubbing", fd_threshold=2.5).censored.size


def test_clean__reads_displacement_even_where_it_removes_nothing():
    found = cleaned(files=confound_files(outliers=[7]))
    assert np.isnan(found.fd[0])
    assert found.fd[7] == 2.0
    assert found.mean_fd == pytest.approx((118 * 0.1 + 2.0) / 119)
    np.testing.assert_array_equal(found.values, series())
    empty = confounds_table().assign(framewise_displacement=np.nan)
    assert cleaned(files=confound_files(empty)).mean_fd is None
    without = confounds_table().drop(columns="framewise_displacement")
    assert cleaned(files=confound_files(without)).fd is None


@pytest.mark.parametrize("spec", [{}, {"confounds": "simple"}, {"confounds": "scrubbing"} | BAND])
def test_clean__cuts_dummy_scans_off(spec):
    found = cleaned(files=confound_files(dummies=3), dummy_scans="auto", **spec)
    assert (found.n_timepoints, found.n_dummies, found.values.shape) == (N, 3, (N - 3, 4))
    assert found.kept.all()
    assert not np.isnan(found.fd).any()
    values = series()
    values[:3] = 1e6
    table = confounds_table(dummies=3)
    table.loc[:2, list(MOTION)] = 1e6
    again = cleaned(values, confound_files(table), dummy_scans=3, **spec)
    np.testing.assert_array_equal(again.values, found.values)


def test_clean__censors_unsteady_timepoints_that_are_not_cut_off():
    found = cleaned(files=confound_files(dummies=3), dummy_scans=1, strategy=("motion",), motion="basic")
    assert (found.n_dummies, found.censored.tolist()) == (1, [0, 1])


def test_clean__leaves_absent_regions_absent():
    values = series()
    values[:, 1] = np.nan
    found = cleaned(values, confound_files(), confounds="simple", **BAND).values
    assert np.isnan(found[:, 1]).all()
    np.testing.assert_array_equal(
        found[:, [0, 2, 3]], cleaned(None, confound_files(), confounds="simple", **BAND).values[:, [0, 2, 3]]
    )
    assert np.isnan(cleaned(np.full((N, 2), np.nan), **BAND).values).all()


def test_clean__notes_that_there_are_no_cosines():
    table = confounds_table().drop(columns=[f"cosine0{i}" for i in range(3)])
    found = cleaned(files=confound_files(table), confounds="simple")
    assert found.notes == ("the confounds have no cosine columns: high_pass removed no drifts",)


def no_column(name):
    return confound_files(confounds_table().drop(columns=name))


def with_gap():
    table = confounds_table()
    table.loc[5, "csf"] = np.nan
    return confound_files(table)


@pytest.mark.parametrize(
    ("files", "spec", "message"),
    [
        (None, {"confounds": "simple"}, "confounds: cleaning takes high_pass, motion, wm_csf; there is no confounds"),
        (None, {"dummy_scans": "auto"}, "confounds: dummy_scans: auto counts .*; give a number"),
        (ConfoundFiles(b""), {}, "confounds: the confounds are no table"),
        (ConfoundFiles(b"\xff\xfe\x00"), {}, "confounds: the confounds are no table"),
        (ConfoundFiles(b"a\tb\n1\t2\n1\t2\t3\n"), {}, "confounds: the confounds are no table"),
        (ConfoundFiles(b"a\tb\n1\tx\n1\t2\n"), {}, "confounds: column 'b' of the confounds holds 'x', not numbers"),
        (confound_files(n=100), {}, "confounds_length: the confounds have 100 rows, the scan 120 timepoints"),
        (no_column("rot_x"), {"confounds": "simple"}, "confounds: nilearn cannot take this strategy .*rot_x"),
        (no_column(["csf", "white_matter"]), {"strategy": ["wm_csf"]}, "confounds: nilearn cannot .*wm_csf"),
        (no_column("std_dvars"), {"strategy": ["scrub"]}, "confounds: the confounds have no 'std_dvars'"),
        (ConfoundFiles(confound_files().table), {"confounds": "compcor"}, "confounds: compcor needs the .json"),
        (ConfoundFiles(confound_files().table, b"{"), {"confounds": "compcor"}, "confounds: nilearn cannot take"),
        (confound_files(), {"confounds": "ica_aroma"}, "confounds: ica_aroma: full is for .*take ica_aroma: basic"),
        (with_gap(), {"confounds": "simple"}, "confounds: column 'csf' of the confounds lacks 1 of 120 values"),
        (confound_files(outliers=range(N)), {"confounds": "scrubbing"}, "too_few_timepoints: [01] of 120 .*censoring"),
        (confound_files(outliers=range(30, 120)), SCRUB | {"motion": "full"}, "30 of 120 .*, with 29 confounds"),
        (None, {"dummy_scans": 119}, "too_few_timepoints: 120 timepoints, 119 of them dummy scans"),
        (None, {"low_pass": 0.25}, "band: low_pass 0.25 Hz is not below 0.25 Hz, all that t_r 2 s holds"),
        (None, {"dummy_scans": 90, "low_pass": 0.1}, "too_few_timepoints: 30 timepoints; a filter needs 34"),
    ],
)  # fmt: skip
def test_clean__refuses(files, spec, message):
    with pytest.raises(ScanError, match=message):
        cleaned(files=files, **spec)


def test_clean__refuses_to_filter_without_t_r():
    with pytest.raises(ScanError, match="t_r_unknown: repetition time is unknown, and cleaning filters"):
        cleaned(t_r=None, low_pass=0.1)


def test_clean__refuses_gaps_in_the_series():
    values = series()
    values[4, 2] = np.inf
    with pytest.raises(ScanError, match=r"non_finite: 1 NaN or infinite values \(first: timepoint 5, region 3\)"):
        cleaned(values, detrend=True)


def test_filters__work_with_the_shortest_scan_that_is_let_through():
    assert cleaned(series(34), low_pass=0.1, high_pass=0.01).values.shape == (34, 4)


def test_dummies__must_be_at_the_beginning():
    table = confounds_table().assign(non_steady_state_outlier00=np.eye(N)[5])
    with pytest.raises(ScanError, match=r"confounds: timepoints \[5\] are said not to be in steady state"):
        count_dummies(table)
    assert count_dummies(confounds_table()) == 0


def test_confounds__are_read_as_fmriprep_writes_them():
    table = read_confounds(b"a\tframewise_displacement\n1\tn/a\n2\t0.5\n", 2)
    assert table["framewise_displacement"].isna().tolist() == [True, False]
    pd.testing.assert_frame_equal(
        read_confounds(confound_files().table, N), pd.read_csv(io.BytesIO(confound_files().table), sep="\t")
    )


@given(kept=st.lists(st.booleans(), min_size=2, max_size=40).map(np.array).filter(lambda kept: kept.sum() > 1))
def test_restore__is_a_line_between_what_is_kept(kept):
    at = np.flatnonzero(kept)
    values = np.random.default_rng(0).normal(size=(len(at), 3)).astype(np.float32)
    found = restore_axis(values, kept, "interpolate")
    np.testing.assert_array_equal(found[at], values)
    expected = np.stack([np.interp(np.arange(len(kept)), at, column) for column in values.T], axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_array_equal(restore_axis(values, kept, "drop"), values)
    np.testing.assert_allclose(bridge(values, kept), expected, atol=1e-5)


def test_restore__refuses_another_length():
    with pytest.raises(ScanError, match="censoring_length: 5 timepoints, but 3 of 4 are said to be kept"):
        restore_axis(np.zeros((5, 2)), np.array([True, False, True, True]), "interpolate")
    with pytest.raises(ScanError, match="too_few_timepoints: 1 of 3 timepoints are left"):
        restore_axis(np.zeros((1, 2)), np.array([True, False, False]), "drop")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"confounds": "simple", "strategy": ["motion"]}, "give either the preset 'simple' or your own components"),
        ({"fd_threshold": 0.2, "confounds": "simple"}, "fd_threshold has no effect with confounds: simple; leave it"),
        ({"motion": "full"}, r"motion has no effect with strategy: \[\]"),
        ({"ica_aroma": "basic", "strategy": ["motion"]}, r"ica_aroma has no effect with strategy: \[motion\]"),
        ({"strategy": ["compcor"]}, "compcor needs high_pass beside it"),
        ({"high_pass": 0.1, "low_pass": 0.1}, "high_pass: 0.1 Hz must be below low_pass, 0.1 Hz"),
        ({"dummy_scans": -1}, "dummy_scans: -1 is no number of timepoints"),
        ({"confounds": "compcor", "n_compcor": 0}, "n_compcor: must be at least 1"),
        ({"low_pass": 0}, "greater than 0"),
        ({"strategy": ["tedana"]}, "strategy.0"),
    ],
)
def test_spec__refuses(values, message):
    with pytest.raises(ConfigError, match=message):
        CleaningSpec.from_mapping(values, where="cleaning")


@pytest.mark.parametrize("preset", ["none", "simple", "scrubbing", "compcor", "ica_aroma"])
def test_spec__comes_back_from_its_json(preset):
    spec = CleaningSpec(confounds=preset)
    assert CleaningSpec.model_validate(spec.model_dump(mode="json")) == spec

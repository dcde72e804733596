import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from boldstream.parcellation.fc_sketch import N_SKETCH, homotopic_pairs, sketch_connectivity
from boldstream.parcellation.gradients import functional_connectivity
from boldstream.parcellation.qc import MEASURES, QC_COLUMNS, find_spikes, measure_scan, standardised_dvars

PAIRED_NAMES = tuple(f"{side}_{i}" for side in ("LH", "RH") for i in range(10))
GOLDEN = (-0.06301629, -0.01865532, 0.008198489, 0.04789864)


def noise(n_timepoints=200, n_rois=20, seed=0, autocorrelation=0.0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n_timepoints, n_rois))
    for t in range(1, n_timepoints):
        x[t] = autocorrelation * x[t - 1] + np.sqrt(1 - autocorrelation**2) * x[t]
    return x.astype(np.float32)


def paired(seed=0):
    """10 left regions, and 10 right ones that each share half of their variance with their twin."""
    shared = noise(400, 10, seed)
    return np.hstack([shared + noise(400, 10, seed + 1), shared + noise(400, 10, seed + 2)])


def test_columns__are_those_declared():
    found = measure_scan(noise() + 100, 2.0, fd=np.full(200, 0.1), coverage=np.ones(20)).columns()
    assert list(found) == list(QC_COLUMNS)
    for name, value in found.items():
        kind = {"float64": (float, type(None)), "string": str, "list<float32>": np.ndarray}[QC_COLUMNS[name]]
        assert isinstance(value, kind), name
    assert found["qc_fc_sketch"].dtype == np.float32


def test_measure__counts_bad_regions_and_leaves_them_out():
    x = noise()
    damaged = np.hstack([x, np.zeros((200, 2)), np.full((200, 1), 7), np.full((200, 1), np.nan)]).astype(np.float32)
    damaged[5, -1] = 1
    good, bad = measure_scan(x, 2.0), measure_scan(damaged, 2.0)
    assert (bad.n_zero_rois, bad.n_flat_rois, bad.n_nonfinite_rois) == (2, 3, 1)
    assert bad.bad_roi_share == pytest.approx(4 / 24)
    assert good.bad_roi_share == 0
    for name in ("dvars", "spike_share", "fc_mean"):
        assert getattr(bad, name) == pytest.approx(getattr(good, name)), name


def test_measure__takes_motion_as_given():
    fd = np.array([np.nan, 0.1, 0.3, 0.5, 0.1])
    found = measure_scan(noise(), 2.0, fd=fd, kept=[True, False, True, True])
    assert found.mean_fd == pytest.approx(0.25)
    assert found.high_fd_share == pytest.approx(0.5)
    assert found.censored_share == 0.25
    assert measure_scan(noise(), 2.0, fd=fd, mean_fd=0.7).mean_fd == 0.7
    assert measure_scan(noise(), 2.0, mean_fd=float("nan")).mean_fd is None
    nothing = measure_scan(noise(), None)
    assert (nothing.mean_fd, nothing.high_fd_share, nothing.censored_share) == (None, None, None)


def test_measure__takes_coverage_tsnr_and_dvars_as_given():
    coverage = np.ones(20)
    coverage[:3] = (0.2, 0.4, np.nan)
    found = measure_scan(noise(), 2.0, coverage=coverage, tsnr=np.arange(20.0), dvars=[np.nan, 1.0, 2.0])
    assert (found.min_coverage, found.n_low_coverage, found.tsnr, found.dvars) == (0.2, 2, 9.5, 1.5)
    assert measure_scan(noise(), 2.0, tsnr=80.0).tsnr == 80


def test_measure__has_no_tsnr_of_centred_series():
    assert measure_scan(noise() + 100, 2.0).tsnr == pytest.approx(100, rel=0.05)
    assert measure_scan(noise(), 2.0).tsnr is None


@pytest.mark.parametrize("autocorrelation", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_dvars__of_clean_noise_is_one(autocorrelation, scale):
    x = noise(2000, 30, autocorrelation=autocorrelation).astype(np.float64) * scale
    assert standardised_dvars(x).mean() == pytest.approx(1, abs=0.05)


def test_dvars__grows_with_spikes_and_is_high_where_they_are():
    x = noise(200, 20, autocorrelation=0.5).astype(np.float64)
    clean = standardised_dvars(x)
    x[[50, 120]] += 10
    spiked = standardised_dvars(x)
    assert set(np.argsort(spiked)[-4:]) == {49, 50, 119, 120}
    assert spiked.mean() > clean.mean() + 0.1


def test_spikes__are_found_where_planted_and_not_in_noise():
    x = noise(200, 50, autocorrelation=0.5).astype(np.float64)
    assert not find_spikes(x).any()
    x[80] += np.random.default_rng(1).normal(size=50) * 8
    assert set(np.flatnonzero(find_spikes(x))) == {79, 80}
    x = noise(200, 50).astype(np.float64)
    x[120:123] += 3
    assert find_spikes(x)[119:122].all()


def test_connectivity__mean_and_lead_of_homotopic_pairs():
    x = paired()
    found = measure_scan(x, 2.0, roi_names=PAIRED_NAMES)
    fc = functional_connectivity(x)
    assert found.fc_mean == pytest.approx(fc[np.triu_indices(20, 1)].mean())
    assert found.fc_homotopic == pytest.approx(0.5, abs=0.05)
    scrambled = measure_scan(x[:, np.random.default_rng(3).permutation(20)], 2.0, roi_names=PAIRED_NAMES)
    assert scrambled.fc_homotopic < 0.2
    assert measure_scan(x, 2.0).fc_homotopic is None
    assert measure_scan(x, 2.0, roi_names=[f"CC200-{i:03d}" for i in range(20)]).fc_homotopic is None


def test_connectivity__leaves_pairs_with_a_bad_region_out():
    x = paired()
    x[:, 0] = 0
    assert measure_scan(x, 2.0, roi_names=PAIRED_NAMES).fc_homotopic == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("17Networks_LH_DefaultA_PFCm_1", "17Networks_RH_DefaultA_PFCm_1"),
        ("HIP-head-l-lh", "HIP-head-l-rh"),
        ("lAMY-lh", "lAMY-rh"),
        ("Frontal_Sup_L", "Frontal_Sup_R"),
        ("L_V1_ROI", "R_V1_ROI"),
        ("Left Thalamus", "Right Thalamus"),
        ("ctx-lh-bankssts", "ctx-rh-bankssts"),
        ("Fusiform gyrus LH", "Fusiform gyrus RH"),
    ],
)
def test_pairs__are_read_from_names(left, right):
    assert homotopic_pairs((right, "Vermis_3", left)).tolist() == [[2, 0]]


def test_pairs__are_none_where_names_tell_nothing():
    assert homotopic_pairs(("CC200-001", "CC200-002")).shape == (0, 2)
    assert homotopic_pairs(("Left Left", "Right Left", "LHx", "RHx", "alone_L")).shape == (0, 2)


def test_sketch__distances_estimate_those_of_connectivity():
    scans = [functional_connectivity(noise(120, 60, seed)) for seed in range(8)]
    upper = np.triu_indices(60, 1)
    sketches = [sketch_connectivity(fc).astype(np.float64) for fc in scans]
    ratios = []
    for i in range(8):
        for j in range(i):
            difference = np.arctanh(scans[i][upper]) - np.arctanh(scans[j][upper])
            ratios.append(np.linalg.norm(sketches[i] - sketches[j]) / np.sqrt(np.square(difference).mean()))
    assert np.mean(ratios) == pytest.approx(1, abs=0.1)
    assert np.std(ratios) < 0.2


def test_sketch__is_the_same_in_every_process():
    fc = np.fromfunction(lambda i, j: np.cos(0.7 * i - 0.7 * j), (12, 12))
    found = sketch_connectivity(fc)
    assert found.shape == (N_SKETCH,)
    np.testing.assert_allclose(found[:4], GOLDEN, rtol=1e-5)


def test_sketch__knows_scans_of_any_size():
    for n_rois in (2, 3, 450):
        found = measure_scan(noise(30, n_rois), 2.0).fc_sketch
        assert found is not None
        assert np.isfinite(found).all()
        assert (found != 0).any()


def test_hash__is_of_the_exact_values():
    x = noise()
    other = x.copy()
    other[3, 4] = np.nextafter(other[3, 4], np.float32(9))
    assert measure_scan(x, 2.0).content_sha256 == measure_scan(np.asfortranarray(x), None).content_sha256
    assert measure_scan(x, 2.0).content_sha256 != measure_scan(other, 2.0).content_sha256


@settings(deadline=None, max_examples=150)
@given(
    values=st_numpy.arrays(
        np.float32,
        st_numpy.array_shapes(min_dims=2, max_dims=2, max_side=7),
        elements=st.one_of(
            st.sampled_from([0.0, 1.0, -1.0, np.nan, np.inf, -np.inf]), st.floats(width=32, allow_nan=False)
        ),
    )
)
def test_measure__of_anything_is_a_number_or_nothing(values):
    found = measure_scan(values, None, roi_names=[f"{'LR'[i % 2]}_{i // 2}" for i in range(values.shape[1])])
    assert found.n_zero_rois <= found.n_flat_rois <= values.shape[1] - found.n_nonfinite_rois
    for name, value in found.measures().items():
        assert value is None or np.isfinite(value), name
        if name.endswith("share") and value is not None:
            assert 0 <= value <= 1
    assert found.fc_sketch is None or np.isfinite(found.fc_sketch).all()
    assert set(found.measures()) == set(MEASURES)


@pytest.mark.parametrize(
    ("values", "given", "message"),
    [
        (np.zeros(5), {}, r"a scan is \(n_timepoints, n_rois\), got shape \(5,\)"),
        (np.zeros((0, 4)), {}, r"got shape \(0, 4\)"),
        (np.zeros((5, 2)), {"roi_names": ["a"]}, r"roi_names has shape \(1,\), the scan 2 regions"),
        (np.zeros((5, 2)), {"coverage": [1, 1, 1]}, r"coverage has shape \(3,\), the scan 2 regions"),
    ],
)
def test_measure__refuses(values, given, message):
    with pytest.raises(ValueError, match=message):
        measure_scan(values, 2.0, **given)

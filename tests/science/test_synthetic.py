"""Made-up people: what is planted is found where it was planted, and nowhere else; their scans look like real ones."""

from pathlib import Path

import numpy as np
import pytest

from boldstream.parcellation.gradients import MeanConnectivity, functional_connectivity
from boldstream.synthesis import SyntheticSpec, draw_person, draw_scan, make_brain
from boldstream.synthesis.connectivity import model_connectivity
from science.planted_ceiling import identified, make_up, recovered, site_accuracy

ABIDE = Path(__file__).parents[3] / "shared" / "data" / "abide" / "abide_cc200.npz"
OTHER_T_R = ("KKI", "Leuven", "MaxMun", "OHSU", "Olin", "UCLA")
N_ROIS, N_SITES = 60, 4
MODEL = model_connectivity([f"R{i}" for i in range(N_ROIS)])

# the middle 95 % of 377 ABIDE scans at 2 s (146 to 160 timepoints, 200 regions), as `shape_of` measures them
OF_ABIDE = {
    "fc_mean": (0.110, 0.446),
    "fc_sd": (0.148, 0.231),
    "lag_1": (0.151, 0.534),
    "lag_2": (0.017, 0.304),
    "power_below_0.1_hz": (0.492, 0.730),
    "spectral_slope": (-0.727, -0.182),
    "first_component": (0.141, 0.472),
    "first_10_components": (0.512, 0.785),
}


def shape_of(values, t_r=2.0):
    """What a scan looks like: connectivity, autocorrelation, spectrum, components."""
    x = np.asarray(values, dtype=np.float64)
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    fc = functional_connectivity(x)
    edges = fc[np.triu_indices(len(fc), 1)]
    power = np.square(np.abs(np.fft.rfft(x, axis=0)))[1:]
    power /= power.sum(axis=0)
    frequency = np.fft.rfftfreq(len(x), t_r)[1:]
    components = np.linalg.eigvalsh(fc)[::-1] / len(fc)
    return {
        "fc_mean": edges.mean(),
        "fc_sd": edges.std(),
        "lag_1": np.median((x[1:] * x[:-1]).mean(axis=0)),
        "lag_2": np.median((x[2:] * x[:-2]).mean(axis=0)),
        "power_below_0.1_hz": power[frequency < 0.1].sum(axis=0).mean(),
        "spectral_slope": np.polyfit(np.log(frequency), np.log(power.mean(axis=1)), 1)[0],
        "first_component": components[0],
        "first_10_components": components[:10].sum(),
    }


def median_shape(scans):
    shapes = [shape_of(values) for values in scans]
    return {name: float(np.median([shape[name] for shape in shapes])) for name in OF_ABIDE}


def drawn(connectivity, n_subjects=60):
    spec = SyntheticSpec()
    brain = make_brain(connectivity, spec)
    people = (draw_person(number, spec, brain.n_modes) for number in range(1, n_subjects + 1))
    return [draw_scan(person, 1, brain, spec, 2.0) for person in people]


@pytest.fixture(scope="module")
def study():
    return make_up(SyntheticSpec(n_subjects=400, n_sites=N_SITES), MODEL, n_again=100)


def test_connectivity__carries_what_is_planted_in_it(study):
    assert recovered(study, "connectivity", "age").low > 0.4
    assert recovered(study, "connectivity", "trait_fc").low > 0.4
    assert recovered(study, "connectivity", "sex").low > 0.7
    assert recovered(study, "connectivity", "log_fd").low > 0.05
    assert site_accuracy(study, "connectivity") > 0.6  # chance: 0.25
    assert identified(study) > 0.5  # chance: 0.01


@pytest.mark.parametrize(
    ("trait", "carrier", "other", "least"),
    [
        ("trait_autocorrelation", "autocorrelation", "directed", 0.4),
        ("trait_directed", "directed", "autocorrelation", 0.6),
    ],
)
def test_trait_of_dynamics__is_in_its_own_features_and_not_in_connectivity(study, trait, carrier, other, least):
    assert recovered(study, carrier, trait).low > least
    for features in ("connectivity", other):
        found = recovered(study, features, trait)
        assert found.low <= 0, (features, found)
        assert found.high < 0.1, (features, found)


def test_planted_effects__are_gone_where_their_size_is_0():
    effects = dict.fromkeys(("age", "site", "fingerprint", "trait_fc", "diagnosis", "trait_autocorrelation"), 0.0)
    effects |= {"sex": 0.0, "motion": 0.0, "trait_directed": 0.0}
    nothing = make_up(SyntheticSpec(n_subjects=250, n_sites=N_SITES, effects=effects), MODEL, n_again=50)
    for features, target in [
        ("connectivity", "age"),
        ("connectivity", "trait_fc"),
        ("autocorrelation", "trait_autocorrelation"),
        ("directed", "trait_directed"),
    ]:
        assert recovered(nothing, features, target).low <= 0
    assert site_accuracy(nothing, "connectivity") < 0.4
    assert identified(nothing) < 0.15


def test_diagnosis__is_in_connectivity_by_age_alone(study):
    found = recovered(study, "connectivity", "diagnosis")
    assert found.low > 0.6
    age, ill = study.targets["age"], study.targets["diagnosis"]
    # a shift of the slower modes' autocorrelation is all that the diagnosis itself does
    same_age = np.abs(age - 68) < 3
    lag = study.features["autocorrelation"].mean(axis=1)
    assert lag[same_age & ill].mean() < lag[same_age & ~ill].mean()


def test_scans__look_like_real_ones():
    found = median_shape(drawn(model_connectivity([f"R{i}" for i in range(200)])))
    for name, (low, high) in OF_ABIDE.items():
        assert low < found[name] < high, (name, found[name])


@pytest.fixture(scope="module")
def real():
    """Whole scans of the sites with a repetition time of 2 s, cut to 160 timepoints."""
    if not ABIDE.is_file():
        pytest.skip(f"{ABIDE} is not there")
    scans = np.load(ABIDE)
    found = (scans[key].astype(np.float64)[:160] for key in scans.files if not key.startswith(OTHER_T_R))
    return [values for values in found if len(values) >= 140 and values.std(axis=0).all()]


@pytest.mark.abide
def test_range_of_real_scans__is_as_measured(real):
    shapes = [shape_of(values) for values in real]
    assert len(shapes) == 377
    for name, expected in OF_ABIDE.items():
        found = np.percentile([shape[name] for shape in shapes], [2.5, 97.5])
        np.testing.assert_allclose(found, expected, atol=6e-4, err_msg=name)


@pytest.mark.abide
def test_scans__of_real_modes_look_like_real_ones(real):
    mean = MeanConnectivity(200)
    for values in real[::4]:
        mean.add(functional_connectivity(values))
    found = median_shape(drawn(mean.result()))
    for name, (low, high) in OF_ABIDE.items():
        assert low < found[name] < high, (name, found[name])

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boldstream.errors import SourceError
from boldstream.parcellation.gradients import functional_connectivity
from boldstream.synthesis import SyntheticSpec, draw_person, draw_scan, make_brain, scan_mean_fd
from boldstream.synthesis.connectivity import model_connectivity, read_connectivity, with_mixtures_before
from boldstream.synthesis.people import TRAITS
from boldstream.synthesis.series import gains, transition

NAMES = tuple(f"{side}-{i:02d}" for side in ("LH", "RH") for i in range(15))
SPEC = SyntheticSpec(n_timepoints=60, n_modes=20)
BRAIN = make_brain(model_connectivity(NAMES), SPEC)


def person(number, spec=SPEC, **changes):
    return dataclasses.replace(draw_person(number, spec, BRAIN.n_modes), **changes)


def with_trait(name, value):
    return person(1, traits=dict.fromkeys(TRAITS, 0.0) | {name: value}, diagnosis=False)


def test_draw_scan__depends_on_seed_subject_and_session_alone():
    # in any order, between any others, with any number of people
    again = {
        (number, session): draw_scan(
            person(number, SPEC.model_copy(update={"n_subjects": 5000})), session, BRAIN, SPEC, 2.0
        )
        for number, session in [(7, 2), (1, 1), (7, 1)]
    }
    assert again[7, 1].shape == (60, 30)
    assert again[7, 1].dtype == np.float32
    for (number, session), values in again.items():
        np.testing.assert_array_equal(draw_scan(person(number), session, BRAIN, SPEC, 2.0), values)
    assert not np.allclose(again[7, 1], again[7, 2])
    other = SPEC.model_copy(update={"seed": 1})
    assert not np.allclose(draw_scan(person(7, other), 1, BRAIN, other, 2.0), again[7, 1])


def test_draw_person__is_who_they_are_whatever_the_number_of_modes():
    few, many = draw_person(3, SPEC, 4), draw_person(3, SPEC, 40)
    assert (few.traits, few.age, few.site, few.sex) == (many.traits, many.age, many.site, many.sex)
    np.testing.assert_array_equal(few.fingerprint, many.fingerprint[:4])
    assert draw_person(3, SPEC).traits == few.traits
    assert few.subject == "000003"


def test_draw_person__deals_siblings_traits_that_correlate_as_kinship_says():
    spec = SyntheticSpec(family_size=2, kinship=0.7)
    people = [draw_person(number, spec, 10) for number in range(1, 1001)]
    assert [found.family for found in people[:5]] == [1, 1, 2, 2, 3]
    prints = np.array([found.fingerprint for found in people])
    assert np.corrcoef(prints[::2].ravel(), prints[1::2].ravel())[0, 1] == pytest.approx(0.7, abs=0.03)
    assert np.corrcoef(prints[1:-1:2].ravel(), prints[2::2].ravel())[0, 1] == pytest.approx(0, abs=0.05)


def test_draw_person__confounds_diagnosis_and_motion_with_age():
    people = [draw_person(number, SPEC) for number in range(1, 2001)]
    age = np.array([found.age for found in people])
    assert (age.mean(), age.std()) == (pytest.approx(62, abs=0.6), pytest.approx(8, abs=0.5))
    ill = np.array([found.diagnosis for found in people])
    assert age[ill].mean() - age[~ill].mean() > 3
    log_fd = np.log([scan_mean_fd(found, 1, SPEC) for found in people])
    assert np.corrcoef(age, log_fd)[0, 1] == pytest.approx(0.25 / np.sqrt(0.25**2 + 0.5**2 + 0.3**2), abs=0.06)
    assert {found.site for found in people} == set(range(8))


def test_draw_person__refuses_numbers_below_1():
    with pytest.raises(SourceError, match="person 0: people are numbered from 1 on"):
        draw_person(0, SPEC)


@settings(max_examples=50, deadline=None)
@given(
    st.floats(-6, 6), st.floats(-6, 6), st.booleans(), st.floats(0.1, 5), st.floats(-0.5, 0.5), st.integers(1, 10**6)
)
def test_transition__keeps_every_persons_modes_at_covariance_1(slow, lead, ill, t_r, coupling, number):
    traits = {"trait_fc": 0.0, "trait_autocorrelation": slow, "trait_directed": lead}
    effects = SPEC.effects.model_copy(update={"trait_directed": coupling})
    found = person(number, traits=traits, diagnosis=ill)
    steps = transition(found, BRAIN, SPEC.model_copy(update={"effects": effects}), t_r)
    assert np.linalg.eigvalsh(np.eye(BRAIN.n_modes) - steps @ steps.T).min() > 0


def test_transition__is_one_process_at_any_t_r():
    found = person(5)
    slow, fast = transition(found, BRAIN, SPEC, 2.0), transition(found, BRAIN, SPEC, 0.5)
    np.testing.assert_allclose(np.linalg.matrix_power(fast, 4), slow, atol=1e-12)


def test_transition__shows_what_traits_do():
    usual = transition(with_trait("trait_fc", 3.0), BRAIN, SPEC, 2.0)
    np.testing.assert_allclose(usual, np.diag(0.62 + 0.04 * BRAIN.persistence), atol=1e-12)
    slow = transition(with_trait("trait_autocorrelation", 1.0), BRAIN, SPEC, 2.0)
    np.testing.assert_allclose(slow, usual + 0.08 * np.eye(BRAIN.n_modes), atol=1e-12)
    lead = transition(with_trait("trait_directed", 1.0), BRAIN, SPEC, 2.0)
    odd = (lead - lead.T) / 2
    assert np.corrcoef(odd.ravel(), BRAIN.coupling.T.ravel())[0, 1] > 0.99
    assert np.linalg.norm(odd, 2) == pytest.approx(0.25 * np.tanh(1.0), rel=0.06)


def test_gains__do_not_know_of_dynamics():
    usual = gains(with_trait("trait_fc", 0.0), BRAIN, SPEC)
    for name in ("trait_autocorrelation", "trait_directed"):
        np.testing.assert_array_equal(gains(with_trait(name, 3.0), BRAIN, SPEC), usual)
    along = np.log(gains(with_trait("trait_fc", 1.0), BRAIN, SPEC) / usual)
    np.testing.assert_allclose(along, 0.8 * BRAIN.directions["trait_fc"], atol=1e-12)


def test_draw_scan__of_long_scans_has_the_covariance_that_gains_say():
    spec = SPEC.model_copy(update={"n_timepoints": 60_000})
    found = person(2)
    values = draw_scan(found, 1, BRAIN, spec, 2.0).astype(float)
    strong = gains(found, BRAIN, spec) * BRAIN.modes
    common = (1.5 * scan_mean_fd(found, 1, spec)) ** 2
    expected = strong @ strong.T + 0.45**2 * np.eye(30) + common
    np.testing.assert_allclose(np.cov(values.T), expected, atol=0.05)


def test_make_brain__takes_modes_that_give_the_connectivity_back():
    connectivity = model_connectivity(NAMES)
    whole = make_brain(connectivity, SPEC.model_copy(update={"n_modes": 30}))
    np.testing.assert_allclose(whole.modes @ whole.modes.T, connectivity, atol=1e-12)
    np.testing.assert_allclose(BRAIN.modes, whole.modes[:, :20], atol=1e-12)
    axes = np.array(list(BRAIN.directions.values()))
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(BRAIN.coupling, -BRAIN.coupling.T)
    more = make_brain(connectivity, SPEC.model_copy(update={"n_sites": 12, "seed": 9}))
    np.testing.assert_array_equal(more.sites[:8], BRAIN.sites)  # a replication has the same sites


def test_make_brain__leaves_out_what_is_not_positive():
    # three correlations that cannot be at once
    impossible = np.array([[1, 0.9, -0.9], [0.9, 1, 0.9], [-0.9, 0.9, 1]])
    assert make_brain(impossible, SPEC).n_modes == 2
    with pytest.raises(SourceError, match="1 of 2 eigenvalues are positive; modes need 2"):
        make_brain(np.array([[1.0, 1.0], [1.0, 1.0]]) + np.diag([0, -0.5]), SPEC)


def test_model_connectivity__pairs_twins_and_is_positive_definite():
    found = model_connectivity(NAMES)
    assert np.linalg.eigvalsh(found).min() > 0
    twins = found[np.arange(15), np.arange(15, 30)]
    assert twins.min() > np.median(found) + 0.2
    # names without a side: the first half is left
    np.testing.assert_allclose(model_connectivity([f"R{i}" for i in range(30)]), found)
    assert model_connectivity(["a", "b", "c"]).shape == (3, 3)
    mixed = model_connectivity(["Brainstem", *NAMES])  # one region without a twin
    assert np.linalg.eigvalsh(mixed).min() > 0


def test_with_mixtures_before__makes_regions_of_the_others():
    cortex = model_connectivity(NAMES)
    whole = with_mixtures_before(cortex, 6)
    assert whole.shape == (36, 36)
    np.testing.assert_array_equal(whole[6:, 6:], cortex)
    np.testing.assert_array_equal(np.diag(whole), 1)
    assert np.linalg.eigvalsh(whole).min() > 0
    assert np.abs(whole[:6, 6:]).max(axis=1).min() > 0.3


def test_read_connectivity__reads_every_kind(tmp_path):
    fc = functional_connectivity(np.random.default_rng(0).normal(size=(50, 4)))
    np.save(tmp_path / "fc.npy", np.where(np.eye(4), np.inf, fc))  # the diagonal is 1 whatever is written there
    for suffix, delimiter in ((".csv", ","), (".tsv", "\t"), (".txt", " ")):
        np.savetxt(tmp_path / f"fc{suffix}", fc, delimiter=delimiter)
    for path in tmp_path.iterdir():
        np.testing.assert_allclose(read_connectivity(path.read_bytes(), path.name), fc, atol=1e-12)


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.eye(3)[:2], r"connectivity: fc.npy has shape \(2, 3\), not \(n_rois, n_rois\)"),
        (np.array([[1, np.nan], [np.nan, 1]]), "holds 2 values that are not finite"),
        (np.array([[1, 1.4], [1.4, 1]]), "holds 1.4; give correlations, not Fisher's z"),
        (np.array([[1, 0.4], [0.1, 1]]), r"is not symmetric \(largest difference 0.3\)"),
    ],
)
def test_read_connectivity__refuses_what_is_no_connectivity(tmp_path, matrix, message):
    np.save(tmp_path / "fc.npy", matrix)
    with pytest.raises(SourceError, match=message):
        read_connectivity((tmp_path / "fc.npy").read_bytes(), "fc.npy")


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("fc.csv", b"LH-1,LH-2\n1,0.2\n", r"fc.csv is no matrix of numbers \(could not convert string 'LH-1'"),
        ("fc.csv", b"1,0.2\n0.2\n", "fc.csv is no matrix of numbers"),
        ("fc.txt", "1 ½".encode("latin-1"), "fc.txt is no matrix of numbers"),
        ("fc.npy", b"nothing", "fc.npy is no matrix of numbers"),
        ("fc.npy", b"", "fc.npy is no matrix of numbers"),
    ],
)
def test_read_connectivity__refuses_what_is_no_matrix(name, data, message):
    with pytest.raises(SourceError, match=message):
        read_connectivity(data, name)

import numpy as np
import pytest

from boldstream.errors import GradientError
from boldstream.parcellation.gradients import (
    MeanConnectivity,
    diffusion_gradient,
    functional_connectivity,
    read_gradient,
)


def scan(n_timepoints=150, n_rois=40, seed=0, sources=6):
    """Regions on a line that share slowly changing sources: neighbours correlate."""
    rng = np.random.default_rng(seed)
    place, centre = np.linspace(0, 1, n_rois), np.linspace(0, 1, sources)
    mixing = np.exp(-(((place[:, None] - centre) / 0.2) ** 2))
    return rng.normal(size=(n_timepoints, sources)) @ mixing.T + 0.3 * rng.normal(size=(n_timepoints, n_rois))


@pytest.fixture(scope="module")
def fc():
    return functional_connectivity(scan())


def test_connectivity__is_pearsons():
    x = scan()
    ours = functional_connectivity(x)
    np.testing.assert_allclose(ours, np.corrcoef(x.T), atol=1e-12)
    np.testing.assert_array_equal(ours, ours.T)


def test_connectivity__of_a_constant_region_is_zero():
    x = scan()
    x[:, 3] = 0.1
    ours = functional_connectivity(x)
    assert not ours[3].any()
    assert not ours[:, 3].any()


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((1, 3)), r"n_timepoints >= 2"),
        (np.full((5, 3), np.nan), "15 values that are NaN or infinite"),
    ],
)
def test_connectivity__refuses(x, message):
    with pytest.raises(GradientError, match=message):
        functional_connectivity(x)


def test_mean_connectivity__is_the_mean_of_z_and_merges():
    scans = [functional_connectivity(scan(seed=s)) for s in range(4)]
    mean = MeanConnectivity(40).add(scans[0]).add(scans[1])
    mean.merge(MeanConnectivity(40).add(scans[2]).add(scans[3]))
    off = ~np.eye(40, dtype=bool)
    expected = np.tanh(np.mean([np.arctanh(s, where=off, out=np.zeros_like(s)) for s in scans], axis=0))
    np.testing.assert_allclose(mean.result()[off], expected[off], atol=1e-12)
    np.testing.assert_array_equal(np.diagonal(mean.result()), 1)


def test_mean_connectivity__leaves_out_scans_where_a_region_is_constant():
    x = scan(seed=1)
    x[:, 3] = 0.0
    whole = functional_connectivity(scan(seed=0))
    mean = MeanConnectivity(40).add(whole).add(functional_connectivity(x)).result()
    np.testing.assert_allclose(mean[3], whole[3], atol=1e-6)


def test_mean_connectivity__refuses_a_region_that_is_always_constant(fc):
    x = scan()
    x[:, [3, 7]] = 0.0
    with pytest.raises(GradientError, match=r"2 regions \(indices 3, 7.*leave those regions out"):
        MeanConnectivity(40).add(functional_connectivity(x)).result()
    with pytest.raises(GradientError, match=r"shape \(40, 40\), the mean \(5, 5\)"):
        MeanConnectivity(5).add(fc)
    with pytest.raises(GradientError, match="NaN or infinite"):
        MeanConnectivity(40).add(np.full((40, 40), np.nan))


def stationary(fc):
    unit = fc / np.linalg.norm(fc, axis=1, keepdims=True)
    affinity = 1 - np.arccos(np.clip(unit @ unit.T, -1, 1)) / np.pi
    degree = affinity.sum(axis=1) ** -0.5
    return affinity * np.outer(degree, degree)


def test_gradient__satisfies_the_definition(fc):
    components = diffusion_gradient(fc, 10)
    weight = stationary(fc)
    step = weight / weight.sum(axis=1, keepdims=True)
    pi = weight.sum(axis=1) / weight.sum()
    for component in components.T:
        moved = step @ component
        eigenvalue = (moved @ component) / (component @ component)
        # the affinity's diagonal (arccos near 1) is good to 1e-8
        np.testing.assert_allclose(moved, eigenvalue * component, atol=1e-7 * np.abs(component).max())
        scale = np.sqrt(pi @ component**2)
        np.testing.assert_allclose(scale, eigenvalue / (1 - eigenvalue) * np.sqrt(pi @ np.ones(40)), rtol=1e-5)
    gram = components.T @ (pi[:, None] * components)
    np.testing.assert_allclose(gram, np.diag(np.diagonal(gram)), atol=1e-12)


def test_gradient__has_the_published_ones_properties(fc):
    components = diffusion_gradient(fc, 10)
    norms = np.linalg.norm(components, axis=0)
    assert (np.diff(norms) < 0).all()
    unit = components / norms
    assert np.abs(unit.T @ unit - np.eye(10)).max() < 0.1
    assert np.abs(components.mean(axis=0)).max() < 0.05 * norms[0]


def test_gradient__first_component_orders_the_line(fc):
    first = diffusion_gradient(fc, 3)[:, 0]
    place = np.corrcoef(first, np.arange(40))[0, 1]
    assert abs(place) > 0.9


def test_gradient__follows_the_regions_order_and_its_sign_is_fixed(fc):
    components = diffusion_gradient(fc, 5)
    order = np.random.default_rng(0).permutation(40)
    np.testing.assert_allclose(diffusion_gradient(fc[np.ix_(order, order)], 5), components[order], atol=1e-9)
    assert (components[np.abs(components).argmax(axis=0), range(5)] > 0).all()


@pytest.mark.parametrize(
    ("change", "n_components", "message"),
    [
        (lambda fc: fc, 40, "40 components need more than 40 regions, connectivity has 40; choose 1 to 39"),
        (lambda fc: fc, 0, "choose 1 to 39"),
        (lambda fc: fc[:3], 2, "is \\(n_rois, n_rois\\), got shape \\(3, 40\\)"),
        (lambda fc: np.where(np.eye(40) > 0, np.nan, fc), 5, "40 values that are NaN or infinite"),
        (lambda fc: np.triu(fc), 5, "not symmetric"),
        (lambda fc: fc * (np.arange(40) != 4) * (np.arange(40) != 4)[:, None], 5, r"1 regions \(indices 4\)"),
    ],
)
def test_gradient__refuses(fc, change, n_components, message):
    with pytest.raises(GradientError, match=message):
        diffusion_gradient(change(fc), n_components)


def test_read_gradient__takes_numbers_without_a_header(tmp_path):
    (tmp_path / "g.csv").write_text("1,-2.5e-3\r\n3, 4\r\n")
    np.testing.assert_array_equal(read_gradient(tmp_path / "g.csv"), [[1, -0.0025], [3, 4]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"g.csv: the gradient cannot be read \(No such file"),
        (b"\xff\xfe\x00", "g.csv: the gradient is not UTF-8 text"),
        ("\n", "g.csv: the gradient is empty"),
        (
            "roi,g1\nA,1\n",
            r"line 1 of the gradient is not numbers with commas between \(.*'roi'\); a line is a region's",
        ),
        ("1,2\n3;4\n", r"line 2 of the gradient is not numbers .*'3;4'"),
        ("1,2\n3\n", "line 2 has 1 numbers, line 1 has 2"),
        ("1,2\n3,nan\ninf,4\n", "2 values of the gradient are NaN or infinite, the first in line 2, column 2"),
        ("1,2\n3,2\n", r"component 2 of the gradient is 2 for every region \(1 such of 2\); a component that does not"),
    ],
)
def test_read_gradient__says_what_is_wrong(tmp_path, text, message):
    if text is not None:
        (tmp_path / "g.csv").write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(GradientError, match=message) as caught:
        read_gradient(tmp_path / "g.csv")
    assert "\n" not in str(caught.value)

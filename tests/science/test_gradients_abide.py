"""The gradient of a real group: 100 ABIDE scans in CC200."""

from pathlib import Path

import numpy as np
import pytest

from boldstream.parcellation.gradients import MeanConnectivity, diffusion_gradient, functional_connectivity

ABIDE = Path(__file__).parents[3] / "shared" / "data" / "abide" / "abide_cc200.npz"

pytestmark = [
    pytest.mark.abide,
    pytest.mark.skipif(not ABIDE.is_file(), reason=f"{ABIDE} is not there"),
]


def group(start, stop):
    scans = np.load(ABIDE)
    mean = MeanConnectivity(200)
    for key in scans.files[start:stop]:
        mean.add(functional_connectivity(scans[key]))
    return mean.result()


@pytest.fixture(scope="module")
def gradient():
    return diffusion_gradient(group(0, 100))


def test_gradient__has_the_published_ones_properties(gradient):
    norms = np.linalg.norm(gradient, axis=0)
    assert gradient.shape == (200, 30)
    assert (np.diff(norms) < 0).all()
    unit = gradient / norms
    assert np.abs(unit.T @ unit - np.eye(30)).max() < 0.03
    assert np.abs(gradient.mean(axis=0)).max() < 1e-3


def test_gradient__is_that_of_another_part_of_the_cohort(gradient):
    other = diffusion_gradient(group(400, 500))
    # components can rotate among neighbours; the space of the first ten is the group's
    spans = [np.linalg.qr(g[:, :10])[0] for g in (gradient, other)]
    overlap = np.linalg.svd(spans[0].T @ spans[1], compute_uv=False)
    assert overlap.mean() > 0.9
    assert abs(np.corrcoef(gradient[:, 0], other[:, 0])[0, 1]) > 0.9

import numpy as np
import pytest
import torch

from boldstream.encoders.occlusion import occlusion_map
from boldstream.report.occlusion import Occlusion, draw_occlusion, numbers_of_occlusion, typical_distance

N_TIMEPOINTS, N_ROIS, N_PATCHES = 12, 5, 3


class Listener:
    """An encoder whose tokens are the mean of each patch of one region, weighted by patch; it hears no other."""

    n_timepoints, n_patches, embed_dim = N_TIMEPOINTS, N_PATCHES, 2
    roi_names = tuple(f"r{i}" for i in range(N_ROIS))

    def __init__(self, roi=3):
        self.roi, self.sizes = roi, []

    def encode(self, windows):
        self.sizes.append(len(windows))
        patches = torch.from_numpy(windows.copy()).reshape(len(windows), N_PATCHES, -1, N_ROIS).mean(dim=2)
        heard = patches[:, :, self.roi] * torch.tensor([1.0, 2.0, 3.0])
        return heard[:, None, :, None].expand(-1, N_ROIS, -1, self.embed_dim)


def window():
    return np.random.default_rng(0).normal(size=(N_TIMEPOINTS, N_ROIS)).astype(np.float32)


def test_occlusion__moves_the_vector_where_the_encoder_listens():
    series = window()
    found = occlusion_map(Listener(), series)
    assert found.shape == (N_ROIS, N_PATCHES)
    assert not found[[0, 1, 2, 4]].any()
    away = np.abs(series[:, 3].reshape(N_PATCHES, -1).mean(axis=1) - series[:, 3].mean()) * [1, 2, 3] / N_PATCHES
    np.testing.assert_allclose(found[3], away * np.sqrt(2), rtol=1e-5)


def test_occlusion__is_the_same_for_any_batch_size_and_leaves_the_window_alone():
    series, listener = window(), Listener()
    kept = series.copy()
    found = [occlusion_map(listener, series, batch_size=size) for size in (1, 4, 100)]
    np.testing.assert_allclose(found[0], found[1])
    np.testing.assert_allclose(found[0], found[2])
    np.testing.assert_array_equal(series, kept)
    assert max(listener.sizes) == N_ROIS * N_PATCHES


def test_occlusion__refuses_windows_of_another_shape():
    with pytest.raises(ValueError, match=r"the window has shape \(11, 5\); the encoder takes \(12, 5\) in 3 patches"):
        occlusion_map(Listener(), window()[1:])


def test_occlusion__is_told_and_drawn():
    found = Occlusion("trained", "sub-1", 4.0, 24.0, "s", np.arange(15.0).reshape(N_ROIS, N_PATCHES))
    names = list(Listener.roi_names)
    told = numbers_of_occlusion(found, names)
    assert next(iter(told["top"].items())) == ("r4", 13.0)
    assert numbers_of_occlusion(None, names) is None
    assert draw_occlusion(found, names).startswith(b"\x89PNG")


def test_distance__is_the_median_of_pairs():
    assert typical_distance(np.array([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]], np.float32)) == pytest.approx(5.0)
    assert typical_distance(np.ones((4, 2), np.float32)) == 1.0

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from boldstream.encoders.brainjepa.masks import MaskSpec, sample_masks
from boldstream.errors import ConfigError


def draw(n_rois, n_patches, batch, seed, spec=None):
    return sample_masks(n_rois, n_patches, batch, torch.Generator().manual_seed(seed), spec or MaskSpec())


@settings(deadline=None)
@given(
    n_rois=st.integers(2, 60),
    n_patches=st.integers(1, 20),
    batch=st.integers(1, 6),
    seed=st.integers(0, 2**31),
)
def test_masks__are_disjoint_unique_ascending_tokens(n_rois, n_patches, batch, seed):
    context, target = draw(n_rois, n_patches, batch, seed)
    assert context.dtype == target.dtype == torch.int64
    assert len(context) == len(target) == batch
    assert context.shape[1] > 0
    assert target.shape[1] > 0
    for c, t in zip(context.tolist(), target.tolist(), strict=True):
        assert c == sorted(set(c))
        assert t == sorted(set(t))
        assert not set(c) & set(t)
        assert min(c + t) >= 0
        assert max(c + t) < n_rois * n_patches


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**31))
def test_masks__sizes_do_not_depend_on_the_batch(seed):
    one, many = draw(40, 10, 1, seed), draw(40, 10, 9, seed)
    assert [index.shape[1] for index in one] == [index.shape[1] for index in many]


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**31))
def test_masks__have_the_papers_geometry(seed):
    context, target = draw(40, 10, 4, seed)
    for c, t in zip(context, target, strict=True):
        regions, patches = set((c // 10).tolist()), set((c % 10).tolist())
        # the context is a full rectangle of observed regions and patches
        assert len(c) == len(regions) * len(patches)
        for token in t.tolist():
            roi, patch = divmod(token, 10)
            if patch in patches:
                assert roi not in regions  # Cross-ROI
            else:
                assert patch in (0, 1, 2, 7, 8, 9)  # Cross-Time, Double-Cross


def test_masks__repeat_with_their_seed():
    for one, two in zip(draw(40, 10, 4, 7), draw(40, 10, 4, 7), strict=True):
        assert torch.equal(one, two)
    assert not torch.equal(draw(40, 10, 4, 7)[0][:, :5], draw(40, 10, 4, 8)[0][:, :5])


@pytest.mark.parametrize("n_patches", [3, 5, 10, 12])
def test_masks__let_every_region_and_patch_be_context_and_target(n_patches):
    regions, patches = torch.zeros(2, 30), torch.zeros(2, n_patches)
    for seed in range(60):
        for row, index in enumerate(draw(30, n_patches, 16, seed)):
            regions[row] += torch.bincount(index.flatten() // n_patches, minlength=30)
            patches[row] += torch.bincount(index.flatten() % n_patches, minlength=n_patches)
    # no region is favoured (the reference's last are seen 11 times less than its first)
    assert (regions.min(1).values > 0.85 * regions.mean(1)).all()
    assert (regions.max(1).values < 1.15 * regions.mean(1)).all()
    assert (patches > 0).all()


def test_masks__all_three_kinds_of_target_are_there():
    counts = torch.zeros(3)
    for seed in range(100):
        context, target = draw(40, 10, 2, seed)
        for c, t in zip(context, target, strict=True):
            seen_roi = torch.isin(t // 10, c // 10)
            seen_patch = torch.isin(t % 10, c % 10)
            counts += torch.stack(
                [
                    (~seen_roi & seen_patch).sum(),
                    (seen_roi & ~seen_patch).sum(),
                    (~seen_roi & ~seen_patch).sum(),
                ]
            )
    assert (counts / counts.sum() > 0.08).all()


def test_masks__sizes_are_near_the_reference_per_sample():
    sizes = torch.tensor([[index.shape[1] for index in draw(450, 10, 1, seed)] for seed in range(300)]).float()
    # per sample the reference has 1241 and 1127 on average (before it cuts batches down to 824 and 875)
    assert 950 < sizes[:, 0].mean() < 1300
    assert 950 < sizes[:, 1].mean() < 1300


@pytest.mark.parametrize(("n_rois", "n_patches"), [(1, 10), (10, 0)])
def test_masks__refuse_a_grid_that_is_too_small(n_rois, n_patches):
    with pytest.raises(ValueError, match="at least 2 regions and 1 patch"):
        draw(n_rois, n_patches, 2, 0)


@pytest.mark.parametrize("values", [[0.9, 0.8], [-0.1, 0.5], [0.5, 1.5]])
def test_spec__refuses_what_is_no_range(values):
    with pytest.raises(ConfigError, match=r"observation .* is no range within 0 and 1"):
        MaskSpec.from_mapping({"observation": values}, where="masks")

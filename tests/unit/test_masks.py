import functools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from boldstream.encoders.brainjepa.masks import KINDS, sample_masks
from boldstream.encoders.brainjepa.specs import MaskSpec
from boldstream.errors import ConfigError, TrainingError

PAPER, REFERENCE = MaskSpec(), MaskSpec(policy="reference")
FIELDS = ("context_index", "target_index", "target_kind")
KEYS = st.integers(-(2**63), 2**63 - 1)


def draw(n_rois, n_patches, keys, spec=PAPER, *, seed=0, step=1):
    keys = torch.as_tensor(keys, dtype=torch.int64) if not isinstance(keys, int) else random_keys(keys, step)
    return sample_masks(n_rois, n_patches, keys, spec, seed=seed, step=step)


def random_keys(n, seed):
    return torch.randint(-(2**63), 2**63 - 1, (n,), generator=torch.Generator().manual_seed(seed))


def assert_tokens(masks, n_rois, n_patches, batch):
    context, target, kind = (getattr(masks, field) for field in FIELDS)
    assert context.dtype == target.dtype == torch.int64
    assert len(context) == len(target) == batch
    assert kind.shape == target.shape
    assert kind.dtype == torch.uint8
    assert context.shape[1] > 0
    assert target.shape[1] > 0
    for c, t in zip(context.tolist(), target.tolist(), strict=True):
        assert c == sorted(set(c))
        assert not set(c) & set(t)
        assert min(c + t) >= 0
        assert max(c + t) < n_rois * n_patches


GRID = {"n_rois": st.integers(2, 60), "n_patches": st.integers(1, 20), "step": st.integers(0, 2**31)}
RANGE = st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted)
RANGES = ("observation", "cross_roi_rois", "cross_roi_patches", "cross_time_rois", "cross_time_patches")


@settings(deadline=None)
@given(keys=st.lists(KEYS, min_size=1, max_size=6), spec=st.fixed_dictionaries(dict.fromkeys(RANGES, RANGE)), **GRID)
def test_masks__are_disjoint_and_unique_for_any_spec(n_rois, n_patches, keys, step, spec):
    masks = draw(n_rois, n_patches, keys, MaskSpec.model_validate(spec), step=step)
    assert_tokens(masks, n_rois, n_patches, len(keys))
    for t in masks.target_index.tolist():
        assert len(t) == len(set(t))


@settings(deadline=None, max_examples=50)
@given(n_rois=st.integers(5, 60), n_patches=st.integers(1, 20), batch=st.integers(1, 6), step=st.integers(0, 2**31))
def test_masks__of_the_reference_are_disjoint_tokens(n_rois, n_patches, batch, step):
    assert_tokens(draw(n_rois, n_patches, batch, REFERENCE, step=step), n_rois, n_patches, batch)


@pytest.mark.parametrize("grid", [(2, 1), (2, 40), (1000, 1), (1000, 40), (450, 10)])
@pytest.mark.parametrize("step", range(5))
def test_masks__fit_extreme_grids(grid, step):
    assert_tokens(draw(*grid, 3, step=step), *grid, 3)


@settings(deadline=None)
@given(keys=st.lists(KEYS, min_size=1, max_size=4), **GRID)
def test_masks__have_the_papers_geometry_and_kinds(n_rois, n_patches, keys, step):
    masks = draw(n_rois, n_patches, keys, step=step)
    for c, t, kinds in zip(masks.context_index, masks.target_index, masks.target_kind, strict=True):
        rois, patches = set((c // n_patches).tolist()), set((c % n_patches).tolist())
        # the context is a full rectangle of observed regions and patches
        assert len(c) == len(rois) * len(patches)
        for token, kind in zip(t.tolist(), kinds.tolist(), strict=True):
            roi, patch = divmod(token, n_patches)
            assert (roi in rois, patch in patches) == {
                "cross_roi": (False, True), "cross_time": (True, False), "double_cross": (False, False)
            }[KINDS[kind]]  # fmt: skip


@settings(deadline=None)
@given(n_rois=st.integers(10, 500), n_patches=st.integers(5, 30), key=KEYS, step=st.integers(0, 2**31))
def test_masks__keep_the_stated_shares(n_rois, n_patches, key, step):
    masks = draw(n_rois, n_patches, [key], step=step)
    context, target, kind = (getattr(masks, field)[0] for field in FIELDS)
    observed = len(set((context // n_patches).tolist()))

    def block(code):
        tokens = target[kind == code]
        return len(set((tokens // n_patches).tolist())), tokens % n_patches

    # whole parts, so up to one region or patch less than the range says
    rois, patches = block(0)
    assert 0.45 * n_rois - 1 < rois <= 0.6 * n_rois
    assert 0.2 * n_patches - 1 < len(patches.unique()) <= 0.6 * n_patches
    for code, group in ((1, observed), (2, n_rois - observed)):
        _, patches = block(code)
        # two sides, in each its own regions of the group in every patch
        assert len(patches.unique()) <= 2 * 0.4 * n_patches
        for count in patches.bincount().tolist():
            assert not count or 0.15 * group - 1 < count <= 0.3 * group
    assert 0.84 * n_rois * 0.4 - 2 < observed <= 0.55 * n_rois + 1


@settings(deadline=None, max_examples=50)
@given(keys=st.lists(KEYS, min_size=2, max_size=8, unique=True), data=st.data(), **GRID)
def test_masks__of_a_window_do_not_depend_on_its_batch(n_rois, n_patches, keys, step, data):
    together = draw(n_rois, n_patches, keys, step=step)
    some = data.draw(st.lists(st.integers(0, len(keys) - 1), min_size=1, unique=True))
    for field in FIELDS:
        apart = getattr(draw(n_rois, n_patches, [keys[i] for i in some], step=step), field)
        assert torch.equal(apart, getattr(together, field)[some])


@settings(deadline=None, max_examples=30)
@given(keys=st.lists(KEYS, min_size=2, max_size=8, unique=True), data=st.data(), step=st.integers(0, 2**31))
def test_masks__of_the_reference_do_not_depend_on_the_batchs_order(keys, data, step):
    order = data.draw(st.permutations(range(len(keys))))
    together, turned = (
        draw(30, 10, keys, REFERENCE, step=step),
        draw(30, 10, [keys[i] for i in order], REFERENCE, step=step),
    )
    for field in FIELDS:
        assert torch.equal(getattr(turned, field), getattr(together, field)[order])


def test_masks__differ_by_key_step_and_seed():
    def context(**values):
        return draw(40, 10, **({"keys": [7]} | values)).context_index.tolist()

    assert context() == context()
    assert context() != context(keys=[8])
    sizes = {len(context(step=step, seed=seed)[0]) for step in range(5) for seed in range(5)}
    assert len(sizes) > 10


def one_token_each(spec, batch, n_steps):
    """Return a random context token of every window: independent draws, as Pearson's chi-squared wants them."""
    rng = np.random.default_rng(5)
    found = []
    for step in range(n_steps):
        context = draw(450, 10, batch, spec, step=step).context_index.numpy()
        found.append(context[np.arange(batch), rng.integers(0, context.shape[1], batch)])
    return np.concatenate(found)


ALPHA = 0.001


def coverage(tokens):
    """Return the chi-squared p-values of uniform regions and uniform patches."""
    return [
        stats.chisquare(np.bincount(values, minlength=size)).pvalue
        for values, size in ((tokens // 10, 450), (tokens % 10, 10))
    ]


@pytest.mark.parametrize("batch", [1, 16])
def test_masks__show_every_region_and_patch_equally_often(batch):
    assert min(coverage(one_token_each(PAPER, batch, 9600 // batch))) > ALPHA


def test_masks__of_the_reference_do_not():
    assert max(coverage(one_token_each(REFERENCE, 16, 600))) < 1e-9
    # of single windows only the patches are unequal
    rois, patches = coverage(one_token_each(REFERENCE, 1, 9600))
    assert rois > ALPHA
    assert patches < 1e-9


def test_masks__target_every_region_and_patch_equally_often():
    counts = torch.zeros(30, 10)
    for step in range(300):
        target = draw(30, 10, 16, step=step).target_index
        counts += target.flatten().bincount(minlength=300).view(30, 10)
    for axis in (0, 1):
        # dependent counts, so no chi-squared; the reference's patches differ by a factor
        assert torch.allclose(counts.mean(axis) / counts.mean(), torch.ones(()), atol=0.05)


@functools.cache
def statistics(policy, batch):
    """Return statistics of many batches at 450 x 10, each (mean, standard error) or an array of shares."""
    n_batches = 600 if batch == 16 else 2000
    masks = [draw(450, 10, batch, MaskSpec(policy=policy), step=step) for step in range(n_batches)]
    per_batch = {
        "context": [m.context_index.shape[1] for m in masks],
        "target": [m.target_index.shape[1] for m in masks],
        **{
            kind: [(m.target_kind == code).sum().item() / batch for m in masks]
            for code, kind in enumerate(KINDS)
        },
        "repeats": [m.target_index.shape[1] - len(m.target_index[0].unique()) for m in masks],
    }  # fmt: skip
    found = {name: (np.mean(values), np.std(values) / n_batches**0.5) for name, values in per_batch.items()}
    sides = np.add(per_batch["cross_time"], per_batch["double_cross"])
    found["sides"] = sides.mean(), sides.std() / n_batches**0.5
    found["no_sides"] = (sides == 0).mean()
    tokens = sum(m.context_index.flatten().bincount(minlength=4500) for m in masks).view(450, 10).numpy()
    found["patches"] = tokens.sum(0) / tokens.sum()
    found["rois"] = tokens.sum(1) / tokens.sum(1).mean()
    return found


# shared science/brainjepa.md, section 2: measured on the reference's code (2000 and 600 batches, as here)
MEASURED = {
    1: {
        "context": 1241, "target": 1127, "cross_roi": 824, "sides": 304, "repeats": 34,
        "patches": [0.066, 0.077, 0.081, 0.159, 0.159, 0.159, 0.159, 0.077, 0.064, 0],
    },
    16: {
        "context": 824, "target": 875, "cross_roi": 839, "sides": 36, "repeats": 2,
        "patches": [0.058, 0.073, 0.073, 0.166, 0.166, 0.166, 0.166, 0.075, 0.058, 0],
    },
}  # fmt: skip


@pytest.mark.parametrize("batch", [1, 16])
def test_reference__has_the_published_codes_statistics(batch):
    found = statistics("reference", batch)
    for name, value in MEASURED[batch].items():
        if name == "patches":
            continue
        mean, error = found[name]
        # both are samples of the same size: the difference has sqrt(2) of one's error; 4 sigma, half a unit rounding
        assert abs(mean - value) < 4 * 2**0.5 * error + 0.5, name
    np.testing.assert_allclose(found["patches"], MEASURED[batch]["patches"], atol=0.006)
    assert found["patches"][9] == 0


def test_reference__starves_the_last_regions_and_drops_the_sides():
    found = statistics("reference", 16)
    for rois, ratio, tolerance in (
        (slice(0, 50), 1.51, 0.04),
        (slice(300, 400), 0.34, 0.04),
        (slice(400, 450), 0.13, 0.04),
    ):
        assert found["rois"][rois].mean() == pytest.approx(ratio, abs=tolerance)
    # 63 % of 600 batches: standard error 2 points, twice
    assert found["no_sides"] == pytest.approx(0.63, abs=0.11)
    np.testing.assert_allclose(statistics("reference", 1)["rois"], 1, atol=0.15)


@pytest.mark.parametrize("batch", [1, 16])
def test_paper__has_the_references_shares_of_single_windows_at_any_batch_size(batch):
    found, single = statistics("paper", batch), statistics("reference", 1)
    for name in ("cross_roi", "cross_time", "double_cross", "context", "target"):
        (mean, error), (other, other_error) = found[name], single[name]
        # the reference takes only one of its two starts for an observation of nine patches: 1 % of the context
        assert abs(mean - other) < 4 * np.hypot(error, other_error) + 0.01 * other, name
    assert found["repeats"] == (0, 0)


def test_metrics__are_shares_and_token_counts():
    metrics = draw(450, 10, 4, step=3).metrics()
    assert list(metrics) == [
        "cross_roi_share",
        "cross_time_share",
        "double_cross_share",
        "context_tokens",
        "target_tokens",
    ]
    assert sum(metrics[f"{kind}_share"] for kind in KINDS) == pytest.approx(1)
    masks = draw(450, 10, 4, step=3)
    assert metrics["double_cross_share"] == pytest.approx((masks.target_kind == 2).float().mean().item())
    assert (metrics["context_tokens"], metrics["target_tokens"]) == tuple(
        index.shape[1] for index in (masks.context_index, masks.target_index)
    )


@pytest.mark.parametrize(("n_rois", "n_patches"), [(1, 10), (10, 0)])
def test_masks__refuse_a_grid_that_is_too_small(n_rois, n_patches):
    with pytest.raises(ValueError, match="at least 2 regions and 1 patch"):
        draw(n_rois, n_patches, 2)


def test_masks__refuse_an_empty_batch():
    with pytest.raises(ValueError, match="at least one window, got none"):
        draw(10, 10, [])


def test_reference__refuses_a_window_without_context():
    with pytest.raises(TrainingError, match=r"left a window without context tokens; use mask\.policy: paper"):
        draw(2, 10, 50, REFERENCE)


@pytest.mark.parametrize("values", [[0.9, 0.8], [-0.1, 0.5], [0.5, 1.5]])
def test_spec__refuses_what_is_no_range(values):
    with pytest.raises(ConfigError, match=r"observation .* is no range within 0 and 1"):
        MaskSpec.from_mapping({"observation": values}, where="masks")


def test_spec__refuses_an_unknown_policy():
    with pytest.raises(ConfigError, match="policy"):
        MaskSpec.from_mapping({"policy": "ours"}, where="masks")

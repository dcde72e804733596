import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from boldstream.encoders.brainjepa.config import BrainJEPAConfig
from boldstream.encoders.brainjepa.jepa import BrainJEPA
from boldstream.encoders.brainjepa.masks import sample_masks
from boldstream.encoders.brainjepa.objective import (
    EPS,
    Objective,
    ObjectiveSpec,
    centre_positions,
    contrast,
    explained_between,
    vicreg,
)
from boldstream.encoders.brainjepa.specs import MaskSpec

SMALL = BrainJEPAConfig(
    n_rois=6,
    n_timepoints=16,
    patch_size=4,
    gradient_dims=3,
    embed_dim=8,
    depth=2,
    num_heads=2,
    predictor_embed_dim=8,
    predictor_depth=1,
)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def objective(**spec):
    torch.manual_seed(0)
    jepa = BrainJEPA.build(SMALL, random(SMALL.n_rois, SMALL.gradient_dims), "xavier")
    return Objective(jepa, ObjectiveSpec(**spec)).train()


def windows(n=8, seed=1):
    return random(n, 1, SMALL.n_rois, SMALL.n_timepoints, seed=seed)


def batch(n=8, step=1):
    """Return windows and their masks; the same for a window in any batch."""
    masks = sample_masks(SMALL.n_rois, SMALL.n_patches, torch.arange(n), MaskSpec(), seed=0, step=step)
    return windows(n), masks.context_index, masks.target_index


def everywhere(n):
    """Return a mask whose targets are all tokens."""
    index = torch.arange(SMALL.n_tokens).expand(n, -1)
    return index[:, :1], index


def predict_nothing(jepa):
    """Make the predictor say zero, whatever it sees: the best that knows positions alone, of standardised targets."""
    with torch.no_grad():
        jepa.predictor.predictor_proj.weight.zero_()
        jepa.predictor.predictor_proj.bias.zero_()


def settle(module, n_steps=60, n=16):
    """Show it windows of one distribution, the networks resting."""
    for step in range(1, n_steps + 1):
        with torch.no_grad():
            module(windows(n, seed=step), *everywhere(n))
        module.after_step(step, momentum=1.0)


def standardised(module, n=600):
    with torch.no_grad():
        return module.eval()._targets(windows(n, seed=10**6))


def test_plain_objective__is_the_papers_loss_exactly():
    module = objective(targets="layer_norm", regularizer="none")
    loss, parts = module(*batch())
    assert torch.equal(loss, module.jepa.loss(*batch()))
    assert list(parts) == ["prediction", "explained_between"]
    assert torch.equal(parts["prediction"], loss)
    assert list(module.state_dict()) == [f"jepa.{key}" for key in module.jepa.state_dict()]


def test_regularizer__is_added_by_its_weight():
    plain, _ = objective(targets="layer_norm")(*batch())
    loss, parts = objective(targets="layer_norm", regularizer="vicreg", weight=0.5)(*batch())
    torch.testing.assert_close(loss, plain + 0.5 * (parts["variance"] + 0.04 * parts["covariance"]))
    loss, parts = objective(targets="layer_norm", regularizer="contrast", weight=2.0)(*batch())
    torch.testing.assert_close(loss, plain + 2.0 * parts["contrast"])
    assert not any(part.requires_grad for part in parts.values())


@pytest.mark.parametrize(("n_steps", "batch_size"), [(40, 16), (100, 4), (200, 1)])
def test_position_targets__become_standard_at_every_position(n_steps, batch_size):
    """Whatever the batch size: windows of one step are few, so their variance would be too low."""
    module = objective(targets="position")
    settle(module, n_steps, batch_size)
    targets = standardised(module)
    # statistics of some 200 windows at least: a mean is off by 0.07 or so, a variance by 10 %
    assert targets.mean(dim=0).abs().max() < 0.3
    assert (targets.var(dim=0) - 1).abs().max() < 0.5
    assert targets.var(dim=0).mean() == pytest.approx(1, abs=0.04)


def test_position_targets__are_layer_normed_tokens_at_first():
    module = objective(targets="position").eval()
    torch.testing.assert_close(
        module._targets(windows()), objective(targets="layer_norm")._targets(windows()), atol=1e-3, rtol=1e-3
    )


def test_position_targets__are_clipped():
    module = objective(targets="position")
    module.target_variance.zero_()
    assert module._targets(windows()).abs().max() == 5.0


@pytest.mark.parametrize("size", [1, 2, 4])
def test_statistics__do_not_depend_on_how_windows_are_cut(size):
    whole, cut = objective(), objective()
    for step in (1, 2, 3):
        x, context, target = batch(step=step)
        whole(x, context, target)
        for at in range(0, len(x), size):
            cut(x[at : at + size], context[at : at + size], target[at : at + size])
        for module in (whole, cut):
            module.after_step(step, momentum=0.9)
    torch.testing.assert_close(cut.target_mean, whole.target_mean, atol=1e-6, rtol=0)
    torch.testing.assert_close(cut.target_variance, whole.target_variance, atol=1e-5, rtol=0)


def test_statistics__are_kept_in_the_state_and_not_moved_in_evaluation():
    module = objective()
    kept = [key for key in module.state_dict() if "." not in key]
    assert kept == ["target_mean", "target_variance"]
    module.eval()(*batch())
    assert not module._sums.any()


def test_statistics__of_the_first_step_are_its_windows_own():
    module = objective()
    module(*batch())
    tokens = F.layer_norm(module.jepa.target_encoder(windows()), (8,)).detach()
    module.after_step(1, momentum=1.0)
    torch.testing.assert_close(module.target_mean, tokens.mean(dim=0))
    torch.testing.assert_close(module.target_variance, tokens.var(dim=0, unbiased=False))


def test_position_targets__are_not_predicted_from_positions_alone():
    """With the paper's targets, tokens that hardly vary between scans are predicted by a constant; not with ours."""
    plain, ours = objective(targets="layer_norm"), objective(targets="position")
    for module in (plain, ours):
        with torch.no_grad():
            # scans reach the tokens a little only: positions are nearly all of them
            module.jepa.target_encoder.patch_embed.proj.weight.mul_(0.05)
    settle(ours)
    x, (context, target) = windows(100, seed=10**6), everywhere(100)
    goal = plain.jepa.targets(x, target)
    assert 0 < F.smooth_l1_loss(goal.mean(dim=0).expand_as(goal), goal).item() < 0.01
    predict_nothing(ours.jepa)
    _, parts = ours.eval()(x, context, target)
    # the mean smooth L1 of a standard normal number and 0 is 0.425
    assert parts["prediction"].item() == pytest.approx(0.425, abs=0.03)


def test_position_only_encoder__is_not_rewarded():
    """Blind the encoder: its prediction of standardised targets is no better than none."""
    module = objective(targets="position")
    settle(module)
    with torch.no_grad():
        module.jepa.encoder.patch_embed.proj.weight.zero_()
    parameters = [p for p in module.jepa.predictor.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=3e-3)
    module.eval()
    for step in range(30):
        optimizer.zero_grad()
        masks = sample_masks(6, 4, torch.arange(32), MaskSpec(), seed=0, step=step)
        loss, _ = module(windows(32, seed=step), masks.context_index, masks.target_index)
        loss.backward()
        optimizer.step()
    x, (_, target) = windows(200, seed=10**6), everywhere(200)
    with torch.no_grad():
        blind, _ = module(x, target[:, ::2], target)
        predict_nothing(module.jepa)
        nothing, _ = module(x, target[:, ::2], target)
    assert blind.item() > 0.97 * nothing.item()


INDEX = st.lists(st.lists(st.integers(0, 9), min_size=4, max_size=4, unique=True), min_size=1, max_size=6)


@settings(deadline=None)
@given(index=INDEX, seed=st.integers(0, 100))
def test_centred_positions__sum_to_zero_and_forget_the_position(index, seed):
    index = torch.tensor(index)
    tokens = random(*index.shape, 3, seed=seed).double()
    centred = centre_positions(tokens, index, 10)
    sums = torch.zeros(10, 3).double().index_add(0, index.flatten(), centred.flatten(0, 1))
    torch.testing.assert_close(sums, torch.zeros_like(sums), atol=1e-12, rtol=0)
    counts = torch.bincount(index.flatten(), minlength=10)
    assert not centred[(counts == 1)[index]].any()
    position = random(10, 3, seed=seed + 1).double()
    torch.testing.assert_close(centre_positions(tokens + position[index], index, 10), centred, atol=1e-12, rtol=0)


@pytest.mark.parametrize("regularizer", ["vicreg", "contrast"])
def test_regularizer__is_not_satisfied_by_positions(regularizer):
    """A blind encoder's tokens differ by position alone, and get the whole penalty."""
    module = objective(regularizer=regularizer)
    with torch.no_grad():
        module.jepa.encoder.patch_embed.proj.weight.zero_()
        # in a training, a blind encoder's tokens at a position still vary with which others are in the context
        for block in module.jepa.encoder.blocks:
            block.attn.proj.weight.zero_()
    _, parts = module(*batch())
    if regularizer == "vicreg":
        assert parts["variance"].item() == pytest.approx(1 - EPS**0.5, abs=1e-4)
        assert parts["covariance"].item() < 1e-9
    else:
        assert parts["contrast"].item() > 0.9 * math.log(4)


def test_vicreg__penalises_constant_tokens():
    loss, parts = vicreg(torch.zeros(50, 4))
    assert loss.item() == parts["variance"].item() == pytest.approx(1 - EPS**0.5)
    assert parts["covariance"].item() == 0


def test_vicreg__is_zero_for_decorrelated_tokens_of_unit_variance():
    tokens = torch.cat([torch.eye(4), -torch.eye(4)]).double() * 2
    loss, parts = vicreg(tokens)
    assert loss.item() == parts["variance"].item() == parts["covariance"].item() == 0


def test_vicreg__penalises_dimensions_that_say_the_same():
    tokens = random(400, 1).repeat(1, 3)
    tokens = tokens / tokens.square().mean().sqrt()
    loss, parts = vicreg(tokens)
    assert parts["variance"].item() == pytest.approx(0, abs=1e-4)
    # six covariances of one, over three dimensions
    assert parts["covariance"].item() == pytest.approx(2, abs=1e-4)
    assert loss.item() == pytest.approx(0.04 * 2, abs=1e-3)


@pytest.mark.parametrize("n", [2, 5, 16])
def test_contrast__of_equal_vectors_is_chance(n):
    loss, parts = contrast(torch.ones(2 * n, 4), temperature=0.2)
    assert loss.item() == pytest.approx(math.log(n), abs=1e-5)
    assert parts["contrast_accuracy"].item() == pytest.approx(1 / n)


def test_contrast__of_unrelated_windows_is_no_better_than_chance():
    loss, parts = contrast(random(400, 64), temperature=1.0)
    assert loss.item() == pytest.approx(math.log(200), abs=0.05)
    assert parts["contrast_accuracy"].item() < 0.05


def test_contrast__finds_perfect_pairs():
    pairs = torch.eye(8).repeat_interleave(2, dim=0)
    loss, parts = contrast(pairs, temperature=0.05)
    assert loss.item() < 1e-6
    assert parts["contrast_accuracy"].item() == 1
    # the same vectors, paired with others
    loss, parts = contrast(pairs.roll(1, dims=0), temperature=0.05)
    assert loss.item() > 5
    assert parts["contrast_accuracy"].item() == 0


def test_contrast__has_finite_gradients_where_all_vectors_are_equal():
    pooled = torch.ones(8, 4, requires_grad=True)
    contrast(pooled, temperature=0.2)[0].backward()
    assert torch.isfinite(pooled.grad).all()


@pytest.mark.parametrize("targets", ["layer_norm", "position"])
@pytest.mark.parametrize("regularizer", ["none", "vicreg", "contrast"])
def test_gradients__reach_encoder_and_predictor_never_the_target_encoder(targets, regularizer):
    module = objective(targets=targets, regularizer=regularizer)
    loss, _ = module(*batch())
    loss.backward()
    jepa = module.jepa
    assert all(p.grad is None for p in jepa.target_encoder.parameters())
    for network in (jepa.encoder, jepa.predictor):
        assert [name for name, p in network.named_parameters() if p.requires_grad and p.grad is None] == []
        assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.requires_grad)
    assert jepa.encoder.patch_embed.proj.weight.grad.abs().max() > 0


def test_after_step__moves_the_target_encoder_by_the_momentum():
    module = objective()
    module(*batch())
    with torch.no_grad():
        for parameter in module.jepa.encoder.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter))
    before = {key: value.clone() for key, value in module.jepa.target_encoder.state_dict().items()}
    module.after_step(1, momentum=0.75)
    source = module.jepa.encoder.state_dict()
    for key, value in module.jepa.target_encoder.state_dict().items():
        torch.testing.assert_close(value, 0.75 * before[key] + 0.25 * source[key])


def test_explained_between__knows_positions_from_scans():
    torch.manual_seed(0)
    index = torch.arange(6).expand(8, -1)
    position, scans = torch.randn(1, 6, 4), torch.randn(8, 6, 4)
    targets = position + scans
    assert explained_between(targets, targets, index, 6).item() == pytest.approx(1)
    assert explained_between(position.expand(8, -1, -1), targets, index, 6).item() == pytest.approx(0, abs=1e-6)
    assert explained_between(position + scans / 2, targets, index, 6).item() == pytest.approx(0.75, abs=1e-5)
    # no two windows share a position
    assert explained_between(targets, targets, torch.arange(48).view(8, 6), 48).item() == 0

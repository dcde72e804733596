import pytest
import torch

from boldstream.encoders.brainjepa.config import BrainJEPAConfig
from boldstream.encoders.brainjepa.jepa import BrainJEPA
from boldstream.encoders.brainjepa.optim import (
    OptimSpec,
    build_optimizer,
    learning_rate,
    momentum,
    schedules,
    set_schedules,
    weight_decay,
)


def build(size, n_rois=6):
    config = BrainJEPAConfig.sized(size, n_rois)
    return BrainJEPA.build(config, torch.randn(n_rois, 30, generator=torch.Generator().manual_seed(0)))


@pytest.fixture(scope="module")
def jepa():
    return build("tiny")


def test_learning_rate__warms_up_and_falls():
    rates = [learning_rate(s, total=100, warmup=10, start=1e-5, peak=1e-3, final=1e-6) for s in range(1, 101)]
    assert rates[0] == pytest.approx(1e-5 + 0.1 * (1e-3 - 1e-5))
    assert rates[9] == max(rates) == pytest.approx(1e-3)
    assert rates[54] == pytest.approx((1e-3 + 1e-6) / 2)
    assert rates[-1] == pytest.approx(1e-6)


def test_weight_decay__rises():
    assert weight_decay(50, total=100, start=0.04, final=0.4) == pytest.approx(0.22)
    assert weight_decay(100, total=100, start=0.04, final=0.4) == pytest.approx(0.4)


def test_momentum__reaches_its_end_by_optimizer_steps():
    assert momentum(1, total=1000, start=0.996, final=1.0) == 0.996
    assert momentum(501, total=1000, start=0.996, final=1.0) == pytest.approx(0.998)
    assert momentum(1000, total=1000, start=0.996, final=1.0) > 0.99999


def test_momentum__of_the_reference_goes_an_eighth_of_the_way():
    moved = [momentum(s, total=5000, start=0.996, final=1.0, schedule="reference") for s in (1, 2501, 5000)]
    assert moved == pytest.approx([0.996, 0.99625, 0.9965], abs=1e-6)
    assert momentum(5000, total=5000, start=0.996, final=1.0) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("schedule", ["paper", "reference"])
def test_schedules__of_a_step_follow_the_specification(schedule):
    spec = OptimSpec(lr=0.1, start_lr=0.0, final_lr=0.01, warmup_steps=5, ema=0.5, final_ema=0.9, ema_schedule=schedule)
    first, peak, last = (schedules(step, spec, 40) for step in (1, 5, 40))
    assert first["lr"] == pytest.approx(0.02)
    assert peak["lr"] == pytest.approx(0.1)
    assert last["lr"] == pytest.approx(0.01)
    assert last["weight_decay"] == pytest.approx(spec.final_weight_decay)
    assert first["ema"] == 0.5
    assert last["ema"] == pytest.approx(0.5 + 0.4 * 39 / (40 if schedule == "paper" else 320))


def test_optimizer__has_the_references_four_groups(jepa):
    # a block has 4 matrices and 8 vectors (two norms, four biases); around them the encoder has the projections of
    # patches and of the gradient and a norm, the predictor those of tokens in and out, of the gradient, its mask token
    # and a norm
    groups = build_optimizer(jepa).param_groups
    assert [(len(group["params"]), group["decays"]) for group in groups] == [
        (4 * 4 + 2, True),
        (4 * 2 + 4, True),
        (8 * 4 + 4, False),
        (8 * 2 + 5, False),
    ]


def test_optimizer__of_the_papers_base_size():
    with torch.device("meta"):
        groups = build_optimizer(BrainJEPA.build(BrainJEPAConfig.sized("base", 450), torch.zeros(450, 30)))
    sizes = [len(group["params"]) for group in groups.param_groups]
    # 151 and 82 keys, of which one each is the frozen table of sines
    assert sizes == [50, 28, 100, 53]
    assert (sizes[0] + sizes[2], sizes[1] + sizes[3]) == (151 - 1, 82 - 1)


def test_optimizer__has_every_trained_parameter_once_and_no_other(jepa):
    found = [id(parameter) for group in build_optimizer(jepa).param_groups for parameter in group["params"]]
    trained = {id(p) for network in (jepa.encoder, jepa.predictor) for p in network.parameters() if p.requires_grad}
    assert len(found) == len(set(found))
    assert set(found) == trained


def test_optimizer__decays_matrices_and_the_mask_token(jepa):
    decayed = {id(p) for group in build_optimizer(jepa).param_groups if group["decays"] for p in group["params"]}
    for network in (jepa.encoder, jepa.predictor):
        for name, parameter in network.named_parameters():
            if parameter.requires_grad:
                is_matrix = name == "mask_token" or (name.endswith("weight") and "norm" not in name)
                assert (id(parameter) in decayed) == is_matrix


def test_set_schedules__leaves_no_decay_on_vectors(jepa):
    optimizer = build_optimizer(jepa)
    set_schedules(optimizer, {"lr": 0.25, "weight_decay": 0.3, "ema": 0.99})
    assert [group["lr"] for group in optimizer.param_groups] == [0.25] * 4
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.3, 0.3, 0.0, 0.0]

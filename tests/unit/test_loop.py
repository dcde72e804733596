import itertools
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from boldstream.encoders.brainjepa.folder import load_model
from boldstream.errors import CheckpointError, TrainingError
from boldstream.pretrain import loop
from boldstream.pretrain.loop import Clock, take_step
from boldstream.pretrain.state import Progress, keep_model_only, load_state, save_state
from small_training import LENGTH, N_ROIS, build_networks, training_task, window_batches

PLAIN = {"targets": "layer_norm"}


def train(task, networks=None, *, first=1, last=None, batches=None):
    """Do the steps of a task, the first to the last; return the networks and the numbers of every step."""
    networks = networks or build_networks(task)
    batches = batches or window_batches(task, first)
    clock = Clock()
    steps = range(first, (last or task.steps) + 1)
    return networks, [take_step(step, batches, networks, task, clock) for step in steps]


def weights(networks):
    return {key: value.clone() for key, value in networks.objective.state_dict().items()}


def assert_same(one, other, **tolerance):
    assert one.keys() == other.keys()
    for key, value in one.items():
        torch.testing.assert_close(value, other[key], **({"atol": 0, "rtol": 0} | tolerance), msg=key)


def gradients(networks):
    return {name: p.grad.clone() for name, p in networks.objective.named_parameters() if p.grad is not None}


def damaged(task, at, value=np.nan):
    """Yield a training's micro-batches, one of them with a value that is not finite."""
    for number, batch in enumerate(window_batches(task)):
        if number == at:
            batch.windows[-1, 3, 2] = value
        yield batch


def test_step__returns_its_numbers():
    _, numbers = train(training_task(optim={"batch_size": 4, "warmup_steps": 2, "micro_batch": 2}))
    assert list(numbers[0]) == [
        "loss",
        "prediction",
        "explained_between",
        "grad_norm",
        "lr",
        "weight_decay",
        "ema",
        "mask/cross_roi_share",
        "mask/cross_time_share",
        "mask/double_cross_share",
        "mask/context_tokens",
        "mask/target_tokens",
    ]
    assert all(np.isfinite(list(found.values())).all() for found in numbers)
    assert sum(numbers[0][f"mask/{kind}_share"] for kind in ("cross_roi", "cross_time", "double_cross")) == (
        pytest.approx(1)
    )
    assert numbers[1]["lr"] == pytest.approx(1e-3)


def test_training__is_the_same_every_time():
    one, other = (train(training_task()) for _ in range(2))
    assert one[1] == other[1]
    assert_same(weights(one[0]), weights(other[0]))
    fresh = weights(build_networks(training_task()))
    assert not torch.equal(fresh["jepa.encoder.norm.weight"], weights(one[0])["jepa.encoder.norm.weight"])


def test_training__with_the_references_masks_is_another():
    (one, _), (other, _) = (train(training_task(mask={"policy": policy})) for policy in ("paper", "reference"))
    assert not torch.equal(weights(one)["jepa.encoder.norm.weight"], weights(other)["jepa.encoder.norm.weight"])


@pytest.mark.parametrize("micro_batch", [1, 2])
@pytest.mark.parametrize("targets", ["layer_norm", "position"])
def test_accumulation__gives_the_gradients_of_the_whole_batch(micro_batch, targets):
    """Masks follow the windows' keys, so they are the same however windows are cut."""
    found = {}
    for size in (4, micro_batch):
        task = training_task(optim={"batch_size": 4, "micro_batch": size}, objective={"targets": targets})
        networks, numbers = train(task, last=1)
        found[size] = gradients(networks), numbers[0], weights(networks)
    (grads, numbers, after), (cut_grads, cut_numbers, cut_after) = found[4], found[micro_batch]
    assert_same(cut_grads, grads, atol=1e-6, rtol=0)
    for found_numbers in (cut_numbers, numbers):
        del found_numbers["explained_between"]  # compares the windows of one micro-batch
    assert cut_numbers == pytest.approx(numbers, abs=1e-6)
    for key in ("target_mean", "target_variance") if targets == "position" else ():
        torch.testing.assert_close(cut_after[key], after[key], atol=1e-6, rtol=0)
    # Adam divides by a gradient's size, and keys' biases have none but rounding: no use in comparing those
    for key, grad in grads.items():
        large = grad.abs() > 1e-4
        torch.testing.assert_close(cut_after[key][large], after[key][large], atol=1e-6, rtol=0, msg=key)


@pytest.mark.parametrize("regularizer", ["none", "contrast"])
def test_recompute__gives_the_same_weights(regularizer):
    objective = {"regularizer": regularizer}
    kept, again = (
        train(training_task(objective=objective, compute={"recompute": recompute})) for recompute in (False, True)
    )
    assert again[0].objective.jepa.encoder.recompute
    assert kept[1] == again[1]
    assert_same(weights(kept[0]), weights(again[0]))


def test_bfloat16__trains_in_float32_weights():
    networks, numbers = train(training_task(compute={"precision": "bfloat16"}))
    _, exact = train(training_task(compute={"precision": "float32"}))
    assert numbers[0]["loss"] == pytest.approx(exact[0]["loss"], rel=0.02)
    assert numbers[0]["loss"] != exact[0]["loss"]
    assert all(np.isfinite(found["loss"]) for found in numbers)
    assert {value.dtype for value in weights(networks).values()} == {torch.float32}


def test_target_encoder__follows_by_the_schedule():
    task = training_task(optim={"batch_size": 4, "ema": 0.5, "final_ema": 0.5})
    networks = build_networks(task)
    before = networks.target_encoder.norm.weight.detach().clone()
    train(task, networks, last=1)
    encoder = networks.objective.jepa.encoder.norm.weight.detach()
    assert not torch.equal(encoder, before)
    torch.testing.assert_close(networks.target_encoder.norm.weight, (before + encoder) / 2)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_window__that_is_not_finite_ends_the_training_and_is_named(value):
    task = training_task(optim={"batch_size": 4, "micro_batch": 1})
    networks, _ = train(task, last=1)
    before = weights(networks)
    # of the four windows of step 2, the second
    (key,) = task.plan.scans_at([5])
    assert set(task.plan.scans_at([6, 7])) != {key}
    batches = itertools.islice(damaged(task, 5, value), 4, None)
    with pytest.raises(TrainingError, match=rf"loss is nan at step 2 of 4, in the micro-batch of scans {key}; look"):
        train(task, networks, first=2, batches=batches)
    assert_same(weights(networks), before)


def test_window__that_is_not_finite_is_named_with_its_micro_batch():
    task = training_task(optim={"batch_size": 4, "micro_batch": 2})
    keys = sorted(set(task.plan.scans_at([2, 3])))
    message = f"loss is nan at step 1 of 4, in the micro-batch of scans {', '.join(keys)}; look at these scans, or "
    with pytest.raises(TrainingError, match=message + r"lower optim.lr \(now 0.0"):
        train(task, batches=damaged(task, 1))


def test_message__names_some_scans_only(monkeypatch):
    monkeypatch.setattr(loop, "SHOWN", 3)
    task = training_task(optim={"batch_size": 16}, steps=2)
    with pytest.raises(TrainingError, match="scans sub-00, sub-01, sub-02 and 5 more; look"):
        train(task, batches=damaged(task, 0))


def test_gradients__that_are_not_finite_end_the_training():
    task = training_task(objective=PLAIN)
    networks = build_networks(task)
    networks.objective.jepa.encoder.norm.weight.register_hook(lambda grad: grad * torch.inf)
    before = weights(networks)
    with pytest.raises(TrainingError, match=r"gradients' norm is (nan|inf) at step 1 of 4; lower optim.lr \(now 0.00"):
        train(task, networks, last=1)
    assert_same(weights(networks), before)


def test_clock__gives_speeds_of_all_workers_and_starts_again():
    task, clock = training_task(), Clock()
    take_step(1, window_batches(task), build_networks(task), task, clock)
    assert clock.windows == 4
    assert clock.tokens > 0
    assert clock.waited > 0
    speeds = clock.speeds(n_workers=2)
    assert speeds["windows_per_s"] > 0
    assert speeds["tokens_per_s"] > speeds["windows_per_s"]
    assert 0 < speeds["data_wait_share"] < 1
    assert (clock.windows, clock.tokens, clock.waited) == (0, 0, 0.0)


@pytest.fixture(params=["position", "layer_norm"])
def interrupted(request, tmp_path):
    """Return a task, its checkpoint after two steps of four, and the networks that went on to the end."""
    task = training_task(objective={"targets": request.param})
    networks, _ = train(task, last=2)
    progress = Progress(2, [{"step": 0, "collapse/rankme": 3.0}], ["step 0: an alarm"], {"windows": np.eye(N_ROIS)})
    save_state(tmp_path, task, networks, progress, 0)
    networks, numbers = train(task, networks, first=3)
    return task, tmp_path, networks, numbers


def test_checkpoint__goes_on_bit_for_bit(interrupted):
    task, folder, networks, numbers = interrupted
    torch.manual_seed(99)
    restored = build_networks(task)
    progress = load_state(folder, task, restored, 0)
    assert progress.step == 2
    assert progress.measurements == [{"step": 0, "collapse/rankme": 3.0}]
    assert progress.alarms == ["step 0: an alarm"]
    np.testing.assert_array_equal(progress.connectivity["windows"], np.eye(N_ROIS))
    _, again = train(task, restored, first=3)
    assert again == numbers
    assert_same(weights(restored), weights(networks))


def test_checkpoint__restores_random_states(tmp_path):
    task = training_task()
    networks = build_networks(task)
    torch.manual_seed(5)
    save_state(tmp_path, task, networks, Progress(), 0)
    drawn = torch.rand(3)
    load_state(tmp_path, task, networks, 0)
    assert torch.equal(torch.rand(3), drawn)


def test_checkpoint__says_where_it_stands(interrupted):
    task, folder, _, _ = interrupted
    state = json.loads((folder / "state.json").read_text())
    assert (state["step"], state["n_workers"]) == (2, 1)
    assert state["config"] == task.config.identity()


def test_checkpoint__of_another_worker_holds_its_random_states_only(tmp_path):
    task = training_task()
    save_state(tmp_path, task, build_networks(task), Progress(), 1)
    assert [path.name for path in tmp_path.iterdir()] == ["rank-1.pt"]


@pytest.mark.parametrize("network", ["encoder", "predictor", "target_encoder"])
def test_checkpoint__without_a_weight_is_refused(interrupted, network):
    task, folder, _, _ = interrupted
    state = load_file(folder / "weights.safetensors")
    key = next(key for key in state if key.startswith(f"{network}."))
    del state[key]
    save_file(state, folder / "weights.safetensors")
    with pytest.raises(CheckpointError, match=rf"weights do not fit the configuration; missing: jepa\.{key}"):
        load_state(folder, task, build_networks(task), 0)


def test_checkpoint__of_another_objective_is_refused(interrupted):
    task, folder, _, _ = interrupted
    other = {"position": "layer_norm", "layer_norm": "position"}[task.config.objective.targets]
    task = training_task(objective={"targets": other})
    with pytest.raises(CheckpointError, match=r"weights do not fit the configuration; (missing|extra): .*target_mean"):
        load_state(folder, task, build_networks(task), 0)


@pytest.mark.parametrize("name", ["state.json", "training.pt", "weights.safetensors", "rank-0.pt", "connectivity.npz"])
def test_checkpoint__without_a_file_is_refused(interrupted, name):
    task, folder, _, _ = interrupted
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        load_state(folder, task, build_networks(task), 0)


def test_keep_model_only__leaves_a_model(interrupted):
    task, folder, _, _ = interrupted
    expected = load_file(folder / "weights.safetensors")
    keep_model_only(folder)
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "connectivity.npz",
        "preprocessing.safetensors",
        "weights.safetensors",
    ]
    encoder = load_model(folder)
    assert (encoder.roi_names, encoder.provenance["step"]) == (task.roi_names, 2)
    for key, value in encoder.model.state_dict().items():
        assert torch.equal(value, expected[f"target_encoder.{key}"])
    values = np.random.default_rng(0).normal(size=(2, LENGTH, N_ROIS)).astype(np.float32)
    assert encoder.encode(values).shape == (2, N_ROIS, 4, 8)

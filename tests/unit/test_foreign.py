import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from boldstream.encoders.brainjepa.config import BrainJEPAConfig
from boldstream.encoders.brainjepa.foreign import (
    ForeignWeights,
    build_networks,
    epoch_remark,
    infer_sizes,
    read_foreign,
    read_statistics,
)
from boldstream.encoders.brainjepa.jepa import BrainJEPA
from boldstream.errors import CheckpointError, GradientError, ModelError
from released import checkpoint, flat, random_model, states

STATE_DICT = Path(__file__).parents[3] / "shared/science/brainjepa_state_dict.txt"
CONFIG = BrainJEPAConfig.sized("tiny", 6, n_timepoints=32, patch_size=8, gradient_dims=4, predictor_depth=3)
GRADIENT = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def jepa():
    return random_model(CONFIG, GRADIENT)


@pytest.fixture
def weights(jepa):
    return ForeignWeights(Path("w.pth.tar"), states(jepa), 299)


def block(prefix, width, hidden):
    yield from ((f"{prefix}.norm{n}.{part}", (width,)) for n in (1, 2) for part in ("weight", "bias"))
    linear = {"attn.qkv": (3 * width, width), "attn.proj": (width, width)}
    linear |= {"mlp.fc1": (hidden, width), "mlp.fc2": (width, hidden)}
    for name, shape in linear.items():
        yield f"{prefix}.{name}.weight", shape
        yield f"{prefix}.{name}.bias", shape[:1]


def position(prefix, width):
    half = width // 2
    yield f"{prefix}.emb_h", (4500, half)
    yield f"{prefix}.predictor_pos_embed_proj.weight", (half, 30)
    yield f"{prefix}.predictor_pos_embed_proj.bias", (half,)


def released_encoder():
    """Keys and shapes of the released ViT-B encoder."""
    yield from (("patch_embed.proj.weight", (768, 1, 1, 16)), ("patch_embed.proj.bias", (768,)))
    yield from position("pos_embed_proj", 768)
    for i in range(12):
        yield from block(f"blocks.{i}", 768, 3072)
    yield from (("norm.weight", (768,)), ("norm.bias", (768,)))


def released_predictor():
    """Keys and shapes of its predictor."""
    yield from (("mask_token", (1, 1, 384)), ("predictor_embed.weight", (384, 768)), ("predictor_embed.bias", (384,)))
    yield from position("predictor_2dpe_proj", 384)
    for i in range(6):
        yield from block(f"predictor_blocks.{i}", 384, 1536)
    yield from (("predictor_norm.weight", (384,)), ("predictor_norm.bias", (384,)))
    yield from (("predictor_proj.weight", (768, 384)), ("predictor_proj.bias", (768,)))


def test_base__has_the_keys_and_shapes_of_the_released_weights():
    config = BrainJEPAConfig.sized("base", 450)
    with torch.device("meta"):
        model = BrainJEPA.build(config, torch.zeros(450, 30))
    for name, released in (("encoder", released_encoder), ("predictor", released_predictor)):
        own = {key: tuple(value.shape) for key, value in getattr(model, name).state_dict().items()}
        assert own == dict(released())
    assert [len(dict(f())) for f in (released_encoder, released_predictor)] == [151, 82]


def test_base__has_the_keys_that_were_read_off_the_reference():
    if not STATE_DICT.is_file():
        pytest.skip(f"{STATE_DICT} is not there")
    sections = re.split(r"^# (?=encoder|predictor)", STATE_DICT.read_text(), flags=re.MULTILINE)[1:]
    for section, released in zip(sections, (released_encoder, released_predictor), strict=True):
        lines = [line.split("\t") for line in section.splitlines()[1:] if "\t" in line]
        found = {key: tuple(int(n) for n in re.findall(r"\d+", shape)) for key, shape, *_ in lines}
        assert found == dict(released())


@pytest.mark.parametrize("name", ["jepa-ep300.pth.tar", "brainjepa.safetensors"])
def test_read_foreign__takes_the_checkpoint_and_its_conversion(jepa, tmp_path, name):
    if name.endswith("tar"):
        torch.save(checkpoint(jepa), tmp_path / name)
    else:
        save_file(flat(jepa), tmp_path / name)
    found = read_foreign(tmp_path / name)
    assert found.epoch == (299 if name.endswith("tar") else None)
    assert found.n_tensors == len(flat(jepa))
    for network, state in states(jepa).items():
        assert found.networks[network].keys() == state.keys()
        assert all(torch.equal(found.networks[network][key], value) for key, value in state.items())


def test_read_foreign__refuses_a_file_without_all_networks(jepa, tmp_path):
    raw = checkpoint(jepa)
    del raw["predictor"], raw["encoder"]
    torch.save(raw, tmp_path / "w.pth")
    with pytest.raises(
        CheckpointError, match=r"w.pth: holds no encoder, no predictor, only target_encoder; import the"
    ):
        read_foreign(tmp_path / "w.pth")


def test_infer_sizes__finds_what_the_weights_were_built_with(weights):
    assert infer_sizes(weights, 6) == CONFIG
    assert infer_sizes(weights, 6, num_heads=2).num_heads == 2


@pytest.mark.parametrize("size", ["small", "base", "large"])
def test_infer_sizes__knows_the_published_sizes(size):
    config = BrainJEPAConfig.sized(size, 450)
    with torch.device("meta"):
        model = BrainJEPA.build(config, torch.zeros(450, 30))
    networks = {name: getattr(model, name).state_dict() for name in ("encoder", "predictor", "target_encoder")}
    assert infer_sizes(ForeignWeights(Path("w"), networks, None), 450) == config


@pytest.mark.parametrize(
    ("network", "key", "value", "message"),
    [
        ("target_encoder", "pos_embed_proj.emb_h", None, r"target_encoder: has no pos_embed_proj.emb_h, so these are"),
        ("predictor", "predictor_embed.weight", None, r"w.pth.tar: predictor: has no predictor_embed.weight"),
        ("target_encoder", "patch_embed.proj.weight", (64, 8), r"proj.weight has shape \(64, 8\), not 4 axes of one"),
        ("target_encoder", "patch_embed.proj.weight", (64, 1, 1, 0), r"\(64, 1, 1, 0\), not 4 axes of one or more"),
        ("target_encoder", "pos_embed_proj.emb_h", (25, 32), r"for 25 tokens, which is no multiple of 6 regions; grad"),
        ("target_encoder", "patch_embed.proj.weight", (48, 1, 1, 8), r"width 48 is of no named size, .*set num_heads"),
        ("predictor", "predictor_embed.weight", (30, 64), r"shapes fit no model: predictor_embed_dim 30 is not a mult"),
    ],
)
def test_infer_sizes__refuses_shapes_that_are_no_model(weights, network, key, value, message):
    del weights.networks[network][key]
    if value:
        weights.networks[network][key] = torch.zeros(value)
    with pytest.raises(CheckpointError, match=message) as caught:
        infer_sizes(weights, 6)
    assert "\n" not in str(caught.value)


def test_infer_sizes__counts_blocks_so_that_a_gap_is_named(weights):
    for key in [key for key in weights.networks["predictor"] if key.startswith("predictor_blocks.1.")]:
        del weights.networks["predictor"][key]
    sizes = infer_sizes(weights, 6)
    assert sizes.predictor_depth == 2
    with pytest.raises(CheckpointError, match=r"predictor: .*missing: predictor_blocks.1.* extra: predictor_blocks.2"):
        build_networks(weights, sizes, GRADIENT)


def test_build_networks__loads_all_three_and_measures_rounding(weights):
    weights.networks["target_encoder"]["pos_embed_proj.emb_h"] += 5e-4
    networks, drift = build_networks(weights, CONFIG, GRADIENT)
    assert drift == pytest.approx(5e-4, rel=1e-3)
    for name, state in weights.networks.items():
        for key, value in networks[name].state_dict().items():
            assert torch.equal(value, state[key])


def test_build_networks__refuses_other_time_positions(weights):
    weights.networks["predictor"]["predictor_2dpe_proj.emb_h"] += 2e-3
    with pytest.raises(
        CheckpointError,
        match=r"predictor: time positions \(emb_h\) are not those of the model: they deviate by up to 0",
    ):
        build_networks(weights, CONFIG, GRADIENT)


def test_build_networks__refuses_another_number_of_regions(weights):
    sizes = infer_sizes(weights, 8)
    with pytest.raises(CheckpointError, match=r"patches in each of 8 regions .*are of another number of regions"):
        build_networks(weights, sizes, torch.randn(8, 4))


def test_build_networks__refuses_another_gradient(weights):
    with pytest.raises(GradientError, match=r"gradient has shape \(6, 3\), the model takes \(6, 4\)"):
        build_networks(weights, CONFIG, GRADIENT[:, :3])


@pytest.mark.parametrize(
    ("name", "epoch", "message"),
    [
        ("jepa-ep300.pth.tar", 299, r"named after epoch 300 and stores epoch 299: the reference counts one too many"),
        ("jepa-ep300.pth.tar", 120, "named after epoch 300 and stores epoch 120: which of them is right cannot be"),
        ("jepa-ep300.pth.tar", 300, None),
        ("jepa-latest.pth.tar", 300, None),
        ("jepa-ep300.safetensors", None, None),
    ],
)
def test_epoch_remark__compares_name_and_content(name, epoch, message):
    found = epoch_remark(ForeignWeights(Path("x") / name, {}, epoch))
    assert (found is None) == (message is None)
    assert message is None or re.search(message, found)


def test_read_statistics__takes_the_references_arrays(tmp_path):
    np.savez(tmp_path / "s.npz", medians=np.arange(6.0), iqrs=np.ones(6))
    scaler = read_statistics(tmp_path / "s.npz", 6)
    assert scaler.transform(np.ones((2, 6)))[0].tolist() == [1, 0, -1, -2, -3, -4]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (None, r"s.npz: the scaling's statistics cannot be read as .npz \(.*No such file"),
        (b"", r"cannot be read as .npz"),
        (b"PK\x03\x04 cut off", r"cannot be read as .npz"),
        (b"text", r"cannot be read as .npz"),
        ({"medians": np.zeros(6)}, r"statistics lack iqrs \(arrays there: medians\)"),
        ({"a": np.zeros(6)}, r"statistics lack iqrs, medians \(arrays there: a\)"),
        ({"medians": np.zeros(6), "iqrs": np.zeros(6)}, "cannot be used: .* iqr positive"),
        ({"medians": np.zeros(6), "iqrs": np.ones(5)}, r"cannot be used: median and iqr are \(n_rois,\)"),
        ({"medians": np.zeros(5), "iqrs": np.ones(5)}, "have 5 regions, the atlas 6"),
        ({"medians": np.array([{}]), "iqrs": np.ones(6)}, r"cannot be read as .npz \(Object arrays"),
    ],
)
def test_read_statistics__refuses_what_cannot_scale(tmp_path, arrays, message):
    path = tmp_path / "s.npz"
    if isinstance(arrays, dict):
        np.savez(path, **arrays)
    elif arrays is not None:
        path.write_bytes(arrays)
    with pytest.raises(ModelError, match=message) as caught:
        read_statistics(path, 6)
    assert "\n" not in str(caught.value)


def test_read_statistics__refuses_a_single_array(tmp_path):
    np.save(tmp_path / "s.npy", np.ones(6))
    with pytest.raises(ModelError, match=r"cannot be read as .npz \(File is not a zip file\)"):
        read_statistics(tmp_path / "s.npy", 6)

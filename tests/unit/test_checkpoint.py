import json
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from boldstream.encoders.brainjepa.checkpoint import load_strict, read_state, split_networks
from boldstream.encoders.brainjepa.config import BrainJEPAConfig
from boldstream.encoders.brainjepa.folder import load_model, save_model
from boldstream.encoders.brainjepa.jepa import BrainJEPA
from boldstream.encoders.brainjepa.scaling import RoiRobustScaler, WindowZscore
from boldstream.encoders.interface import load_encoder
from boldstream.errors import CheckpointError, GradientError, ModelError

CONFIG = BrainJEPAConfig.sized("tiny", 6, n_timepoints=32, patch_size=8, gradient_dims=4)
NAMES = [f"roi-{i}" for i in range(6)]
GRADIENT = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def jepa():
    torch.manual_seed(0)
    return BrainJEPA.build(CONFIG, GRADIENT)


def networks_of(jepa):
    return {name: getattr(jepa, name).state_dict() for name in ("encoder", "predictor", "target_encoder")}


def prefixed(prefix, state):
    return {prefix + key: value for key, value in state.items()}


def flat(jepa, before="", between=""):
    return {
        f"{before}{name}.{between}{key}": value
        for name, state in networks_of(jepa).items()
        for key, value in state.items()
    }


@pytest.fixture
def folder(jepa, tmp_path):
    save(tmp_path / "model", jepa)
    return tmp_path / "model"


def save(path, jepa, **values):
    values = {
        "config": CONFIG,
        "atlas": "six",
        "roi_names": NAMES,
        "gradient": GRADIENT,
        "scaler": WindowZscore(),
        "networks": {name: getattr(jepa, name) for name in ("encoder", "predictor", "target_encoder")},
        "provenance": {"cohort": "demo@1"},
    } | values
    save_model(path, **values)


def windows(n=8, seed=0):
    return np.random.default_rng(seed).normal(50, 3, size=(n, 32, 6)).astype(np.float32)


@pytest.mark.parametrize(
    "spell",
    [
        flat,
        lambda j: flat(j, before="module."),
        lambda j: flat(j, between="module."),
        lambda j: flat(j, before="module.", between="_orig_mod."),
        networks_of,
        lambda j: {name: prefixed("module.", state) for name, state in networks_of(j).items()},
        lambda j: {"model": flat(j, before="module."), "optimizer": {}, "epoch": 3},
        lambda j: networks_of(j) | {"opt": {"state": {}}, "scaler": None, "epoch": 299, "loss": 0.1, "lr": 1e-6},
    ],
)
def test_split_networks__takes_every_spelling(jepa, spell):
    networks = split_networks(spell(jepa), "file")
    for name, state in networks_of(jepa).items():
        assert networks[name].keys() == state.keys()
        load_strict(getattr(jepa, name), networks[name], name)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"encoder.a": torch.ones(1), "head.weight": torch.ones(1)}, "file: head.weight belong.* to none of"),
        ({"patch_embed.proj.bias": torch.ones(1)}, "patch_embed.proj.bias belong"),
        ({"epoch": 3}, "holds none of the networks encoder, predictor, target_encoder"),
        ({"encoder.a": torch.ones(1), "module.encoder.a": torch.ones(1)}, "'a' stands twice"),
        ({"encoder": {"a": 3}}, "encoder: 'a' is int, not a tensor"),
    ],
)
def test_split_networks__refuses_what_it_cannot_place(raw, message):
    with pytest.raises(CheckpointError, match=message):
        split_networks(raw, "file")


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth", "w.pt", "w.pth.tar"])
def test_read_state__gives_back_what_was_saved(jepa, tmp_path, name):
    if name == "w.safetensors":
        save_file({k: v.clone() for k, v in flat(jepa).items()}, tmp_path / name)
    else:
        torch.save(networks_of(jepa) | {"epoch": 299, "scaler": None}, tmp_path / name)
    networks = split_networks(read_state(tmp_path / name), name)
    for network, state in networks_of(jepa).items():
        for key, value in state.items():
            assert torch.equal(networks[network][key], value)


class Malicious:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code was run')",))


def test_read_state__runs_no_code(tmp_path):
    path = tmp_path / "evil.pth"
    torch.save({"encoder": Malicious()}, path)
    with pytest.raises(CheckpointError, match=r"evil.pth: refused, it holds more than tensors .* convert it"):
        read_state(path)
    path.write_bytes(pickle.dumps({"encoder": Malicious()}, protocol=2))
    with pytest.raises(CheckpointError, match=r"evil.pth: "):
        read_state(path)


@pytest.mark.parametrize("content", [b"", b"not weights", b"PK\x03\x04 cut off"])
@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_read_state__refuses_damaged_files(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{name}: (not a whole|refused)") as caught:
        read_state(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_read_state__refuses_other_files(tmp_path):
    with pytest.raises(CheckpointError, match="no such weights file"):
        read_state(tmp_path / "w.pth")
    (tmp_path / "w.bin").touch()
    with pytest.raises(CheckpointError, match=r"unknown kind of weights file '\.bin'; known: \.safetensors"):
        read_state(tmp_path / "w.bin")
    torch.save([torch.ones(1)], tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="holds list, not weights by name"):
        read_state(tmp_path / "w.pt")


def test_load_strict__names_every_key_that_does_not_fit(jepa):
    state = jepa.encoder.state_dict()
    del state["norm.bias"]
    state["head.weight"] = torch.ones(1)
    state["norm.weight"] = torch.ones(63)
    state["patch_embed.proj.bias"] = torch.full((64,), torch.nan)
    with pytest.raises(CheckpointError) as caught:
        load_strict(jepa.encoder, state, "w.pth: encoder")
    assert str(caught.value) == (
        "w.pth: encoder: weights do not fit the configuration; missing: norm.bias; extra: head.weight; "
        "wrong shape: norm.weight (63,) instead of (64,); not finite numbers: patch_embed.proj.bias"
    )


def test_load_strict__shortens_long_lists(jepa):
    with pytest.raises(CheckpointError, match=r"missing: .* and 50 more \(55 in all\)$"):
        load_strict(jepa.encoder, {}, "w.pth: encoder")


def test_load_strict__leaves_the_module_alone_when_it_refuses(jepa):
    before = jepa.encoder.norm.weight.clone()
    with pytest.raises(CheckpointError):
        load_strict(jepa.encoder, {"norm.weight": torch.full((64,), 7.0)}, "w")
    assert torch.equal(jepa.encoder.norm.weight, before)


def test_load_strict__casts_to_the_modules_precision(jepa):
    state = {k: v.to(torch.bfloat16) for k, v in jepa.encoder.state_dict().items()}
    load_strict(jepa.encoder, state, "w")
    assert jepa.encoder.norm.weight.dtype is torch.float32


def test_model_folder__gives_the_target_encoders_tokens(jepa, folder):
    with torch.no_grad():
        for parameter in jepa.encoder.parameters():
            parameter.add_(1.0)
    encoder = load_encoder(folder)
    assert (encoder.roi_names, encoder.atlas) == (tuple(NAMES), "six")
    assert (encoder.n_timepoints, encoder.n_patches, encoder.embed_dim) == (32, 4, 64)
    assert load_model(folder).provenance == {"cohort": "demo@1"}
    values = windows()
    scaled = torch.from_numpy(WindowZscore().transform(values)).transpose(1, 2).unsqueeze(1)
    with torch.no_grad():
        wanted = jepa.eval().target_encoder(scaled).view(8, 6, 4, 64)
    tokens = encoder.encode(values)
    assert tokens.dtype is torch.float32
    torch.testing.assert_close(tokens, wanted, atol=1e-6, rtol=0)


def test_model_folder__keeps_the_robust_scaling(jepa, tmp_path):
    scaler = RoiRobustScaler.from_statistics(np.full(6, 50.0), np.linspace(1, 3, 6))
    save(tmp_path / "m", jepa, scaler=scaler)
    loaded = load_model(tmp_path / "m")
    np.testing.assert_array_equal(loaded.scaler.transform(windows()), scaler.transform(windows()))


def test_encode__does_not_depend_on_the_batch(folder):
    encoder = load_encoder(folder)
    values = windows(8)
    together = encoder.encode(values)
    alone = torch.cat([encoder.encode(values[i : i + 1]) for i in range(8)])
    torch.testing.assert_close(together, alone, atol=2e-6, rtol=0)


def test_encode__in_bfloat16_is_near_and_float32(folder):
    exact, rough = (load_encoder(folder, precision=p).encode(windows()) for p in ("float32", "bfloat16"))
    assert rough.dtype is torch.float32
    assert 0 < (exact - rough).abs().max() < 0.05
    assert torch.nn.functional.cosine_similarity(exact.mean((1, 2)), rough.mean((1, 2))).min() > 0.999


def test_encode__refuses_another_shape(folder):
    with pytest.raises(ValueError, match=r"windows have shape \(2, 6, 32\), the encoder takes \(W, 32, 6\)"):
        load_encoder(folder).encode(np.zeros((2, 6, 32), np.float32))


def test_save_model__refuses_what_does_not_fit(jepa, folder, tmp_path):
    with pytest.raises(ModelError, match="holds a model already"):
        save(folder, jepa)
    with pytest.raises(ModelError, match="target_encoder at least; got encoder"):
        save(tmp_path / "a", jepa, networks={"encoder": jepa.encoder})
    with pytest.raises(ModelError, match="5 roi_names for a model of 6 regions"):
        save(tmp_path / "a", jepa, roi_names=NAMES[:5])
    with pytest.raises(ModelError, match="each once"):
        save(tmp_path / "a", jepa, roi_names=[*NAMES[:5], NAMES[0]])
    with pytest.raises(GradientError, match="gradient has shape"):
        save(tmp_path / "a", jepa, gradient=GRADIENT[:5])
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("name", ["config.json", "weights.safetensors", "preprocessing.safetensors"])
def test_load_model__refuses_a_missing_file(folder, name):
    (folder / name).unlink()
    with pytest.raises(ModelError, match=name):
        load_encoder(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"family": "brainlm2"},
            "unknown encoder family 'brainlm2'; this version of boldstream knows brainjepa",
        ),
        ({"family": 3}, "names no encoder family"),
        ({"format_version": 9}, "format_version is 9, this boldstream reads 1"),
        ({"roi_names": NAMES[:4]}, "4 roi_names for a model of 6 regions"),
        ({"roi_names": "abcdef"}, "roi_names is str, not list"),
        ({"scaling": "robust"}, "holds gradient; scaling: robust takes gradient, iqr, median"),
        ({"scaling": "minmax"}, "scaling is 'minmax'"),
        ({"surplus": 1}, "extra keys: surplus"),
        (
            {"sizes": CONFIG.model_dump() | {"depth": 5}},
            "target_encoder: weights do not fit .* missing: blocks.4",
        ),
        ({"sizes": CONFIG.model_dump() | {"dept": 5}}, r"unknown key 'dept' \(did you mean 'depth'\?\)"),
        ({"sizes": CONFIG.model_dump() | {"gradient_dims": 5}}, r"shape \(6, 4\), the model takes \(6, 5\)"),
    ],
)
def test_load_model__refuses_a_configuration_that_does_not_fit(folder, change, message):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ModelError, match=message) as caught:
        load_encoder(folder)
    assert "\n" not in str(caught.value)


def test_load_model__refuses_bad_json(folder):
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config.json: not valid JSON"):
        load_encoder(folder)


def test_load_model__refuses_weights_without_target_encoder(jepa, folder):
    save_file({k: v for k, v in flat(jepa).items() if k.startswith("encoder")}, folder / "weights.safetensors")
    with pytest.raises(ModelError, match="holds no target_encoder, only encoder"):
        load_encoder(folder)


@pytest.mark.parametrize(
    ("statistics", "message"),
    [
        ({"median": torch.zeros(6), "iqr": torch.zeros(6)}, "iqr positive"),
        ({"median": torch.zeros(5), "iqr": torch.ones(5)}, "median has 5 regions, the model 6"),
    ],
)
def test_load_model__refuses_bad_statistics(jepa, tmp_path, statistics, message):
    save(tmp_path / "m", jepa, scaler=RoiRobustScaler.from_statistics(np.zeros(6), np.ones(6)))
    path = tmp_path / "m" / "preprocessing.safetensors"
    save_file({"gradient": load_file(path)["gradient"].clone()} | statistics, path)
    with pytest.raises(ModelError, match=message):
        load_encoder(tmp_path / "m")

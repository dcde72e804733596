"""The released layout through the door: read, checked, registered, loaded again; on weights the tests make."""

import json
import logging
import shutil
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from boldstream.encoders.brainjepa.config import BrainJEPAConfig
from boldstream.encoders.interface import load_encoder
from boldstream.errors import AtlasError, CheckpointError, GradientError
from boldstream.import_weights import ImportWeightsConfig, import_weights
from boldstream.registry import download_model, resolve_model
from released import checkpoint, flat, gradient, random_model, roi_names, write_gradient

pytestmark = pytest.mark.usefixtures("tracking")

# as deep as the released model, but narrow, and of no named size
NARROW = BrainJEPAConfig(
    n_rois=450, embed_dim=16, depth=12, num_heads=2, predictor_embed_dim=8, predictor_depth=6, mlp_ratio=2
)


@pytest.fixture(scope="module")
def narrow():
    return random_model(NARROW, gradient())


@pytest.fixture
def files(tmp_path, narrow):
    """Write the narrow model's files; return the settings that import them."""
    torch.save(checkpoint(narrow), tmp_path / "jepa-ep300.pth.tar")
    write_gradient(tmp_path / "g.csv", gradient())
    (tmp_path / "rois.txt").write_text("\n".join(roi_names()))
    return {
        "weights": str(tmp_path / "jepa-ep300.pth.tar"),
        "gradient": str(tmp_path / "g.csv"),
        "atlas": "tian_schaefer",
        "atlas_labels": str(tmp_path / "rois.txt"),
        "licence": "CC-BY-4.0",
        "scaling": "zscore",
        "num_heads": 2,
    }


def config(files, output, **values):
    return ImportWeightsConfig.model_validate(files | {"output": output} | values)


def windows(n=1):
    return np.random.default_rng(0).normal(50, 3, size=(n, 160, 450)).astype(np.float32)


def tags_of(ref):
    return mlflow.MlflowClient().get_model_version(ref.uri.removeprefix("models:/"), ref.version).tags


def stored_files(ref):
    version = mlflow.MlflowClient().get_model_version(ref.uri.removeprefix("models:/"), ref.version)
    logged = mlflow.get_logged_model(version.source.removeprefix("models:/"))
    return Path(logged.artifact_location.removeprefix("file://"))


def test_import__of_a_released_size_checkpoint_keeps_every_weight(files, tmp_path, caplog):
    jepa = random_model(BrainJEPAConfig.sized("base", 450), gradient())
    torch.save(checkpoint(jepa), files["weights"])
    wanted = flat(jepa)
    counts = [sum(key.startswith(f"{name}.") for key in wanted) for name in ("encoder", "predictor", "target_encoder")]
    assert counts == [151, 82, 151]
    with caplog.at_level(logging.INFO, "boldstream"):
        ref = import_weights(config(files, "base", num_heads=None, licence="Unknown"))
    assert "384 tensors, all in place: 450 regions, 10 patches of 16 timepoints, width 768, depth 12 + 6" in caplog.text
    folder = download_model(resolve_model("models:/base@champion"), tmp_path / "model")
    found = load_file(folder / "weights.safetensors")
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[key], value) for key, value in wanted.items())
    encoder = load_encoder(folder)
    assert all(torch.equal(value, wanted[f"target_encoder.{key}"]) for key, value in encoder.model.state_dict().items())
    description = json.loads((folder / "config.json").read_text())
    assert description["sizes"] == BrainJEPAConfig.sized("base", 450).model_dump()
    assert description["provenance"]["tensors"] == 384
    # 0.7 GB each
    shutil.rmtree(stored_files(ref))
    shutil.rmtree(folder)
    Path(files["weights"]).unlink()


@pytest.mark.parametrize("kind", ["pth", "safetensors"])
def test_import__gives_the_target_encoders_tokens(files, narrow, tmp_path, kind):
    values = {}
    if kind == "safetensors":
        values["weights"] = str(tmp_path / "brainjepa.safetensors")
        assert len(flat(narrow)) == 384
        save_file(flat(narrow), values["weights"])
    ref = import_weights(config(files, f"narrow-{kind}", **values))
    encoder = load_encoder(download_model(ref, tmp_path / "model"))
    assert (encoder.roi_names, encoder.atlas) == (tuple(roi_names()), "tian_schaefer")
    assert (encoder.n_timepoints, encoder.n_patches, encoder.embed_dim) == (160, 10, 16)
    scaled = torch.from_numpy(encoder.scaler.transform(windows())).transpose(1, 2).unsqueeze(1)
    with torch.inference_mode():
        wanted = narrow.target_encoder(scaled).view(1, 450, 10, 16)
    assert torch.equal(encoder.encode(windows()), wanted)


def test_import__writes_down_where_the_model_comes_from(files, tmp_path, caplog):
    ref = import_weights(config(files, "traced", licence="unknown"))
    tags = tags_of(ref)
    assert (tags["family"], tags["atlas"], tags["licence"]) == ("brainjepa", "tian_schaefer", "unknown")
    assert (tags["origin"], tags["epoch"]) == ("imported", "299")
    found = load_encoder(download_model(ref, tmp_path / "model")).provenance
    assert found["files"]["weights"] == {"name": "jepa-ep300.pth.tar", "sha256": tags["weights_sha256"]}
    assert found["files"]["gradient"]["sha256"] == tags["gradient_sha256"]
    assert (found["licence"], found["epoch"], found["tensors"]) == ("unknown", 299, 384)
    assert (found["checks"]["order"], found["checks"]["silent_names"]) == ("right", 0)
    assert found["checks"]["homotopy"]["first"] > 0.85
    assert found["time_position_drift"] == 0
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert [f"import_weights: WARNING: {text}" for text in found["warnings"]] == said
    for text in (
        "the licence of these weights is unknown: Brain-JEPA's repository has no licence file",
        "scaling zscore was chosen, but the weights were pretrained with robust scaling",
        "jepa-ep300.pth.tar is named after epoch 300 and stores epoch 299",
    ):
        assert sum(text in line for line in said) == 1
    run = mlflow.get_run(found["mlflow_run_id"])
    assert run.data.tags["output.model"] == ref.pointer
    assert run.data.tags["licence"] == "unknown"


def test_import__with_statistics_scales_as_in_pretraining(files, tmp_path, caplog):
    medians, iqrs = np.linspace(40, 60, 450), np.linspace(1, 3, 450)
    np.savez(tmp_path / "s.npz", medians=medians, iqrs=iqrs)
    ref = import_weights(config(files, "robust", scaling="robust", statistics=str(tmp_path / "s.npz")))
    encoder = load_encoder(download_model(ref, tmp_path / "model"))
    np.testing.assert_allclose(encoder.scaler.transform(windows()), (windows() - medians) / iqrs, rtol=1e-6)
    assert len(encoder.provenance["files"]["statistics"]["sha256"]) == 64
    assert "zscore" not in caplog.text


def test_import__again_gives_the_version_that_is_there(files, tmp_path):
    first = import_weights(config(files, "again"))
    shutil.copy(files["weights"], tmp_path / "moved.pth.tar")
    again = import_weights(config(files, "again", weights=str(tmp_path / "moved.pth.tar"), alias="other"))
    assert again == first == resolve_model("models:/again@other") == resolve_model("models:/again@champion")
    other = import_weights(config(files, "again", licence="granted by the authors"))
    assert other.version == "2"


def test_import__refuses_the_wrong_order(files):
    write_gradient(files["gradient"], np.roll(gradient(), -50, axis=0))
    with pytest.raises(GradientError, match=r"g.csv: rows i and i\+25 correlate .* The subcortex is last"):
        import_weights(config(files, "x"))
    write_gradient(files["gradient"], gradient())
    Path(files["atlas_labels"]).write_text("\n".join(roi_names()[50:] + roi_names()[:50]))
    with pytest.raises(AtlasError, match="100 names stand in the wrong block"):
        import_weights(config(files, "x"))


def test_import__refuses_files_that_do_not_fit(files, tmp_path):
    with pytest.raises(CheckpointError, match=r"none.pth: no such weights file; fetch it from where its authors"):
        import_weights(config(files, "x", weights=str(tmp_path / "none.pth")))
    with pytest.raises(CheckpointError, match="width 16 is of no named size"):
        import_weights(config(files, "x", num_heads=None))
    write_gradient(files["gradient"], gradient(n_components=29))
    with pytest.raises(GradientError, match=r"gradient has shape \(450, 29\), the model takes \(450, 30\)"):
        import_weights(config(files, "x"))
    write_gradient(files["gradient"], gradient()[1:])
    with pytest.raises(
        GradientError, match=r"g.csv: the gradient has 449 lines, .*rois.txt has 450 region names; both"
    ):
        import_weights(config(files, "x"))


def test_import__of_a_failed_run_registers_nothing(files, narrow):
    raw = checkpoint(narrow)
    del raw["target_encoder"]["module.norm.weight"]
    torch.save(raw, files["weights"])
    with pytest.raises(
        CheckpointError, match=r"target_encoder: weights do not fit the configuration; missing: norm.wei"
    ):
        import_weights(config(files, "failed"))
    assert not mlflow.MlflowClient().search_registered_models("name = 'failed'")
    (run,) = mlflow.search_runs(
        experiment_names=["boldstream"], filter_string="run_name = 'import_weights failed'", output_format="list"
    )
    assert run.info.status == "FAILED"

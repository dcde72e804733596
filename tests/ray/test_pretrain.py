import shutil
from pathlib import Path

import mlflow
import numpy as np
import pytest
from safetensors.numpy import load_file

from boldstream.artifacts.cohort import open_cohort
from boldstream.artifacts.gradient import open_gradient
from boldstream.encoders.brainjepa.masks import KINDS
from boldstream.encoders.interface import load_encoder
from boldstream.errors import AtlasError, CohortError, GradientError, ModelError, OutputExistsError, TrainingError
from boldstream.gradients import GradientConfig, fit_gradient
from boldstream.ingest import ingest_cohort
from boldstream.parcellation.gradients import MeanConnectivity, diffusion_gradient, functional_connectivity
from boldstream.pretrain import PretrainConfig, pretrain
from boldstream.registry import download_model, resolve_model
from synthetic import ROIS, ingest_config, series, write_study

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("cluster")]


def gradient_config(study, output, **values):
    known = {"output": output, "cohort": "study", "n_components": 3, "warehouse": study.warehouse}
    return GradientConfig(**known | values)


def config_of(study, **values):
    return PretrainConfig.model_validate(study.pretrain | values)


def test_gradient__is_the_one_of_a_loop_over_the_scans(study):
    found = open_gradient("g", study.warehouse)
    mean = MeanConnectivity(len(ROIS))
    for i in range(10):
        values = series(i, n_timepoints=20 if i == 9 else 60)
        mean.add(functional_connectivity(values))
    assert found.roi_names == ROIS
    # the files hold five digits
    np.testing.assert_allclose(found.values, diffusion_gradient(mean.result(), 3), atol=1e-4)


def test_gradient__again_is_the_one_that_is_there(study):
    assert fit_gradient(gradient_config(study, "g")) == study.gradient
    with pytest.raises(OutputExistsError, match=r"gradient 'g' exists .* \(n_components: 3 -> 4\)"):
        fit_gradient(gradient_config(study, "g", n_components=4))


def test_gradient__is_the_same_from_other_shards(study, tmp_path):
    # sums over scans are grouped by file, so the last bits may differ: within 1e-12 of values near 1
    ingest_cohort(ingest_config(study.root, warehouse=str(tmp_path / "w"), shard_size=1))
    other = fit_gradient(gradient_config(study, "g", warehouse=str(tmp_path / "w")))
    ours = open_gradient("g", study.warehouse).values
    np.testing.assert_allclose(open_gradient(other.pointer, "").values, ours, rtol=0, atol=1e-12)
    again = fit_gradient(gradient_config(study, "again"))
    assert again.digest == study.gradient.digest


def test_gradient__of_a_missing_cohort(study):
    with pytest.raises(CohortError, match=r"no cohort 'nobody' in warehouse .* \(there: study\)"):
        fit_gradient(gradient_config(study, "x", cohort="nobody"))
    with pytest.raises(GradientError, match="8"):
        fit_gradient(gradient_config(study, "x", n_components=8))


def test_pretrain__of_no_step_registers_the_untrained_twin(study, tmp_path):
    assert study.model == resolve_model("models:/toy@champion")
    assert study.model == resolve_model("models:/toy/1")
    folder = download_model(study.model, tmp_path)
    encoder = load_encoder(folder)
    assert (encoder.roi_names, encoder.atlas, encoder.n_timepoints) == (ROIS, "toy", 32)
    version = mlflow.MlflowClient().get_model_version("toy", "1")
    assert version.tags["cohort"] == study.cohort.pointer
    assert version.tags["trained_steps"] == "0"


def test_pretrain__again_gives_the_same_version(study):
    assert pretrain(config_of(study)) == study.model
    assert pretrain(config_of(study, alias="other", log_every=1)) == study.model
    assert resolve_model("models:/toy@other") == study.model
    assert len(mlflow.MlflowClient().search_model_versions("name = 'toy'")) == 1


TRAINED = {
    "steps": 4,
    "optim": {"batch_size": 4, "warmup_steps": 1},
    "alias": "trained",
    "monitor": {"probe_every_epochs": 1, "from_epoch": 100},
    "data_licence": "made up",
}


@pytest.fixture(scope="module")
def trained(study):
    return pretrain(config_of(study, output="trained", **TRAINED))


def test_pretrain__learns_and_logs_its_curves(study, trained, tmp_path):
    weights = [
        load_file(download_model(ref, tmp_path / name) / "weights.safetensors")
        for ref, name in ((study.model, "a"), (trained, "b"))
    ]
    assert weights[0].keys() == weights[1].keys()
    assert any((weights[0][key] != weights[1][key]).any() for key in weights[0] if key.startswith("target_encoder."))
    (run,) = mlflow.search_runs(
        experiment_names=["boldstream"], filter_string="run_name = 'pretrain trained'", output_format="list"
    )
    assert run.info.status == "FINISHED"
    assert run.data.metrics["scans"] == 9
    assert run.data.metrics["scans_too_short"] == 1
    assert TRAINED["steps"] * TRAINED["optim"]["batch_size"] > 9  # so the third batch is of two epochs
    assert np.isfinite(run.data.metrics["loss"])
    assert run.data.metrics["subjects_held_out"] == 0
    for name in ("lr", "weight_decay", "ema", "grad_norm", "windows_per_s", "tokens_per_s", "data_wait_share"):
        assert np.isfinite(run.data.metrics[name]), name
    measured = mlflow.MlflowClient().get_metric_history(run.info.run_id, "collapse/subject_share")
    assert [metric.step for metric in measured] == [0, 2, 4]
    assert -1 <= run.data.metrics["probe/age_r"] <= 1
    assert 0 <= run.data.metrics["probe/sex_auroc"] <= 1
    shares = [run.data.metrics[f"mask/{kind}_share"] for kind in KINDS]
    assert sum(shares) == pytest.approx(1)
    assert run.data.metrics["mask/context_tokens"] > 0
    assert run.data.metrics["mask/target_tokens"] > 0
    assert [metric.step for metric in mlflow.MlflowClient().get_metric_history(run.info.run_id, "loss")] == [1, 4]
    assert run.data.tags["parent.cohort"] == study.cohort.pointer
    assert run.data.tags["parent.gradient.digest"] == study.gradient.digest
    assert run.data.tags["output.model"] == trained.pointer


def test_model__carries_its_card_and_figures(trained, tmp_path):
    folder = download_model(trained, tmp_path)
    card = (folder / "README.md").read_text()
    assert "pretrained for 4 optimizer steps" in card
    assert "Licence of the data, as stated by whoever trained: made up." in card
    assert "trained scans (none was held out)" in card
    figures = sorted(path.name for path in (folder / "figures").iterdir())
    assert figures == ["connectivity.png", "monitor.png", "training.png"]
    assert sorted(path.name for path in folder.iterdir() if path.suffix in {".pt", ".npz"}) == ["statistics.npz"]


def test_pretrain__refuses_a_gradient_of_another_order(study, tmp_path):
    turned = [ROIS[1], ROIS[0], *ROIS[2:]]
    (tmp_path / "rois.txt").write_text("\n".join(turned))
    ingest_cohort(ingest_config(study.root, atlas_labels=str(tmp_path / "rois.txt"), warehouse=str(tmp_path / "w")))
    other = fit_gradient(gradient_config(study, "turned", warehouse=str(tmp_path / "w")))
    with pytest.raises(
        AtlasError,
        match=r"gradient 'turned' has atlas 'toy' \(8 regions\) but cohort 'study@1' expects 'toy' \(8\): same "
        r"regions, other order; first at region 1, 'R2' instead of 'R1'",
    ):
        pretrain(config_of(study, gradient=other.pointer, output="x"))


def test_pretrain__refuses_what_cannot_train(study):
    with pytest.raises(GradientError, match="no gradient 'nothing'"):
        pretrain(config_of(study, gradient="nothing", output="x"))
    with pytest.raises(
        TrainingError, match=r"none of the 10 scans of cohort study@1 fills a window of 64 timepoints; use a smaller n_"
    ):
        pretrain(config_of(study, n_timepoints=64, output="x"))
    with pytest.raises(TrainingError, match=r"fills a window of 32 timepoints at 10 s"):
        pretrain(config_of(study, target_t_r=10, output="x"))


def test_pretrain__leaves_scans_of_unknown_repetition_time_out(study, tmp_path):
    write_study(tmp_path, ["1", "2", "3"])
    sites = {"t_r": None, "t_r_by_site": {"site0": 2.0}}
    cohort = ingest_cohort(ingest_config(tmp_path, shard_size=1, **sites))
    ref = pretrain(
        config_of(study, cohort=cohort.pointer, target_t_r=1.0, steps=2, optim={"batch_size": 2}, output="t")
    )
    (run,) = mlflow.search_runs(
        experiment_names=["boldstream"], filter_string="run_name = 'pretrain t'", output_format="list"
    )
    assert (run.data.metrics["scans"], run.data.metrics["scans_too_short"]) == (2, 1)
    assert ref.version == "1"


def test_resolve__says_what_the_registry_has(study):
    with pytest.raises(ModelError, match=r"model: 'toy' is no model version; write models:/name/3 or"):
        resolve_model("toy")
    with pytest.raises(ModelError, match="is no model version"):
        resolve_model("models:/toy")
    for pointer in ("models:/toy/77", "models:/toy@nobody", "models:/nobody/1", "models:/nobody@champion"):
        with pytest.raises(ModelError, match=rf"model: '{pointer}' is not in the registry at .*models there: .*toy"):
            resolve_model(pointer)
    client = mlflow.MlflowClient()
    client.create_registered_model("foreign")
    client.create_model_version("foreign", source="file:///nowhere")
    with pytest.raises(ModelError, match=r"'models:/foreign/1' was not registered by boldstream"):
        resolve_model("models:/foreign/1")


def artifact_folder(ref):
    version = mlflow.MlflowClient().get_model_version(ref.uri.removeprefix("models:/"), ref.version)
    logged = mlflow.get_logged_model(version.source.removeprefix("models:/"))
    return Path(logged.artifact_location.removeprefix("file://"))


def test_download__refuses_files_that_were_changed(study, tmp_path):
    ref = pretrain(config_of(study, output="damaged", seed=5))
    folder = artifact_folder(ref)
    weights = folder / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(ModelError, match=r"have sha256 .* instead of the registered .*; the artifact store was ch"):
        download_model(ref, tmp_path / "a")
    weights.unlink()
    with pytest.raises(ModelError, match=r"have sha256 .* instead of the registered"):
        download_model(ref, tmp_path / "b")
    shutil.rmtree(folder)
    with pytest.raises(ModelError, match=r"models:/damaged/1 (cannot be fetched from the artifact store|have sha256)"):
        download_model(ref, tmp_path / "c")


def test_cohort__keeps_its_keys_by_file(study):
    found = [keys for _, keys in open_cohort("study", study.warehouse).keys_by_file()]
    assert sorted(map(len, found)) == [1, 3, 3, 3]

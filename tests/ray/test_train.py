"""Pretraining on Ray Train's workers: the same for any number of them, interrupted or not, and loud when it fails."""

import contextlib
import os
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import mlflow
import numpy as np
import pytest
from safetensors.numpy import load_file

from boldstream.artifacts.cohort import open_cohort
from boldstream.encoders.brainjepa.scaling import WindowZscore
from boldstream.errors import StorageError, TrainingError
from boldstream.ingest import ingest_cohort
from boldstream.pretrain import PretrainConfig, pretrain
from boldstream.pretrain.scans import sort_scans
from boldstream.pretrain.windows import read_batches, split_windows
from boldstream.registry import download_model
from boldstream.storage import exists
from boldstream.tracking import JobRun
from synthetic import ingest_config, series, write_scan, write_study

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("cluster")]

N_SCANS = 24


@pytest.fixture(scope="module")
def people(study, tmp_path_factory):
    """More scans than the other tests need: 24 subjects, 60 timepoints."""
    root = tmp_path_factory.mktemp("people")
    write_study(root, [f"{i:02d}" for i in range(N_SCANS)])
    cohort = ingest_cohort(ingest_config(root, shard_size=5))
    return SimpleNamespace(root=root, cohort=cohort, pretrain=study.pretrain | {"cohort": cohort.pointer})


def config_of(people, output, **values):
    known = {"steps": 6, "holdout": 0.1, "log_every": 1, "optim": {"batch_size": 8, "micro_batch": 2}}
    return PretrainConfig.model_validate(people.pretrain | known | {"output": output} | values)


def weights_of(ref, folder):
    return load_file(download_model(ref, folder / ref.uri.rpartition("/")[2]) / "weights.safetensors")


def run_of(output):
    """Return the newest MLflow run of a pretraining."""
    found = mlflow.search_runs(
        experiment_names=["boldstream"], filter_string=f"run_name = 'pretrain {output}'", output_format="list"
    )
    return found[0] if found else None


def losses_of(output):
    steps, values = JobRun(run_of(output).info.run_id).curve("loss")
    return dict(zip(steps, values, strict=True))


# ---- windows -----------------------------------------------------------------------------------------------------


def consume(shards, **kinds):
    """Read several workers' streams side by side, as workers do."""
    found = [[] for _ in shards]

    def read(rank):
        found[rank] += read_batches(shards[rank], rank=rank, n_workers=len(shards), **kinds)

    threads = [threading.Thread(target=read, args=(rank,)) for rank in range(len(shards))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    return found


@pytest.mark.parametrize(("n_workers", "start"), [(1, 0), (2, 0), (4, 16)])
def test_windows__come_to_each_worker_in_its_turn(people, n_workers, start):
    config = config_of(people, "x")
    plan = sort_scans(open_cohort(people.cohort.pointer, ""), config).plan
    stop = start + 64
    shards = split_windows(plan, WindowZscore(), start=start, stop=stop, micro_batch=4, n_workers=n_workers)
    found = consume(shards, start=start, micro_batch=4)
    assert [len(batches) for batches in found] == [16 // n_workers] * n_workers
    batches = [batch for turn in zip(*found, strict=True) for batch in turn]
    assert np.concatenate([batch.positions for batch in batches]).tolist() == list(range(start, stop))
    # the window itself, against the file's values
    first = batches[0]
    scan = plan.scans_at([start])[0]
    values = series(int(scan.removeprefix("sub-")))
    candidates = WindowZscore().transform(np.stack([values[at : at + 32] for at in range(29)]))
    assert np.abs(candidates - first.windows[0]).max(axis=(1, 2)).min() < 1e-3
    assert len({key for batch in batches for key in batch.keys.tolist()}) == 64


def test_windows__out_of_turn_are_noticed(people):
    config = config_of(people, "x")
    plan = sort_scans(open_cohort(people.cohort.pointer, ""), config).plan
    shards = split_windows(plan, WindowZscore(), start=0, stop=8, micro_batch=4, n_workers=1)
    with pytest.raises(
        RuntimeError, match=r"worker 0 of 1 got windows \[0 1 2\]… instead of 4 and on; Ray Data did not"
    ):
        next(read_batches(shards[0], start=4, micro_batch=4, rank=0, n_workers=1))


def test_scans__of_some_subjects_are_held_out_and_not_trained_on(people):
    found = sort_scans(open_cohort(people.cohort.pointer, ""), config_of(people, "x", holdout=0.4))
    assert len(found.held_out_subjects) == 10
    out = {f"sub-{subject}" for subject in found.held_out_subjects}
    assert not out & set(found.plan.scan_keys)
    assert set(found.monitored.plan.scan_keys) == out
    # not in the order of the files' names, which are digests
    assert list(found.plan.scan_keys) == sorted(found.plan.scan_keys)
    few = sort_scans(open_cohort(people.cohort.pointer, ""), config_of(people, "x", holdout=0.1))
    assert len(few.held_out_subjects) == 2
    assert few.monitored.plan is few.plan


# ---- workers -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def alone(people):
    """Six steps on one worker, told as epochs, with a checkpoint at every step."""
    checkpoint = {"storage": str(people.root / "checkpoints"), "every_steps": 1, "keep": 2}
    return pretrain(config_of(people, "alone", steps=None, epochs=2.2, checkpoint=checkpoint))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("two", {}),
        ("shards", {"compute": {"sharding": "fsdp", "recompute": True}}),
    ],
)
def test_pretrain__on_two_workers_is_as_on_one(people, alone, tmp_path, name, values):
    other = pretrain(config_of(people, name, workers={"count": 2}, **values))
    # sums over micro-batches are grouped otherwise: float32 rounding, which AdamW's division enlarges
    np.testing.assert_allclose(list(losses_of(name).values()), list(losses_of("alone").values()), rtol=1e-3)
    first, second = weights_of(alone, tmp_path), weights_of(other, tmp_path)
    assert first.keys() == second.keys()
    for key, value in first.items():
        np.testing.assert_allclose(second[key], value, rtol=0, atol=1e-3, err_msg=key)


def test_pretrain__of_epochs_counts_its_steps_and_keeps_the_newest_checkpoints(people, alone):
    assert mlflow.MlflowClient().get_model_version("alone", alone.version).tags["trained_steps"] == "6"
    storage = people.root / "checkpoints"
    found = sorted(path.name for path in (storage / "alone").iterdir() if path.is_dir())
    assert found == ["step-00000005", "step-00000006"]
    assert exists(f"{storage}/alone/step-00000006/rank-0.pt")


def test_pretrain__with_more_workers_than_the_cluster_has_fails_at_once(people):
    config = config_of(people, "many", workers={"count": 8}, optim={"batch_size": 8})
    with pytest.raises(
        TrainingError,
        match=r"workers.count 8 needs 9 CPU \(1 CPU of it for reading\), the Ray cluster has \d CPU, of w",
    ):
        pretrain(config)
    config = config_of(people, "gpus", workers={"gpu": "yes"})
    with pytest.raises(TrainingError, match=r"needs 2 CPU and 1 GPU .* has \d CPU and 0 GPU"):
        pretrain(config)


# ---- interruptions -----------------------------------------------------------------------------------------------

LONG = {"steps": 60, "checkpoint": {"every_steps": 10, "max_failures": 2}, "monitor": {"every_epochs": 10}}


@pytest.fixture(scope="module")
def uninterrupted(people):
    return pretrain(config_of(people, "uninterrupted", **LONG))


def wait_for_step(output, step):
    """Wait until a training has logged a step."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        run = run_of(output)
        if run and run.data.metrics.get("progress/step", 0) >= step:
            return run
        time.sleep(0.05)
    raise AssertionError(f"{output} has not come to step {step}")


def train_processes():
    """Return the process ids of Ray Train's workers."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            title = entry.read_text()
            if title.startswith("ray::") and "RayTrainWorker" in title:
                found.append(int(entry.parent.name))
    return found


def assert_same_training(output, ref, uninterrupted, folder):
    """The curve and the weights are those of the training that nothing interrupted."""
    assert losses_of(output) == losses_of("uninterrupted")
    first, second = weights_of(uninterrupted, folder), weights_of(ref, folder)
    for key, value in first.items():
        np.testing.assert_array_equal(value, second[key], err_msg=key)


def test_pretrain__survives_a_killed_worker(people, uninterrupted, tmp_path):
    config = config_of(people, "killed", **LONG)
    at = int(np.random.default_rng().integers(5, 35))

    def kill():
        wait_for_step("killed", at)
        for process in train_processes():
            os.kill(process, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    ref = pretrain(config)
    killer.join()
    assert_same_training("killed", ref, uninterrupted, tmp_path)


def test_pretrain__goes_on_after_its_driver_is_gone(people, uninterrupted, job, tmp_path):
    config = config_of(people, "driver", **LONG)
    first, second = sorted(np.random.default_rng().choice(np.arange(5, 35), 2, replace=False).tolist())
    for how, status, at in ((signal.SIGINT, 130, first), (signal.SIGKILL, -9, second)):
        process = job("pretrain", config)
        run = wait_for_step("driver", at)
        process.send_signal(how)
        said = process.communicate(timeout=120)
        assert process.returncode == status, said
    ref = pretrain(config)
    assert run_of("driver").info.run_id == run.info.run_id
    assert_same_training("driver", ref, uninterrupted, tmp_path)
    version = mlflow.MlflowClient().search_model_versions("name = 'driver'")
    assert len(version) == 1


# ---- failures ----------------------------------------------------------------------------------------------------


def test_pretrain__ends_where_the_loss_does_and_keeps_the_last_good_checkpoint(people):
    values = {"steps": 60, "checkpoint": {"every_steps": 1}}
    config = config_of(people, "diverged", optim={"batch_size": 8, "lr": 1e30}, **values)
    with pytest.raises(
        TrainingError,
        match=r"the (loss|gradients' norm) is (nan|inf) at step \d+ of 60.* optim.lr \(now .*e\+.*\); "
        r"(the last good checkpoint is step \d+ in .*training/diverged|there is no checkpoint yet); with other",
    ):
        pretrain(config)
    with pytest.raises(
        TrainingError,
        match=r"an unfinished training of 'diverged' in .* has other settings \(optim.lr: 1e\+30 -> 0.001\)",
    ):
        pretrain(config_of(people, "diverged", optim={"batch_size": 8}, **values))


def test_pretrain__names_the_scans_whose_loss_is_not_finite(people, tmp_path):
    write_study(tmp_path, [f"{i:02d}" for i in range(8)])
    write_scan(tmp_path / "scans", "05", series(5) * 1e36)
    cohort = ingest_cohort(ingest_config(tmp_path))
    values = {"scaling": "robust", "holdout": 0, "workers": {"count": 2}, "optim": {"batch_size": 4, "micro_batch": 1}}
    config = config_of(people, "huge", cohort=cohort.pointer, **values)
    with pytest.raises(
        TrainingError, match=r"after step 0 the encoder gives values that are not finite for 1 monitored .*\(sub-05\)"
    ):
        pretrain(config)
    # two others are looked at, so that the first step meets it
    config = config_of(people, "huge", cohort=cohort.pointer, **values, monitor={"scans": 2}, fresh=True)
    with pytest.raises(
        TrainingError, match=r"the loss is nan at step \d of 6, in the micro-batch of scans sub-05; look"
    ):
        pretrain(config)


def test_pretrain__refuses_fewer_scans_than_a_batch(people):
    with pytest.raises(
        TrainingError,
        match=r"cohort study@1 gives 22 windows an epoch \(22 scans to train on, windows_per_scan 1\), less than one "
        r"batch of 32; raise windows_per_scan or lower optim.batch_size",
    ):
        pretrain(config_of(people, "few", optim={"batch_size": 32}))


def test_pretrain__of_epochs_needs_more_of_them_than_warm_up(people):
    with pytest.raises(
        TrainingError, match=r"epochs 0.1 of 22 windows make 0 steps of 8, no more than optim.warmup_steps \(0\); raise"
    ):
        pretrain(config_of(people, "epochs", steps=None, epochs=0.1))


def test_pretrain__refuses_storage_that_cannot_be_written(people, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match=r"file/disk/stuck/training.json: cannot be written"):
        pretrain(config_of(people, "stuck", checkpoint={"storage": f"{tmp_path}/file/disk"}))


# ---- collapse ----------------------------------------------------------------------------------------------------

# what the published code does, with a target encoder that follows at once
PLANTED = {
    "steps": 60,
    "windows_per_scan": 4,
    "initialisation": "reference",
    "objective": {"targets": "layer_norm"},
    "optim": {"batch_size": 8, "lr": 3e-3, "ema": 0.0, "final_ema": 0.0},
}


def test_pretrain__stops_at_a_planted_collapse(people):
    config = config_of(people, "collapsed", **PLANTED, monitor={"on_collapse": "stop", "every_epochs": 0.5})
    with pytest.raises(TrainingError, match=r"collapsed \(monitor.on_collapse: stop\): step \d+: .* is (below|above)"):
        pretrain(config)
    assert "collapse.alarm" in run_of("collapsed").data.tags


def test_pretrain__warns_of_a_planted_collapse_and_tags_the_model(people):
    ref = pretrain(config_of(people, "warned", **PLANTED, monitor={"every_epochs": 0.5}))
    version = mlflow.MlflowClient().get_model_version("warned", ref.version)
    assert "is below" in version.tags["collapse"] or "is above" in version.tags["collapse"]


def test_pretrain__that_is_healthy_raises_no_alarm(uninterrupted):
    assert "collapse/rankme" in run_of("uninterrupted").data.metrics
    assert "collapse" not in mlflow.MlflowClient().get_model_version("uninterrupted", uninterrupted.version).tags

"""The same path with everything on S3; its Ray is a job's own, as its workers must inherit the environment."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from boldstream.artifacts.cohort import cohort_tables, iter_timeseries, open_cohort
from boldstream.artifacts.embeddings import open_table
from boldstream.errors import CohortError, StorageError
from boldstream.listing import list_files
from boldstream.storage import Warehouse, exists, filesystem, publish_bytes, read_bytes
from synthetic import ROIS, ingest_config, write_study
from trees import write_fmriprep, write_label_volume

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.s3, pytest.mark.usefixtures("s3")]


@pytest.mark.parametrize("name", ["plain", "with space", "jösé", "per%20cent", "a+b", "what?", "sharp#"])
def test_files__of_any_name_are_written_listed_and_read(s3, name):
    folder = f"{s3}/files/{name}"
    publish_bytes(f"{folder}/{name}.bin", b"first")
    publish_bytes(f"{folder}/{name}.bin", b"second")
    assert list_files(folder).paths == [f"{name}.bin"]
    assert list_files(folder).state(f"{name}.bin")[0] > 0
    assert read_bytes(f"{folder}/{name}.bin") == b"second"
    assert exists(f"{folder}/{name}.bin")
    publish_bytes(f"{folder}/{name}.bin.gz", b"packed by whoever made it")
    assert read_bytes(f"{folder}/{name}.bin.gz") == b"packed by whoever made it"
    assert not exists(f"{folder}/none")


def test_errors__name_the_place(s3, monkeypatch):
    with pytest.raises(StorageError, match="s3://lab/none: no such folder"):
        list_files(f"{s3}/none")
    with pytest.raises(StorageError, match="s3://lab/none: no such file"):
        read_bytes(f"{s3}/none")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(StorageError, match=r"s3://lab/files: cannot be listed: .*ACCESS_DENIED"):
        list_files(f"{s3}/files")
    with pytest.raises(StorageError, match=r"s3://lab/ready: cannot be (read|looked up)"):
        read_bytes(f"{s3}/ready")
    with pytest.raises(StorageError, match=r"s3://lab/ready: cannot be looked up"):
        exists(f"{s3}/ready")


def test_warehouse__needs_its_catalog_named(s3):
    with pytest.raises(StorageError, match=r"'s3://lab/w' is not on a local disk: set BOLDSTREAM_CATALOG_URI to its c"):
        open_cohort("study", f"{s3}/w")


SCRIPT = """
import sys
from boldstream.cli import configure_logging
from boldstream.embed import EmbedConfig, embed_cohort
from boldstream.gradients import GradientConfig, fit_gradient
from boldstream.ingest import IngestConfig, ingest_cohort
from boldstream.pretrain import PretrainConfig, pretrain

configure_logging()
for door, config_class in (
    (ingest_cohort, IngestConfig),
    (fit_gradient, GradientConfig),
    (pretrain, PretrainConfig),
    (embed_cohort, EmbedConfig),
    (ingest_cohort, IngestConfig),
):
    print(door(config_class.from_yaml(f"{sys.argv[1]}/{door.__name__}.yaml")))
"""


@pytest.mark.ray
def test_path__with_source_and_warehouse_on_s3(s3, tracking, tmp_path, monkeypatch):
    subjects = ["1", "2", "3", "4", "5"]
    write_study(tmp_path, subjects)
    for path in (tmp_path / "scans").iterdir():
        publish_bytes(f"{s3}/study one/scans/{path.name}", path.read_bytes())
    publish_bytes(f"{s3}/study one/scans/sub-broken.csv", b"not numbers")
    publish_bytes(f"{s3}/study one/participants.tsv", (tmp_path / "participants.tsv").read_bytes())

    warehouse = f"{s3}/warehouse"
    monkeypatch.setenv("BOLDSTREAM_CATALOG_URI", f"sqlite:///{tmp_path}/catalog.db")
    ingest = ingest_config(
        tmp_path,
        source={"root": f"{s3}/study one/scans", "files": "sub-{subject}.csv"},
        participants=f"{s3}/study one/participants.tsv",
        warehouse=warehouse,
        cluster={"object_store_gb": 0.3},
    ).model_dump(mode="json")
    window = {"length": 32, "stride": 14}
    (tmp_path / "toy_v1.yaml").write_text(yaml.safe_dump({"id": "toy_v1", "window": window}))
    common = {"cohort": "study", "warehouse": warehouse}
    sizes = {"size": "tiny", "n_timepoints": 32, "patch_size": 8, "scaling": "zscore", "steps": 1}
    sizes |= {"optim": {"batch_size": 2}, "holdout": 0}
    strategy = str(tmp_path / "toy_v1.yaml")
    configs = {
        "ingest_cohort": ingest,
        "fit_gradient": common | {"output": "g", "n_components": 3},
        "pretrain": common | {"output": "on-s3", "gradient": "g", **sizes},
        "embed_cohort": common | {"output": "t", "model": "models:/on-s3@champion", "strategy": strategy},
    }
    for name, values in configs.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(values))
    env = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    found = subprocess.run(
        [sys.executable, "-c", SCRIPT, tmp_path],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=env,
        timeout=240,
        check=False,
    )
    assert found.returncode == 0, found.stderr[-4000:]
    lines = found.stdout.splitlines()
    assert lines[0].startswith("cohort: s3://lab/warehouse/cohorts/study@1  # sha256 ")
    assert lines[1].startswith("gradient: s3://lab/warehouse/gradients/g@1")
    assert lines[2].startswith("model: models:/on-s3/1")
    assert lines[3].startswith("table: s3://lab/warehouse/embeddings/t@1")
    assert lines[4] == lines[0]

    cohort = open_cohort("s3://lab/warehouse/cohorts/study@1", "elsewhere")
    assert cohort.roi_names == ROIS
    assert cohort.manifest.content["quarantined"] == {"no_participants_row": 1}
    table = open_table("t", warehouse)
    assert table.rows()["scan_key"].tolist() == [f"sub-{subject}" for subject in subjects]
    assert table.vectors().shape[0] == 5
    assert not (tmp_path / "warehouse").exists()

    # a lost object is noticed, by name
    fs, path = filesystem(cohort.files[0].uri)
    fs.delete_file(path)
    with pytest.raises(CohortError, match=rf"cohort study@1: data file {cohort.files[0].uri} is missing"):
        open_cohort("study@1", warehouse)
    Warehouse.at(warehouse).catalog.close()


@pytest.mark.ray
def test_fmriprep__on_s3_is_streamed_and_what_cannot_be_read_is_quarantined(s3, tracking, tmp_path):
    written = write_fmriprep(tmp_path / "source", ["1", "2", "3"])
    write_label_volume(tmp_path / "toy.nii.gz")
    root = f"{s3}/derivatives/fmriprep"
    for path in (tmp_path / "source").rglob("*.*"):
        data = path.read_bytes()
        if "sub-3" in path.name and path.name.endswith(".nii.gz"):
            data = data[: len(data) // 2]
        publish_bytes(f"{root}/{path.relative_to(tmp_path / 'source')}", data)
    warehouse = str(tmp_path / "warehouse")
    values = {"output": "s3-images", "source": {"kind": "fmriprep", "root": root}, "warehouse": warehouse}
    values |= {"atlas": "toy", "atlas_file": str(tmp_path / "toy.nii.gz"), "cluster": {"object_store_gb": 0.3}}
    (tmp_path / "ingest.yaml").write_text(yaml.safe_dump(values))
    found = subprocess.run(
        [sys.executable, ROOT / "jobs" / "ingest.py", "--config", tmp_path / "ingest.yaml"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
        check=False,
    )
    assert found.returncode == 0, found.stderr
    table = open_cohort("s3-images", warehouse).table.iceberg.scan().to_arrow().sort_by("scan_key").combine_chunks()
    assert table["subject"].to_pylist() == ["1", "2"]
    for subject, values in zip("12", iter_timeseries(table), strict=True):
        np.testing.assert_allclose(values, written[subject], rtol=1e-4)
    assert table["source_uri"].to_pylist()[0].startswith(f"{root}/sub-1/func/")
    _, quarantine = cohort_tables(Warehouse.at(warehouse), "s3-images")
    (row,) = quarantine.column(["scan_key", "reason"]).to_pylist()
    assert row == {"scan_key": "sub-3_task-rest", "reason": "unreadable"}

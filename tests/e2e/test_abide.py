"""The whole path on real scans: forty of ABIDE's, as the files that users hold."""

import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from boldstream.artifacts.cohort import cohort_tables, iter_timeseries, open_cohort
from boldstream.artifacts.embeddings import embedding_tables, open_table
from boldstream.embed import EmbedConfig, embed_cohort
from boldstream.gradients import GradientConfig, fit_gradient
from boldstream.ingest import IngestConfig, ingest_cohort
from boldstream.pretrain import PretrainConfig, pretrain
from boldstream.storage import Warehouse

ROOT = Path(__file__).parents[2]
ABIDE = ROOT.parent / "shared" / "data" / "abide"
CC200 = ABIDE.parent / "atlas" / "CC200.nii.gz"
N_SCANS = 40

pytestmark = [
    pytest.mark.ray,
    pytest.mark.walk,
    pytest.mark.abide,
    pytest.mark.skipif(not ABIDE.is_dir(), reason=f"{ABIDE} is not there"),
    pytest.mark.usefixtures("cluster"),
]


def config(config_class, room, warehouse, **values):
    """Return the committed configuration of a room, with the test's places."""
    committed = config_class.from_yaml(ROOT / "configs" / room / "abide.yaml").model_dump()
    return config_class.model_validate(committed | {"warehouse": warehouse} | values)


def test_abide__from_files_to_vectors_accounts_for_every_scan(tmp_path):
    source = tmp_path / "abide"
    subprocess.run([sys.executable, ABIDE / "unpack.py", source, "--limit", str(N_SCANS)], check=True)
    warehouse = str(tmp_path / "warehouse")
    ingest = config(
        IngestConfig,
        "ingest",
        warehouse,
        source={"kind": "abide", "root": str(source)},
        participants=str(source / "participants.tsv"),
        shard_size=8,
    )
    cohort = ingest_cohort(ingest)
    table, quarantine = cohort_tables(Warehouse.at(warehouse), "abide")
    keys = [set(found.column(["scan_key"])["scan_key"].to_pylist()) for found in (table, quarantine)]
    assert len(keys[0]) + len(keys[1]) == len(keys[0] | keys[1]) == N_SCANS
    assert open_cohort(cohort.pointer, "").roi_names[0] == "CC200-001"

    gradient = fit_gradient(config(GradientConfig, "gradients", warehouse))
    # zscore and two steps: to have a model version, not a good one
    model = pretrain(
        config(
            PretrainConfig,
            "pretrain",
            warehouse,
            gradient=gradient.pointer,
            steps=2,
            optim={"batch_size": 2},
            n_timepoints=160,
        )
    )
    strategy = str(ROOT / "configs" / "strategies" / "rsfmri_brainjepa_roi_v1.yaml")
    ref = embed_cohort(config(EmbedConfig, "embed", warehouse, model=model.pointer, strategy=strategy))
    found = open_table(ref.pointer, "")
    refused = embedding_tables(Warehouse.at(warehouse), "abide-brainjepa")[1].column(["scan_key"])
    rows = found.rows()
    assert set(rows["scan_key"]) | set(refused["scan_key"].to_pylist()) == keys[0]
    assert len(rows) + refused.num_rows == len(keys[0])
    assert len(rows) > 0

    vectors = found.vectors()
    assert vectors.shape[0] == len(rows)
    assert np.isfinite(vectors).all()
    assert len(set(rows["vector_sha256"])) == len(rows)
    # the labels are those of the table on disk
    people = pd.read_csv(source / "participants.tsv", sep="\t", dtype=str, keep_default_na=False).set_index("file_id")
    carried = rows.set_index("file_id")
    assert carried["site"].to_dict() == people.loc[carried.index, "site"].to_dict()
    np.testing.assert_allclose(carried["age"], people.loc[carried.index, "age"].astype(float))


def test_abide__painted_into_images_comes_back_from_a_tree_of_fmriprep(tmp_path):
    n_timepoints, offset = 40, 1000
    atlas = nib.load(CC200)
    labels = np.asarray(atlas.dataobj).astype(int)
    written = {}
    with np.load(ABIDE / "abide_cc200.npz") as scans:
        for subject, name in (("1", scans.files[0]), ("2", scans.files[1])):
            written[subject] = scans[name][:n_timepoints].astype(np.float32)
    for subject, values in written.items():
        painted = np.zeros((*labels.shape, n_timepoints), dtype=np.float32)
        painted[labels > 0] = (values.T + offset)[labels[labels > 0] - 1]
        painted = painted.astype(np.int16)  # as scanners write
        folder = tmp_path / "source" / f"sub-{subject}" / "func"
        scan = f"sub-{subject}_task-rest_space-MNI152NLin6Asym_desc-preproc_bold"
        folder.mkdir(parents=True)
        nib.save(nib.Nifti1Image(painted, atlas.affine), folder / f"{scan}.nii.gz")
        (folder / f"{scan}.json").write_text('{"RepetitionTime": 2.0}')
    source = {"kind": "fmriprep", "root": str(tmp_path / "source")}
    values = {"output": "painted", "source": source, "atlas": "cc200", "atlas_file": str(CC200), "max_bad_rois": 0.2}
    ref = ingest_cohort(IngestConfig.model_validate(values | {"warehouse": str(tmp_path / "warehouse")}))
    cohort = open_cohort(ref.pointer, "")
    assert cohort.roi_names[0] == "CC200-001"
    table = cohort.table.iceberg.scan().to_arrow().sort_by("scan_key").combine_chunks()
    for subject, found in zip("12", iter_timeseries(table), strict=True):
        varies = written[subject].std(axis=0) > 5  # int16 keeps whole numbers only
        pairs = zip(found.T[varies], written[subject].T[varies], strict=True)
        assert varies.sum() > 150
        assert min(np.corrcoef(ours, theirs)[0, 1] for ours, theirs in pairs) > 0.998

"""The whole path on real scans: forty of ABIDE's, as the files that users hold."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from boldstream.artifacts.cohort import cohort_tables, open_cohort
from boldstream.artifacts.embeddings import embedding_tables, open_table
from boldstream.embed import EmbedConfig, embed_cohort
from boldstream.gradients import GradientConfig, fit_gradient
from boldstream.ingest import IngestConfig, ingest_cohort
from boldstream.pretrain import PretrainConfig, pretrain
from boldstream.storage import Warehouse

ROOT = Path(__file__).parents[2]
ABIDE = ROOT.parent / "shared" / "data" / "abide"
N_SCANS = 40

pytestmark = [
    pytest.mark.ray,
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

from collections import Counter

import numpy as np
import pytest

from boldstream.artifacts.cohort import cohort_tables, iter_timeseries, open_cohort
from boldstream.errors import AtlasError, OutputExistsError
from boldstream.ingest import IngestConfig, ingest_cohort
from boldstream.storage import Warehouse
from boldstream.synthesis import draw_person, draw_scan, make_brain
from boldstream.synthesis.connectivity import model_connectivity

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("cluster")]


def config_of(folder, output="made_up", synthetic=None, **values):
    known = {
        "output": output,
        "source": {"kind": "synthetic"},
        "atlas": "toy",
        "t_r": 2.0,
        "synthetic": {"n_subjects": 6, "n_rois": 12, "n_timepoints": 40} | (synthetic or {}),
        "warehouse": str(folder / "w"),
    }
    return IngestConfig.model_validate(known | values)


def test_ingest__makes_up_the_same_people_shard_by_shard(tmp_path):
    quality = {"mean_fd": {"quarantine": 0.2}}
    config = config_of(tmp_path, shard_size=5, quality=quality)
    ref = ingest_cohort(config)

    # every scan is in one of the two tables, and holds what a person with these columns has
    cohort = open_cohort(ref.pointer, config.warehouse)
    quarantine = cohort_tables(Warehouse.at(config.warehouse), "made_up")[1].column(["scan_key", "reason"])
    rows = cohort.table.iceberg.scan().to_arrow().sort_by("scan_key").combine_chunks()
    assert rows.num_rows + quarantine.num_rows == 12
    assert Counter(quarantine["reason"].to_pylist()) == {"quality": quarantine.num_rows}
    assert 0 < quarantine.num_rows < 12
    assert max(rows["mean_fd"].to_pylist()) <= 0.2
    brain = make_brain(model_connectivity(cohort.roi_names), config.synthetic)
    for row, values in zip(rows.to_pylist(), iter_timeseries(rows), strict=True):
        person = draw_person(int(row["subject"]), config.synthetic, brain.n_modes)
        assert (row["age"], row["sex"], row["site"]) == (person.age, person.sex, f"site{person.site + 1}")
        assert row["trait_directed"] == person.traits["trait_directed"]
        drawn = draw_scan(person, int(row["session"]), brain, config.synthetic, 2.0)
        np.testing.assert_allclose(values, drawn, atol=1e-5)

    # in other shards, and with people that come later, it is the same cohort
    few = ingest_cohort(config_of(tmp_path, "other", {"n_subjects": 4}, shard_size=2, quality=quality))
    other = ingest_cohort(config_of(tmp_path, "other", shard_size=3, quality=quality))
    assert (few.version, other.version) == ("1", "2")
    assert few.digest != other.digest == ref.digest
    with pytest.raises(OutputExistsError, match=r"synthetic\.seed: 0 -> 1"):
        ingest_cohort(config_of(tmp_path, synthetic={"seed": 1}, quality=quality))

    # its connectivity gives the modes of others
    replica = ingest_cohort(config_of(tmp_path, "replica", {"seed": 1, "connectivity": ref.pointer}))
    manifest = open_cohort(replica.pointer, config.warehouse).manifest
    assert manifest.rows == 12
    assert [(parent.uri, parent.version) for parent in manifest.parents] == [(ref.uri, "1")]
    with pytest.raises(AtlasError, match=r"source synthetic has atlas 'toy' \(14 regions\) but cohort 'made_up@1'"):
        ingest_cohort(config_of(tmp_path, "wide", {"n_rois": 14, "connectivity": ref.pointer}))

import numpy as np
import pyarrow as pa
import pytest

from boldstream.artifacts.cohort import cohort_schema
from boldstream.errors import AtlasError, ConfigError, SourceError
from boldstream.ingest import IngestConfig
from boldstream.ingest.plan import plan_scans
from boldstream.ingest.regions import load_regions
from boldstream.ingest.shard import IngestTask, cohort_row
from boldstream.synthesis import draw_person, draw_scan, scan_mean_fd
from boldstream.synthesis.connectivity import model_connectivity

KNOWN = {"output": "made_up", "source": {"kind": "synthetic"}, "atlas": "toy", "t_r": 2.0}
SMALL = {"n_subjects": 3, "n_rois": 12, "n_timepoints": 40}


def config_of(synthetic=None, **values):
    return IngestConfig.from_mapping(KNOWN | {"synthetic": SMALL | (synthetic or {})} | values, where="run.yaml")


def rows_of(config):
    plan = plan_scans(config)
    task = IngestTask(config, load_regions(config, plan.scans), cohort_schema(plan.phenotypes), "c", "q")
    return [cohort_row(scan, task) for scan in plan.scans], task


def test_plan__of_made_up_people_holds_what_is_planted():
    config = config_of()
    plan = plan_scans(config)
    keys = [f"sub-00000{number}_ses-{session}_task-rest" for number in (1, 2, 3) for session in (1, 2)]
    assert [scan.scan_key for scan in plan.scans] == keys
    assert plan.without_scan == []
    text, number = pa.string(), pa.float64()
    assert plan.phenotypes == {
        "family": text,
        "diagnosis": text,
        "trait_fc": number,
        "trait_autocorrelation": number,
        "trait_directed": number,
    }
    person, values = draw_person(3, config.synthetic), plan.scans[5].values
    assert values["age"] == person.age
    assert values["site"] == f"site{person.site + 1}"
    assert values["family"] == "family2"
    assert values["trait_directed"] == person.traits["trait_directed"]
    assert values["mean_fd"] == scan_mean_fd(person, 2, config.synthetic)
    assert plan.scans[5].source_uri == "synthetic:seed-0/sub-000003_ses-2_task-rest"


def test_cohort_row__of_a_made_up_scan_passes_through_cleaning_and_quality():
    rows, task = rows_of(config_of(cleaning={"detrend": True}, target_t_r=1.0))
    assert len(rows) == 6
    assert task.regions.atlas.roi_names[5:7] == ("LH-006", "RH-001")
    assert {row["n_timepoints_original"] for row in rows} == {40}
    assert {(row["t_r"], row["t_r_original"]) for row in rows} == {(1.0, 2.0)}
    assert all(row["n_timepoints"] > 70 for row in rows)
    assert all(row["qc_fc_homotopic"] > 0 for row in rows)
    assert len({row["source_sha256"] for row in rows}) == 6
    again, _ = rows_of(config_of(cleaning={"detrend": True}, target_t_r=1.0))
    assert [row["row_digest"] for row in again] == [row["row_digest"] for row in rows]


def test_cohort_row__is_drawn_at_the_repetition_time_of_its_site():
    slow, fast = {}, {}
    sites = {f"site{i}": 0.7 for i in range(1, 5)}
    for row in rows_of(config_of({"n_subjects": 12}, t_r_by_site=sites))[0]:
        values = np.reshape(row["timeseries"], (40, 12)).astype(float)
        assert row["t_r"] == sites.get(row["site"], 2.0)
        found = fast if row["site"] in sites else slow
        centred = values - values.mean(axis=0)
        found[row["scan_key"]] = (centred[1:] * centred[:-1]).sum() / np.square(centred).sum()
    assert slow
    assert np.mean(list(fast.values())) > np.mean(list(slow.values())) + 0.1


def test_identity__does_not_count_people():
    config = config_of()
    assert config_of({"n_subjects": 9, "n_sessions": 1}).config_hash() == config.config_hash()
    assert config_of({"seed": 1}).config_hash() != config.config_hash()
    assert config_of({"effects": {"age": 0.1}}).config_hash() != config.config_hash()
    read = IngestConfig(output="a", source={"root": "s", "files": "{subject}.csv"}, atlas="cc200")
    assert "synthetic" not in read.identity()
    # what a job is sent has every field written out
    assert IngestConfig.model_validate(config.model_dump(mode="json")) == config


def test_regions__of_a_known_atlas_have_its_names():
    regions = load_regions(config_of({"n_rois": None}, atlas="cc200"), [])
    assert regions.atlas.n_rois == regions.brain.n_rois == 200
    assert regions.atlas.roi_names[0] == "CC200-001"


def test_brain__takes_its_modes_from_a_file(tmp_path):
    names = [f"R{i}" for i in range(12)]
    np.savetxt(tmp_path / "fc.csv", model_connectivity(names) ** 2, delimiter=",")
    config = config_of({"connectivity": str(tmp_path / "fc.csv"), "n_modes": 12})
    modes = load_regions(config, []).brain.modes
    np.testing.assert_allclose(modes @ modes.T, model_connectivity(names) ** 2, atol=1e-9)
    values = draw_scan(draw_person(1, config.synthetic, 12), 1, load_regions(config, []).brain, config.synthetic, 2.0)
    assert values.shape == (40, 12)


def test_brain__fills_up_a_subcortex_that_the_matrix_lacks(tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("\n".join(f"R{i}" for i in range(450)) + "\n")
    np.save(tmp_path / "cortex.npy", model_connectivity([f"R{i}" for i in range(400)]))
    values = {"connectivity": str(tmp_path / "cortex.npy"), "n_rois": None}
    config = config_of(values, atlas="schaefer400_tian_s3", atlas_labels=str(names))
    brain = load_regions(config, []).brain
    assert brain.n_rois == 450
    assert brain.n_modes == 40
    assert np.square(brain.modes[:50]).sum(axis=1).min() > 0.2


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"source": {"kind": "synthetic", "root": "s"}}, "source.root is for scans that are read; source.kind synth"),
        ({"source": {"kind": "synthetic", "task": "x"}}, "source.task is for scans that are read"),
        ({"source": {"kind": "fmriprep"}}, "source.root: name the folder that holds the scans"),
        (
            {"source": {"kind": "fmriprep", "root": "s"}},
            "synthetic is for source.kind synthetic, not fmriprep",
        ),
        ({"participants": "p.tsv"}, "participants: 'p.tsv' is a file; source.kind synthetic reads none"),
        ({"atlas_file": "a.nii.gz"}, "atlas_file: 'a.nii.gz' is a file; source.kind synthetic reads none"),
        ({"t_r": None}, "t_r: give the repetition time of the scans to make up, in seconds"),
        ({"synthetic": {"n_subject": 3}}, r"unknown key 'synthetic.n_subject' \(did you mean 'synthetic.n_subjects'"),
        ({"synthetic": {"n_subjects": 0}}, "synthetic.n_subjects: Input should be greater than or equal to 1, got 0"),
        ({"synthetic": {"kinship": 2}}, "synthetic.kinship: Input should be less than or equal to 1, got 2"),
    ],
)
def test_config__of_made_up_people_refuses(values, message):
    with pytest.raises(ConfigError, match=message):
        IngestConfig.from_mapping(KNOWN | {"synthetic": SMALL} | values, where="run.yaml")


def test_regions__of_made_up_people_refuse_what_does_not_fit(tmp_path):
    with pytest.raises(AtlasError, match=r"atlas 'toy' is unknown: say how many regions to make up \(synthetic.n_rois"):
        load_regions(config_of({"n_rois": None}), [])
    with pytest.raises(AtlasError, match=r"synthetic.n_rois is 12, atlas 'cc200' has 200 regions"):
        load_regions(config_of(atlas="cc200"), [])
    np.save(tmp_path / "fc.npy", np.eye(5))
    with pytest.raises(SourceError, match=r"synthetic.connectivity: .*fc.npy has 5 regions, atlas 'toy' 12"):
        load_regions(config_of({"connectivity": str(tmp_path / "fc.npy")}), [])
    with pytest.raises(SourceError, match=r"synthetic.connectivity: .*none.csv"):
        load_regions(config_of({"connectivity": str(tmp_path / "none.csv")}), [])

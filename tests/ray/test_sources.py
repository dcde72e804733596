"""Ingest from what other tools write: fMRIPrep, XCP-D, CIFTI, UK Biobank, PCP; what cannot be used, and why."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import trees
from boldstream.artifacts.cohort import cohort_tables, iter_timeseries, open_cohort
from boldstream.errors import AtlasError, ConfigError
from boldstream.ingest import IngestConfig, ingest_cohort
from boldstream.storage import Warehouse
from synthetic import ROIS, series

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("cluster")]

SUBJECTS = ("01", "02", "03")


def config_of(root, kind, source=None, **values):
    known = {
        "output": kind,
        "source": {"kind": kind, "root": str(root / "source")} | (source or {}),
        "atlas": "toy",
        "warehouse": str(root / "warehouse"),
        "shard_size": 2,
    }
    return IngestConfig.from_mapping(known | values, where="test")


def write_atlas(root):
    """Write the toy atlas as an image and a table; return the configuration's keys."""
    trees.write_label_volume(root / "toy.nii.gz")
    lines = [f"{i}\t{name}" for i, name in enumerate(ROIS, start=1)]
    (root / "toy.tsv").write_text("\n".join(["index\tname", *lines]) + "\n")
    return {"atlas_file": str(root / "toy.nii.gz"), "atlas_labels": str(root / "toy.tsv")}


def rows_of(config):
    """Return the cohort's rows by subject, with their series."""
    cohort, _ = cohort_tables(Warehouse.at(config.warehouse), config.output)
    table = cohort.iceberg.scan().to_arrow().combine_chunks()
    found = zip(table.drop_columns(["timeseries"]).to_pylist(), iter_timeseries(table), strict=True)
    return {row["subject"]: row | {"values": values} for row, values in found}


def quarantine_of(config):
    _, quarantine = cohort_tables(Warehouse.at(config.warehouse), config.output)
    rows = quarantine.column(["scan_key", "reason", "message"]).to_pylist()
    return {row["scan_key"]: (row["reason"], row["message"]) for row in rows}


def assert_series(rows, written, **tolerances):
    assert rows.keys() == written.keys()
    for subject, row in rows.items():
        np.testing.assert_allclose(row["values"], written[subject], **tolerances)


def test_fmriprep__gives_the_painted_series_and_what_lies_beside_them(tmp_path):
    written = trees.write_fmriprep(tmp_path / "source", SUBJECTS)
    config = config_of(tmp_path, "fmriprep", **write_atlas(tmp_path))
    ref = ingest_cohort(config)
    rows = rows_of(config)
    assert_series(rows, written, rtol=1e-4)
    row = rows["01"]
    assert (row["scan_key"], row["t_r"], row["t_r_original"]) == ("sub-01_task-rest", 2.0, 2.0)
    assert (row["n_timepoints_original"], row["censored"], row["qc_status"]) == (60, None, "keep")
    assert 0.05 < row["mean_fd"] < 0.5
    assert row["qc_mean_fd"] == row["mean_fd"]
    assert row["qc_dvars"] == pytest.approx(1, abs=0.05)  # the confounds' own: 20 / 20
    assert row["qc_min_coverage"] == 1
    assert row["qc_tsnr"] > 1
    assert len(row["qc_fc_sketch"]) == 64
    assert open_cohort(ref.pointer, "").roi_names == ROIS
    page = cohort_tables(Warehouse.at(config.warehouse), "fmriprep")[0].uri.removeprefix("file://")
    assert "fmriprep@1" in Path(f"{page}/versions/v1-qc.html").read_text()
    # the same again: nothing is read; another atlas image under the same name is refused
    assert ingest_cohort(config) == ref


def test_fmriprep__cleaned_and_resampled_keeps_its_original_time_axis(tmp_path):
    trees.write_fmriprep(tmp_path / "source", SUBJECTS, t_r=1.0)
    cleaning = {"confounds": "scrubbing", "dummy_scans": 2, "motion": "basic", "wm_csf": "basic", "scrub": 0}
    config = config_of(tmp_path, "fmriprep", cleaning=cleaning, target_t_r=2.0, **write_atlas(tmp_path))
    ingest_cohort(config)
    for row in rows_of(config).values():
        assert (row["t_r"], row["t_r_original"]) == (2.0, 1.0)
        assert (row["n_timepoints"], row["n_timepoints_original"]) == (29, 60)
        assert len(row["censored"]) >= 1
        assert row["qc_censored_share"] == pytest.approx(len(row["censored"]) / 58)


@pytest.mark.parametrize(("release", "censored"), [("0.6", True), ("0.7.5", False), ("26", True)])
def test_xcpd__keeps_its_time_axis(tmp_path, release, censored):
    written = trees.write_xcpd(tmp_path / "source", SUBJECTS, release, censored=censored, uncovered=(5,))
    source = {"segmentation": "Toy8"}
    config = config_of(tmp_path, "xcpd", source, max_bad_rois=0.2)
    ref = ingest_cohort(config)
    assert open_cohort(ref.pointer, "").roi_names == ROIS
    rows = rows_of(config)
    for subject, row in rows.items():
        assert (row["t_r"], row["n_timepoints_original"], row["censored"]) == (2.0, 60, [2, 3])
        kept = np.delete(np.arange(60), [2, 3])
        good = np.delete(np.arange(8), 5)
        np.testing.assert_allclose(row["values"][np.ix_(kept, good)], written[subject][np.ix_(kept, good)], rtol=1e-4)
        assert row["bad_rois"] == [ROIS[5]]
        assert row["mean_fd"] == pytest.approx(0.1 + SUBJECTS.index(subject) / 100)
        assert row["qc_censored_share"] == pytest.approx(2 / 60)


def test_xcpd__drops_censored_timepoints_where_told(tmp_path):
    written = trees.write_xcpd(tmp_path / "source", SUBJECTS)
    config = config_of(tmp_path, "xcpd", cleaning={"censored": "drop"})
    ingest_cohort(config)
    assert_series(rows_of(config), {key: np.delete(x, [2, 3], axis=0) for key, x in written.items()}, rtol=1e-4)
    with pytest.raises(ConfigError, match="target_t_r: a series with dropped timepoints cannot be resampled"):
        config_of(tmp_path, "xcpd", cleaning={"censored": "drop"}, target_t_r=3.0)


def test_ukb__joins_its_two_tables_subcortex_first(tmp_path):
    written = trees.write_ukb(tmp_path / "source", ["1000001", "1000002"])
    (tmp_path / "names.txt").write_text("\n".join(trees.ukb_names()))
    (tmp_path / "source" / "time_series" / "1000003").mkdir()
    lone = "fMRI.Schaefer17n400p.csv.gz"
    whole = tmp_path / "source" / "time_series"
    (whole / "1000003" / lone).write_bytes((whole / "1000001" / lone).read_bytes())
    config = config_of(tmp_path, "ukb", atlas_labels=str(tmp_path / "names.txt"), t_r=0.735)
    ingest_cohort(config)
    assert_series(rows_of(config), written, rtol=1e-4)
    assert quarantine_of(config)["sub-1000003"][0] == "missing_file"


def test_cifti__is_averaged_over_a_dlabel_or_read_by_parcels(tmp_path):
    written = trees.write_cifti(tmp_path / "source", SUBJECTS)
    dense = config_of(
        tmp_path, "cifti", {"files": "sub-{subject}/func/{rest}.dtseries.nii"}, output="dense",
        atlas_file=str(tmp_path / "source" / "atlas.dlabel.nii"),
    )  # fmt: skip
    ingest_cohort(dense)
    assert_series(rows_of(dense), written, rtol=1e-4)
    assert {row["t_r"] for row in rows_of(dense).values()} == {0.8}
    parcels = config_of(tmp_path, "cifti", {"files": "sub-{subject}/func/{rest}.ptseries.nii"}, output="parcels")
    ref = ingest_cohort(parcels)
    assert_series(rows_of(parcels), written, rtol=1e-4)
    assert open_cohort(ref.pointer, "").roi_names == ROIS
    with pytest.raises(AtlasError, match=r"atlas_file: dense CIFTI series need a .dlabel.nii, not .*toy.nii.gz"):
        ingest_cohort(config_of(tmp_path, "cifti", atlas_file="toy.nii.gz"))


def test_abide__is_joined_by_number_so_that_nobody_is_lost(tmp_path):
    written = trees.write_abide(tmp_path / "source", ["50001", "50002", "50003"])
    (tmp_path / "names.txt").write_text("\n".join(ROIS))
    columns = {"site": "SITE_ID", "age": "AGE_AT_SCAN", "sex": "SEX", "mean_fd": "func_mean_fd"}
    config = config_of(
        tmp_path, "abide", participants=str(tmp_path / "source" / "phenotypic.csv"), participants_key="SUB_ID",
        columns=columns, atlas_labels=str(tmp_path / "names.txt"), t_r=2.0,
    )  # fmt: skip
    ingest_cohort(config)
    rows = rows_of(config)
    assert_series(rows, written, rtol=1e-4)
    assert [rows[key]["age"] for key in sorted(rows)] == [20.5, 21.5, 22.5]


def test_sessions__say_what_changes_between_them(tmp_path):
    for session in ("a", "b"):
        folder = tmp_path / "source" / "sub-01"
        folder.mkdir(parents=True, exist_ok=True)
        np.savetxt(folder / f"sub-01_ses-{session}.csv", series(ord(session)), delimiter=",")
    (tmp_path / "rois.txt").write_text("\n".join(ROIS))
    (tmp_path / "participants.tsv").write_text("participant_id\tsex\tage\nsub-01\tF\t30\nsub-09\tM\t40\n")
    (tmp_path / "source" / "sub-01" / "sessions.tsv").write_text("session_id\tage\tdose\nses-a\tn/a\t1\nses-b\t32\t2\n")
    config = config_of(
        tmp_path, "files", {"files": "sub-{subject}/sub-{subject}_ses-{session}.csv"},
        atlas_labels=str(tmp_path / "rois.txt"), participants=str(tmp_path / "participants.tsv"),
        sessions=f"{tmp_path}/source/sub-{{subject}}/sessions.tsv",
        columns={"site": None, "mean_fd": None},
    )  # fmt: skip
    ref = ingest_cohort(config)
    cohort, _ = cohort_tables(Warehouse.at(config.warehouse), "files")
    rows = cohort.column(["scan_key", "age", "sex", "dose"]).sort_by("scan_key").to_pylist()
    assert [(row["age"], row["sex"], row["dose"]) for row in rows] == [(30.0, "F", 1.0), (32.0, "F", 2.0)]
    assert open_cohort(ref.pointer, "").manifest.content["participants_without_scan"] == ["09"]


def spoil_fmriprep(root):
    """Spoil volumes in every way; return the reason expected of each subject."""
    subjects = ["ok", "gzip", "short", "flat", "space", "length", "nonsense", "away"]
    trees.write_fmriprep(root, subjects)

    def path(subject, kind="desc-preproc_bold.nii.gz"):
        return next((root / f"sub-{subject}").rglob(f"*{kind}"))

    packed = path("gzip").read_bytes()
    path("gzip").write_bytes(packed[: len(packed) // 2])
    raw = gzip.decompress(path("short").read_bytes())
    path("short").write_bytes(gzip.compress(raw[: len(raw) // 2]))
    image = nib.load(path("flat"))
    data = image.get_fdata(dtype=np.float32)
    nib.save(nib.Nifti1Image(data[..., 0], image.affine), path("flat"))
    moved = image.affine.copy()
    moved[:3, 3] += 500
    nib.save(nib.Nifti1Image(data, moved), path("space"))
    table = path("length", "confounds_timeseries.tsv")
    table.write_text("\n".join(table.read_text().splitlines()[:-5]) + "\n")
    path("nonsense", "preproc_bold.json").write_text('{"RepetitionTime": 2000}')
    path("away").unlink()
    path("away", "preproc_bold.json").unlink()
    return {
        "gzip": "unreadable",
        "short": "unreadable",
        "flat": "not_4d",
        "space": "other_space",
        "length": "confounds_length",
        "nonsense": "bad_t_r",
    }


def test_fmriprep__that_cannot_be_used_is_quarantined_with_its_reason(tmp_path):
    reasons = spoil_fmriprep(tmp_path / "source")
    config = config_of(
        tmp_path, "fmriprep", cleaning={"confounds": "simple", "motion": "basic"}, **write_atlas(tmp_path)
    )
    ingest_cohort(config)
    assert rows_of(config).keys() == {"ok"}
    found = quarantine_of(config)
    assert {key: reason for key, (reason, _) in found.items()} == {
        f"sub-{subject}_task-rest": reason for subject, reason in reasons.items()
    }
    assert "30 of 60 volumes" in found["sub-short_task-rest"][1] or "of 60" in found["sub-short_task-rest"][1]
    assert "2000 s is no repetition time" in found["sub-nonsense_task-rest"][1]


def test_quality__rules_over_the_cohort_move_scans_to_quarantine_once(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for i in range(24):
        np.savetxt(source / f"sub-{i:02d}.csv", series(i), delimiter=",")
    np.savetxt(source / "sub-90.csv", series(3), delimiter=",")  # 03 again, under another name
    (tmp_path / "rois.txt").write_text("\n".join(ROIS))
    config = config_of(
        tmp_path, "files", {"files": "sub-{subject}.csv"}, atlas_labels=str(tmp_path / "rois.txt"), shard_size=5,
        quality={"duplicates": "quarantine", "outlier": {}},
    )  # fmt: skip
    ref = ingest_cohort(config)
    assert len(rows_of(config)) == 23
    assert quarantine_of(config).keys() == {"sub-03", "sub-90"}
    assert quarantine_of(config)["sub-90"] == ("cohort_quality", "duplicates: the same time series as sub-03")
    assert ingest_cohort(config) == ref
    assert len(quarantine_of(config)) == 2

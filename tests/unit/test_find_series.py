import pytest

from boldstream.errors import SourceError
from boldstream.ingest.config import SourceConfig
from boldstream.ingest.find import find_scans
from trees import listing, write_abide, write_cifti, write_ukb, write_xcpd

ROOT = "s3://lab/study"
BOLD = "space-A_desc-preproc_bold.nii.gz"
DOUBLE = "two_files_for_one_scan"


def find(kind, paths, **choices):
    return find_scans(SourceConfig(kind=kind, root=ROOT, **choices), paths, ROOT)


def find_tree(kind, root, **choices):
    return find_scans(SourceConfig(kind=kind, root=str(root), **choices), listing(root), f"file://{root}")


def names(scan):
    return {role: uri.rpartition("/")[2] for role, uri in scan.files.items()}


@pytest.mark.parametrize("release", ["0.6", "0.7.5", "26"])
@pytest.mark.parametrize("cifti", [True, False])
def test_xcpd__finds_the_series_of_every_release(tmp_path, release, cifti):
    write_xcpd(tmp_path, ["01", "02"], release, cifti=cifti)
    found = find_tree("xcpd", tmp_path)
    assert [scan.fields["subject"] for scan in found] == ["01", "02"]
    assert [scan.problem for scan in found] == [None, None]
    assert found[0].fields["segmentation"] == "Toy8"
    space = "fsLR" if cifti else "MNI152NLin2009cAsym"
    assert found[0].fields["space"] == space
    files = names(found[0])
    label = {"0.6": "atlas-Toy8", "0.7.5": "seg-Toy8_stat-mean", "26": "atlas-Toy8_stat-mean"}[release]
    assert files.pop("series") == f"sub-01_task-rest_space-{space}_{label}_timeseries.tsv"
    assert ("ptseries" in files) == cifti
    files.pop("ptseries", None)
    assert files == {
        "outliers": "sub-01_task-rest_outliers.tsv",
        "motion": "sub-01_task-rest_motion.tsv",
        "qc": f"sub-01_task-rest_space-{space}_desc-linc_qc.{'csv' if release == '0.6' else 'tsv'}",
        "bold_sidecar": f"sub-01_task-rest_space-{space}_desc-denoised_bold.json",
    }


def test_xcpd__takes_parcellated_series_where_there_is_no_table(tmp_path):
    write_xcpd(tmp_path, ["01"], cifti=True)
    for table in tmp_path.rglob("*_timeseries.tsv"):
        table.unlink()
    (scan,) = find_tree("xcpd", tmp_path)
    assert names(scan)["series"].endswith("_space-fsLR_atlas-Toy8_den-91k_stat-mean_timeseries.ptseries.nii")


def test_xcpd__of_several_atlases_asks_for_one(tmp_path):
    write_xcpd(tmp_path, ["01", "02"], segmentation="4S456Parcels")
    write_xcpd(tmp_path, ["01"], segmentation="Tian")
    with pytest.raises(
        SourceError, match=r"of several atlases; set source.segmentation to one of 4S456Parcels \(2\), Tian \(1\)$"
    ):
        find_tree("xcpd", tmp_path)
    assert [scan.fields["subject"] for scan in find_tree("xcpd", tmp_path, segmentation="Tian")] == ["01"]
    with pytest.raises(SourceError, match=r"none of 3 series in .* has the segmentation '4S456'; there are 4S456Parc"):
        find_tree("xcpd", tmp_path, segmentation="4S456")


def test_xcpd__leaves_other_tables_alone():
    good = "sub-1_task-a_space-A_seg-X_stat-mean_timeseries.tsv"
    others = ["sub-1_task-a_desc-confounds_timeseries.tsv", "sub-1_task-a_space-A_seg-X_stat-alff_timeseries.tsv"]
    others += ["sub-1_task-a_space-A_seg-X_stat-coverage_bold.tsv", "sub-1_task-a_desc-filtered_motion.tsv"]
    (scan,) = find("xcpd", [*others, good])
    assert scan.files == {"series": f"{ROOT}/{good}"}


def test_xcpd__two_tables_of_one_scan_are_a_double():
    made = ["atlas-X", "seg-X_stat-mean"]
    paths = [f"{folder}/sub-1_task-a_space-A_{m}_timeseries.tsv" for m in made for folder in "ab"][1:3]
    (scan,) = find("xcpd", paths)
    assert scan.problem == (DOUBLE, f"{paths[1]} and {paths[0]}; take one of them away")


def test_xcpd__sets_the_series_aside_that_joins_runs():
    stems = ["sub-1_task-a", "sub-1_task-a_run-1", "sub-1_task-a_run-2", "sub-2_task-a", "sub-1_task-b"]
    paths = [f"{stem}_space-A_atlas-X_timeseries.tsv" for stem in stems]
    found = {scan.files["series"].removeprefix(f"{ROOT}/"): scan.problem for scan in find("xcpd", paths)}
    assert found.pop(paths[0]) == (
        "combined_runs",
        f"{paths[0]} joins runs that are there one by one, e.g. {paths[1]}",
    )
    assert set(found.values()) == {None}


def test_cifti__finds_dense_series_and_parcellated_ones_by_segmentation(tmp_path):
    write_cifti(tmp_path, ["01", "02"])
    dense = find_tree("cifti", tmp_path)
    assert names(dense[0]) == {"bold": "sub-01_task-rest_space-fsLR_den-91k_bold.dtseries.nii"}
    assert [scan.fields["subject"] for scan in dense] == ["01", "02"]
    regional = find_tree("cifti", tmp_path, segmentation="Toy8")
    assert names(regional[1]) == {
        "series": "sub-02_task-rest_space-fsLR_den-91k_atlas-Toy8_stat-mean_timeseries.ptseries.nii"
    }


def test_cifti__takes_parcellated_series_where_there_is_nothing_else():
    path = "sub-1_task-a_space-fsLR_atlas-X_den-91k_stat-mean_timeseries.ptseries.nii"
    sidecar = path.replace(".ptseries.nii", ".json")
    assert names(find("cifti", [path, sidecar])[0]) == {"series": path, "sidecar": sidecar}


def test_cifti__of_several_kinds_asks_for_a_template(tmp_path):
    write_cifti(tmp_path, ["01", "02"], desc="denoised")
    write_cifti(tmp_path, ["01", "02"], desc="denoisedSmoothed")
    with pytest.raises(SourceError, match=r"2 of 2 scans .*; name the one you mean with the template source.files$"):
        find_tree("cifti", tmp_path)
    template = "sub-{subject}/func/sub-{subject}_task-{task}_space-fsLR_den-91k_desc-denoised_bold.dtseries.nii"
    found = find_tree("cifti", tmp_path, files=template, task="rest")
    assert [(scan.fields["subject"], *scan.files) for scan in found] == [("01", "bold"), ("02", "bold")]


def test_cifti__of_the_human_connectome_project_fits_a_template():
    path = "100307/MNINonLinear/Results/rfMRI_REST1_LR/rfMRI_REST1_LR_Atlas_MSMAll_hp2000_clean.dtseries.nii"
    template = "{subject}/MNINonLinear/Results/rfMRI_{task}_{run}/rfMRI_{task}_{run}_Atlas_MSMAll_hp2000_clean"
    (scan,) = find("cifti", [path], files=template + ".dtseries.nii")
    assert scan.fields == {"subject": "100307", "task": "REST1", "run": "LR"}


@pytest.mark.parametrize(
    ("folder", "fields"),
    [
        ("1000001", {"subject": "1000001"}),
        ("1000001_2", {"subject": "1000001", "session": "2"}),
        ("1000001_2_0", {"subject": "1000001", "session": "2", "array": "0"}),
        ("1000001_31016_2_0", {"subject": "1000001", "session": "2", "array": "0"}),
        ("1000001_20227", {"subject": "1000001"}),
        ("P-7", {"subject": "P-7"}),
    ],
)
def test_ukb__takes_the_subject_from_the_folder(tmp_path, folder, fields):
    write_ukb(tmp_path, [folder])
    (scan,) = find_tree("ukb", tmp_path)
    assert scan.fields == fields
    assert scan.problem is None
    assert names(scan) == {
        "cortex": "fMRI.Schaefer17n400p.csv.gz",
        "subcortex": "fMRI.Tian_Subcortex_S3_3T.csv.gz",
    }
    (same,) = find_tree("ukb", tmp_path / "time_series" / folder)
    assert same == scan


def test_ukb__with_one_of_two_files_is_a_problem():
    cortex, subcortex = "fMRI.Schaefer17n400p.csv.gz", "fMRI.Tian_Subcortex_S3_3T.csv"
    found = find("ukb", [f"1/{cortex}", f"2/{subcortex}", f"3/{cortex}", f"3/{subcortex}", "3/fMRI.Glasser.csv.gz"])
    assert [scan.problem for scan in found] == [
        ("missing_file", f"1/{cortex} has no fMRI.Tian_Subcortex_S3_3T.csv.gz beside it; both make a scan"),
        ("missing_file", f"2/{subcortex} has no fMRI.Schaefer17n400p.csv.gz beside it; both make a scan"),
        None,
    ]


def test_ukb__twice_is_a_double():
    files = ["fMRI.Schaefer17n400p.csv", "fMRI.Schaefer17n400p.csv.gz", "fMRI.Tian_Subcortex_S3_3T.csv"]
    (scan,) = find("ukb", [f"1/{file}" for file in files])
    assert scan.problem == (DOUBLE, f"1/{files[0]} and 1/{files[1]} and 1/{files[2]}; take one of them away")
    (scan,) = find("ukb", [f"{folder}/1/{file}" for file in files[1:] for folder in "ab"])
    assert scan.problem == (DOUBLE, f"a/1/{files[1]} and b/1/{files[1]}; take one of them away")


def test_abide__tells_the_phenotypes_number_from_the_files_name(tmp_path):
    write_abide(tmp_path, ["50642", "50003"])
    found = find_tree("abide", tmp_path)
    assert [scan.fields for scan in found] == [
        {"subject": number, "file_id": f"Pitt_{number}", "SUB_ID": number.lstrip("0"), "segmentation": "cc200"}
        for number in ("0050003", "0050642")
    ]
    assert names(found[1]) == {"series": "Pitt_0050642_rois_cc200.1D"}
    write_abide(tmp_path, ["50642"], atlas="aal")
    with pytest.raises(SourceError, match=r"set source.segmentation to one of aal \(1\), cc200 \(2\)"):
        find_tree("abide", tmp_path)
    assert len(find_tree("abide", tmp_path, segmentation="aal")) == 1

import pytest

from boldstream.errors import SourceError
from boldstream.ingest.config import SourceConfig
from boldstream.ingest.find import find_scans, template_pattern
from trees import listing, write_abide, write_cifti, write_fmriprep, write_ukb, write_xcpd

ROOT = "s3://lab/study"
BOLD = "space-A_desc-preproc_bold.nii.gz"
DOUBLE = "two_files_for_one_scan"


def find(kind, paths, **choices):
    return find_scans(SourceConfig(kind=kind, root=ROOT, **choices), paths, ROOT)


def find_tree(kind, root, **choices):
    return find_scans(SourceConfig(kind=kind, root=str(root), **choices), listing(root), f"file://{root}")


def names(scan):
    return {role: uri.rpartition("/")[2] for role, uri in scan.files.items()}


def test_files__are_those_of_the_template():
    paths = ["notes.txt", "sub-01/.sub-01_run-2.csv", "sub-01/sub-01_run-1.csv", "sub-01/sub-02_run-1.csv"]
    (scan,) = find("files", paths, files="sub-{subject}/sub-{subject}_run-{run}.csv")
    assert scan.fields == {"subject": "01", "run": "1"}
    assert scan.files == {"series": f"{ROOT}/sub-01/sub-01_run-1.csv"}
    assert scan.problem is None


def test_files__leave_doubles_to_who_knows_the_key():
    found = find("files", ["a_1.csv", "a_2.csv"], files="{subject}_{other}.csv")
    assert [scan.fields["other"] for scan in found] == ["1", "2"]
    assert [scan.problem for scan in found] == [None, None]


def test_files__may_lie_in_folders_that_other_kinds_ignore():
    assert len(find("files", ["sourcedata/a.csv"], files="sourcedata/{subject}.csv")) == 1


def test_template__takes_everything_else_literally():
    pattern = template_pattern("a.b+(c)/{subject}.csv")
    assert pattern.fullmatch("a.b+(c)/01.csv")["subject"] == "01"
    assert not pattern.fullmatch("aXb+(c)/01.csv")
    assert not pattern.fullmatch("a.b+(c)/sub/01.csv")


@pytest.mark.parametrize("old", [True, False])
def test_fmriprep__finds_volumes_with_what_lies_beside(tmp_path, old):
    write_fmriprep(tmp_path, ["01", "02"], old=old)
    found = find_tree("fmriprep", tmp_path)
    assert [scan.fields["subject"] for scan in found] == ["01", "02"]
    assert [scan.problem for scan in found] == [None, None]
    assert found[0].fields["space"] == "MNI152NLin6Asym"
    assert found[0].fields["resolution"] == "2"
    kind = "regressors" if old else "timeseries"
    assert names(found[1]) == {
        "bold": "sub-02_task-rest_space-MNI152NLin6Asym_res-2_desc-preproc_bold.nii.gz",
        "sidecar": "sub-02_task-rest_space-MNI152NLin6Asym_res-2_desc-preproc_bold.json",
        "confounds": f"sub-02_task-rest_desc-confounds_{kind}.tsv",
        "confounds_sidecar": f"sub-02_task-rest_desc-confounds_{kind}.json",
    }
    assert found[1].files["bold"].startswith(f"file://{tmp_path}/sub-02/func/")


def test_fmriprep__matches_confounds_by_session_task_direction_and_run():
    stems = [f"sub-01_ses-{s}_task-rest_dir-{d}_run-{r}" for s in "12" for d in ("AP", "PA") for r in "12"]
    paths = [f"{stem}_{BOLD}" for stem in stems] + [f"{stem}_desc-confounds_timeseries.tsv" for stem in stems]
    found = find("fmriprep", paths)
    assert len(found) == 8
    for scan in found:
        assert names(scan)["bold"].split("_space")[0] == names(scan)["confounds"].split("_desc")[0]


def test_fmriprep__prefers_the_newer_confounds_and_those_in_its_folder():
    tables = ["sub-1_task-a_desc-confounds_regressors.tsv", "sub-1_task-a_desc-confounds_timeseries.tsv"]
    bold = f"func/sub-1_task-a_{BOLD}"
    assert find("fmriprep", [bold, *tables])[0].files["confounds"] == f"{ROOT}/{tables[1]}"
    near = f"func/{tables[0]}"
    assert find("fmriprep", [bold, near, *tables])[0].files["confounds"] == f"{ROOT}/{near}"
    both = [f"a/{tables[1]}", f"b/{tables[1]}"]
    reason, message = find("fmriprep", [bold, *both])[0].problem
    assert reason == DOUBLE
    assert message == f"{bold} has two files of confounds: {both[0]} and {both[1]}; take one away"


def test_fmriprep__without_confounds_has_none():
    assert find("fmriprep", [f"sub-1_task-a_{BOLD}"])[0].files == {"bold": f"{ROOT}/sub-1_task-a_{BOLD}"}


def test_sidecar__is_inherited_from_the_nearest_that_fits():
    bold = f"sub-1/func/sub-1_task-a_{BOLD}"
    fitting = ["task-a_bold.json", "sub-1/sub-1_bold.json", "sub-1/sub-1_task-a_bold.json", bold[:-7] + ".json"]
    others = ["task-b_bold.json", "sub-1/sub-1_task-b_bold.json", "sub-1/func/sub-1_task-a_run-1_bold.json", "T1w.json"]
    others += ["sub-2/sub-2_task-a_bold.json", "sub-1/func/sub-1_task-a_boldref.json"]
    assert "sidecar" not in find("fmriprep", [bold, *others])[0].files
    for i in range(len(fitting)):
        (scan,) = find("fmriprep", [bold, *others, *fitting[: i + 1]])
        assert scan.files["sidecar"] == f"{ROOT}/{fitting[i]}"


def test_fmriprep__ignores_echoes_other_descs_hidden_files_and_folders_without_series():
    good = f"sub-1/func/sub-1_task-a_{BOLD}"
    others = [f"sub-1_task-a_echo-1_{BOLD}", "sub-1_task-a_desc-brain_mask.nii.gz", "sub-1_task-a_bold.nii.gz"]
    others += [f"{folder}/sub-1_task-a_{BOLD}" for folder in ("sourcedata", "x/sourcedata/y", "figures", ".git/annex")]
    others += [f"sub-1/func/._sub-1_task-a_{BOLD}"]
    assert [scan.files["bold"] for scan in find("fmriprep", [*others, good])] == [f"{ROOT}/{good}"]


def two_spaces(*subjects):
    return [f"sub-{s}_task-rest_space-{x}_desc-preproc_bold.nii.gz" for s in subjects for x in "AB"]


def test_choices__keep_what_is_named():
    paths = [*two_spaces("1", "2"), "sub-1_task-nback_space-A_res-2_desc-preproc_bold.nii.gz"]
    found = find("fmriprep", paths, task="rest", space="B")
    assert [(scan.fields["subject"], scan.fields["space"]) for scan in found] == [("1", "B"), ("2", "B")]
    assert len(find("fmriprep", paths, resolution="2")) == 1
    assert len(find("fmriprep", paths, resolution="none", space="A")) == 2


def test_choices__that_nothing_fits():
    with pytest.raises(
        SourceError,
        match=r"^source: none of 4 series in s3://lab/study has the space 'MNI'; there are A \(2\), B \(2\)$",
    ):
        find("fmriprep", two_spaces("1", "2"), space="MNI")
    with pytest.raises(SourceError, match=r"has the resolution '2'; there are none \(2\)"):
        find("fmriprep", two_spaces("1", "2"), space="A", resolution="2")


def test_doubles__of_a_source_ask_for_a_choice():
    with pytest.raises(
        SourceError,
        match=r"^source: 2 of 2 scans in s3://lab/study are there more than once, e.g. "
        r"sub-1_task-rest_space-A_desc-preproc_bold.nii.gz and sub-1_task-rest_space-B_desc-preproc_bold.nii.gz; "
        r"set source.space to one of A, B$",
    ):
        find("fmriprep", two_spaces("1", "2"))
    native = [f"sub-1_task-rest_{made}desc-preproc_bold.nii.gz" for made in ("", "space-A_", "space-A_res-2_")]
    with pytest.raises(SourceError, match=r"space to one of A, none; set source.resolution to one of 2, none"):
        find("fmriprep", native)


def test_doubles__of_one_scan_go_to_quarantine_by_name():
    paths = [*two_spaces("1"), *two_spaces("2")[:1], *two_spaces("3")[:1]]
    found = find("fmriprep", paths)
    assert [(scan.fields["subject"], scan.problem is None) for scan in found] == [("1", 0), ("2", 1), ("3", 1)]
    assert found[0].problem == (DOUBLE, f"{paths[0]} and {paths[1]}; set source.space to one of A, B")


def test_doubles__that_no_choice_tells_apart_are_problems():
    paths = [f"{folder}/sub-1_task-a_{BOLD}" for folder in ("x", "y", "z")]
    (scan,) = find("fmriprep", paths)
    assert scan.problem == (DOUBLE, f"{paths[0]} and {paths[1]} and {paths[2]}; take one of them away")


def test_path__that_contradicts_its_name_is_a_problem():
    path = f"sub-01/func/sub-02_task-a_{BOLD}"
    (scan,) = find("fmriprep", [path])
    assert scan.problem == (
        "contradictory_path",
        f"{path} lies in sub-01 and is named sub-02; rename or move it",
    )


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


@pytest.mark.parametrize(
    ("kind", "looked_for"),
    [
        ("files", r"fits the template '\{subject\}.csv'"),
        ("fmriprep", r"is an fMRIPrep volume \(\*_desc-preproc_bold.nii.gz"),
        ("xcpd", r"is an XCP-D time series \(\*_atlas-\*_timeseries.tsv"),
        ("cifti", "is a CIFTI series"),
        ("ukb", "is a UK Biobank series"),
        ("abide", "is a PCP series"),
    ],
)
def test_source__without_a_file_of_its_kind(kind, looked_for):
    choices = {"files": "{subject}.csv"} if kind == "files" else {}
    with pytest.raises(
        SourceError,
        match=rf"^source: none of the 2 files in s3://lab/study {looked_for}.* \(the first is 'a/notes.txt'\)$",
    ):
        find(kind, ["a/notes.txt", "sub-01_T1w.nii.gz"], **choices)
    with pytest.raises(SourceError, match=r"^source: s3://lab/study holds no files$"):
        find(kind, [], **choices)


def test_files__need_a_template():
    with pytest.raises(SourceError, match=r"kind 'files' needs the template of a scan's path: set source.files$"):
        find("files", ["a.csv"])

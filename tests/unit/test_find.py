import pytest

from boldstream.errors import SourceError
from boldstream.ingest.config import SourceConfig
from boldstream.ingest.find import find_scans, template_pattern
from trees import listing, write_fmriprep

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

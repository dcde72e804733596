import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boldstream.parcellation.bids import parse_name

LABEL = st.text("abcXYZ0123456789+.", min_size=1, max_size=8)
KEYS = ("ses", "task", "acq", "run", "space", "res", "den", "atlas", "seg", "stat", "desc", "hemi", "anything")
EXTENSIONS = (".nii.gz", ".nii", ".ptseries.nii", ".dtseries.nii", ".tsv", ".json", ".tsv.gz", ".1D")


@settings(deadline=None)
@given(
    subject=LABEL,
    labels=st.dictionaries(st.sampled_from(KEYS), LABEL),
    suffix=st.sampled_from(["bold", "timeseries", "T1w"]),
    extension=st.sampled_from(EXTENSIONS),
    folder=st.sampled_from(["", "func/", "a/b_c-d.e/"]),
)
def test_parse__gives_back_what_a_name_was_made_of(subject, labels, suffix, extension, folder):
    entities = {"sub": subject, **labels}
    path = folder + "_".join(f"{key}-{label}" for key, label in entities.items()) + f"_{suffix}{extension}"
    found = parse_name(path)
    assert found == (path, entities, suffix, extension)
    assert list(found.entities) == list(entities)
    assert found.folder == folder.rstrip("/")


@pytest.mark.parametrize(
    "name",
    [
        "participants.tsv",
        "dataset_description.json",
        "sub-01.html",
        "sub-01_bold",
        "bold.nii.gz",
        "sub-01_task_bold.nii.gz",
        "sub-01_task-_bold.nii.gz",
        "sub-01_sub-02_bold.nii.gz",
        "sub-01__bold.nii.gz",
        "_sub-01_bold.nii.gz",
        "sub-01_task-rest_.nii.gz",
        "sub-01_bold.nii.gz/",
        "",
    ],
)
def test_parse__gives_nothing_for_other_names(name):
    assert parse_name(name) is None


def test_parse__takes_subject_and_session_from_the_folders_where_the_name_lacks_them():
    assert parse_name("sub-01/ses-2/func/task-rest_bold.nii.gz").entities == {"task": "rest", "sub": "01", "ses": "2"}
    assert parse_name("sub-01/func/sub-09_task-rest_bold.nii.gz").entities == {"sub": "09", "task": "rest"}
    assert parse_name("sub-01_task-a/x_bold/task-rest_bold.nii.gz").entities == {"task": "rest"}


def test_contradiction__is_a_folder_of_another_subject_or_session():
    assert parse_name("d/sub-01/ses-2/sub-01_ses-2_bold.nii.gz").contradiction() is None
    assert parse_name("sub-01_bold.nii.gz").contradiction() is None
    other = parse_name("sub-01/func/sub-02_bold.nii.gz").contradiction()
    assert other == "lies in sub-01 and is named sub-02"
    assert parse_name("sub-1/ses-1/sub-1_ses-2_bold.nii").contradiction() == "lies in ses-1 and is named ses-2"


def test_fields__have_long_names_and_one_segmentation():
    name = parse_name("sub-01_ses-2_task-rest_dir-AP_run-1_space-X_res-2_desc-preproc_bold.nii.gz")
    assert name.fields() == {
        "subject": "01",
        "session": "2",
        "task": "rest",
        "direction": "AP",
        "run": "1",
        "space": "X",
        "resolution": "2",
        "description": "preproc",
    }
    for entities in ("atlas-A", "seg-A", "atlas-B_seg-A", "seg-A_atlas-B"):
        assert parse_name(f"sub-01_{entities}_timeseries.tsv").fields()["segmentation"] == "A"


def test_scan__is_the_same_for_all_that_was_made_of_one():
    bold = parse_name("sub-01_task-rest_run-1_space-X_cohort-2_res-2_desc-preproc_bold.nii.gz")
    assert bold.scan() == (("run", "1"), ("sub", "01"), ("task", "rest"))
    assert parse_name("sub-01_task-rest_run-1_desc-confounds_timeseries.tsv").scan() == bold.scan()
    assert parse_name("sub-01_task-rest_run-2_desc-confounds_timeseries.tsv").scan() != bold.scan()
    assert parse_name("sub-01_task-rest_dir-AP_run-1_bold.nii.gz").scan() != bold.scan()

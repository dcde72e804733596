import os

import pyarrow as pa
import pytest

from boldstream.errors import ConfigError, SourceError
from boldstream.ingest import IngestConfig
from boldstream.ingest.find import template_pattern
from boldstream.ingest.plan import plan_scans

NO_COLUMNS = {"site": None, "age": None, "sex": None, "mean_fd": None}


@pytest.fixture
def source(tmp_path):
    """Return a function that writes empty scans and a table, and plans them."""

    def plan(files, template, table=None, columns=None, suffix=".tsv", root=tmp_path / "scans", **values):
        for name in files:
            path = tmp_path / "scans" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        if table is not None:
            (tmp_path / f"participants{suffix}").write_text(table)
            values["participants"] = str(tmp_path / f"participants{suffix}")
        known = {"output": "a", "source": {"root": str(root), "files": template}, "atlas": "cc200"}
        config = IngestConfig.from_mapping(known | {"columns": NO_COLUMNS | (columns or {})} | values, where="run.yaml")
        planned = plan_scans(config)
        return planned.scans, planned.phenotypes

    return plan


def test_plan__reads_entities_from_the_path_and_sorts(source, tmp_path):
    found, phenotypes = source(
        [
            "sub-02/ses-1/sub-02_ses-1_task-rest_run-1.csv",
            "sub-01/ses-2/sub-01_ses-2_task-rest_run-10.csv",
            "notes.txt",
        ],
        "sub-{subject}/ses-{session}/sub-{subject}_ses-{session}_task-{task}_run-{run}.csv",
    )
    assert [plan.scan_key for plan in found] == ["sub-01_ses-2_task-rest_run-10", "sub-02_ses-1_task-rest_run-1"]
    assert found[0].values | {"t_r": None} == {
        "subject": "01",
        "session": "2",
        "task": "rest",
        "run": "10",
        "t_r": None,
    }
    assert found[0].source_uri.startswith(f"file://{tmp_path}/scans/sub-01/ses-2/")
    assert phenotypes == {}


def test_plan__needs_a_repeated_field_to_agree(source):
    found, _ = source(["sub-01/sub-01.csv", "sub-01/sub-02.csv"], "sub-{subject}/sub-{subject}.csv")
    assert [plan.scan_key for plan in found] == ["sub-01"]


def test_template__takes_everything_else_literally():
    pattern = template_pattern("a.b+(c)/{subject}.csv")
    assert pattern.fullmatch("a.b+(c)/01.csv")["subject"] == "01"
    assert not pattern.fullmatch("aXb+(c)/01.csv")
    assert not pattern.fullmatch("a.b+(c)/sub/01.csv")


TABLE = "participant_id\tsite\tage\n{a}\tx\t20\n{b}\ty\tn/a\n"


@pytest.mark.parametrize(("a", "b"), [("01", "02"), ("sub-01", "sub-02"), ("sub-01", "02")])
def test_plan__joins_by_participant_with_or_without_prefix(source, a, b):
    found, _ = source(
        ["sub-01.csv", "sub-02.csv"], "sub-{subject}.csv", TABLE.format(a=a, b=b), {"site": "site", "age": "age"}
    )
    assert [(p.values["subject"], p.values["site"], p.values["age"]) for p in found] == [
        ("01", "x", 20.0),
        ("02", "y", None),
    ]
    assert [plan.problem for plan in found] == [None, None]


def test_plan__joins_by_another_key(source):
    table = "file_id\tparticipant_id\tage\nPitt_50003\tsub-7\t24.5\n"
    found, phenotypes = source(
        ["Pitt_50003_rois.1D"], "{file_id}_rois.1D", table, {"age": "age"}, participants_key="file_id"
    )
    (plan,) = found
    assert (plan.scan_key, plan.values["subject"], plan.values["age"]) == ("sub-7", "7", 24.5)
    assert phenotypes == {"file_id": pa.string()}


def test_plan__takes_the_key_for_the_subject_where_the_table_names_none(source):
    found, _ = source(["Pitt_50003_rois.1D"], "{file_id}_rois.1D", "file_id\nPitt_50003\n", participants_key="file_id")
    assert [plan.scan_key for plan in found] == ["sub-Pitt_50003"]


def test_plan__without_a_row_goes_to_quarantine(source):
    found, _ = source(["sub-01.csv", "sub-09.csv"], "sub-{subject}.csv", TABLE.format(a="01", b="02"))
    assert found[0].problem is None
    assert found[1].problem[0] == "no_participants_row"
    assert "participant_id '09' is not in" in found[1].problem[1]


def test_phenotypes__are_typed_by_all_of_their_values(source):
    table = "participant_id\tiq\tgroup\tempty\tcode\nx\t1e2\tasd\tn/a\t007\ny\tNaN\t\t\tn/a\n"
    found, phenotypes = source(["x.csv", "y.csv"], "{subject}.csv", table)
    assert phenotypes == {"iq": pa.float64(), "group": pa.string(), "empty": pa.float64(), "code": pa.float64()}
    assert [(p.values["iq"], p.values["group"], p.values["code"]) for p in found] == [(100.0, "asd", 7.0), (None,) * 3]


def test_known_text_columns__stay_text(source):
    table = "participant_id,SITE_ID,SEX\nx,1,2\n"
    found, _ = source(["x.csv"], "{subject}.csv", table, {"site": "SITE_ID", "sex": "SEX"}, suffix=".csv")
    assert (found[0].values["site"], found[0].values["sex"]) == ("1", "2")


def test_t_r__is_the_tables_then_the_sites_then_the_cohorts(source):
    table = "participant_id\tsite\tRepetitionTime\nx\tA\t0.8\ny\tA\tn/a\nz\tB\t\n"
    files = ["x.csv", "y.csv", "z.csv"]
    columns = {"site": "site", "t_r": "RepetitionTime"}
    found, _ = source(files, "{subject}.csv", table, columns, t_r=2.0, t_r_by_site={"A": 1.5})
    assert [plan.values["t_r"] for plan in found] == [0.8, 1.5, 2.0]
    found, _ = source(files, "{subject}.csv")
    assert [plan.values["t_r"] for plan in found] == [None] * 3


@pytest.mark.parametrize(
    ("table", "values", "message"),
    [
        ("participant_id\tage\nx\told\n", {}, r"participants.tsv, column 'age', row 'x': 'old' is not a number"),
        ("participant_id\tage\nx\t5,3\n", {}, "'5,3' is not a number"),
        ("participant_id\tage\nx\t5_3\n", {}, "'5_3' is not a number"),
        ("participant_id\tage\nx\tinf\n", {}, "'inf' is not a number"),
        (
            "participant_id\tiq\nx\t1\n",
            {},
            r"has no column 'age' \(columns: participant_id, iq\); name the right one un",
        ),
        ("id\tage\nx\t1\n", {}, "has no column 'participant_id'"),
        ("participant_id\tage\nx\t1\nsub-x\t2\n", {}, "has more than one row for participant_id 'x'"),
        ("participant_id\tage\trun\nx\t1\t2\n", {}, "column 'run' of .* has the name of a cohort column; rename it"),
        ("participant_id\tage\nx\t1\t2\n", {}, "is not a table .*Length of header"),
        ("participant_id\tage\nx\t1\ny\t1\t2\n", {}, "is not a table .*Expected 2 fields in line 3, saw 3"),
        ("", {}, r"is not a table \(No columns"),
        ('participant_id\tage\n"x\t1\n', {}, "is not a table"),
        (
            "participant_id\tAGE\tage\nx\t1\t2\n",
            {"columns": {**NO_COLUMNS, "age": "AGE"}},
            "has a column 'age' beside 'AGE', which columns.age names; rename or remove one of them",
        ),
        (
            "participant_id\tage\ttr\nx\t1\t2000\n",
            {"columns": {**NO_COLUMNS, "t_r": "tr"}},
            r"column 't_r', row 'x': 2000 s is no repetition time \(milliseconds\?\)",
        ),
    ],
)
def test_participants__that_cannot_be_used(source, table, values, message):
    with pytest.raises(SourceError, match=message) as caught:
        source(["x.csv"], "{subject}.csv", table, **({"columns": {"age": "age"}} | values))
    assert "\n" not in str(caught.value)


def test_participants__that_are_not_there(source, tmp_path):
    with pytest.raises(SourceError, match=r"participants: .*none.tsv: no such file"):
        source(["x.csv"], "{subject}.csv", participants=str(tmp_path / "none.tsv"))
    (tmp_path / "latin.tsv").write_bytes("participant_id\tcity\nx\tZürich\n".encode("latin-1"))
    with pytest.raises(SourceError, match=r"latin.tsv is not a table .*codec can't decode"):
        source(["x.csv"], "{subject}.csv", participants=str(tmp_path / "latin.tsv"))


def test_participants__with_a_byte_order_mark_and_short_lines(source):
    found, _ = source(["x.csv"], "{subject}.csv", "\ufeffparticipant_id\tage\tiq\nx\t30\n\n", {"age": "age"})
    assert (found[0].values["age"], found[0].values["iq"]) == (30.0, None)


@pytest.mark.parametrize(
    ("files", "template", "message"),
    [
        (
            ["a/x.csv", "b/x.csv"],
            "{where}/{subject}.csv",
            r"two files make the scan 'sub-x': .*a/x.csv and .*b/x.csv; le",
        ),
        (
            ["x.txt"],
            "{subject}.csv",
            r"none of the 1 files in .* fits the template '{subject}.csv' \(the first is 'x.txt'\)",
        ),
        (["-x.csv"], "{subject}.csv", "subject '-x' is no BIDS label"),
        (["a b.csv"], "{subject}.csv", "subject 'a b' is no BIDS label"),
        (["a..b.csv"], "{subject}.csv", r"subject 'a\.\.b' is no BIDS label"),
    ],
)
def test_source__that_cannot_be_used(source, files, template, message):
    with pytest.raises(SourceError, match=message):
        source(files, template)


def test_subject__from_the_table_cannot_leave_the_warehouse(source):
    table = "file_id\tparticipant_id\nx\t../../etc\n"
    with pytest.raises(SourceError, match=r"subject '../../etc' is no BIDS label"):
        source(["x.csv"], "{file_id}.csv", table, participants_key="file_id")


def test_source__that_is_empty_or_missing(source, tmp_path):
    with pytest.raises(SourceError, match=r"source: .*scans: no such folder"):
        source([], "{subject}.csv")
    (tmp_path / "scans").mkdir()
    with pytest.raises(SourceError, match=r"source: .*scans holds no files"):
        source([], "{subject}.csv")
    (tmp_path / "file.csv").touch()
    with pytest.raises(SourceError, match=r"file.csv: is a file; name the folder"):
        source([], "{subject}.csv", root=tmp_path / "file.csv")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"t_r": 2000}, r"run.yaml: t_r: 2000 s is no repetition time \(milliseconds\?\); it is in seconds"),
        ({"t_r_by_site": {"NYU": 720}}, r"t_r_by_site.NYU: 720 s is no repetition time"),
        ({"t_r": 0}, "t_r: 0 s is no repetition time; it is in seconds"),
        ({"source": {"files": "{subject}.nii.gz"}}, r"source.files: '{subject}.nii.gz' must end in one of .1D, .csv"),
        (
            {"source": {"files": "scan.csv"}},
            "source.files: 'scan.csv' has no field {subject}, which names the subject of a scan",
        ),
        ({"source": {"files": "{1}_{subject}.csv"}}, r"files: \{1\} in '.*' is no field"),
        ({"source": {"files": "{}_{subject}.csv"}}, r"files: {} in '.*' is no field"),
        ({"participants_key": "file_id"}, "files: .* has no field {file_id}"),
        ({"source": {"files": "{subject}.mat"}}, "mat_key: name the variable to read from the .mat files"),
        ({"columns": {"age": "x", "mean_fd": "x"}}, "columns: 'x' cannot be two columns at once$"),
        (
            {"participants_key": "site", "source": {"files": "{site}.csv"}},
            "participants_key: 'site' is one of the columns, not a",
        ),
        ({"min_timepoints": 1}, "min_timepoints: Input should be greater than or equal to 2, got 1"),
        ({"max_bad_rois": 1.5}, "max_bad_rois: Input should be less than or equal to 1"),
        ({"source": {"files": None}}, "source.files: give the template of the scans' paths, e.g. sub-{subject}.csv"),
        ({"source": {"kind": "xcpd"}}, "source.files is for source.kind files only, not xcpd"),
        ({"target_t_r": 720}, r"target_t_r: 720 s is no repetition time"),
        (
            {"source": {"orientation": "sideways"}},
            "source.orientation: Input should be 'timepoints_first' or 'rois_first', got 'sideways'",
        ),
    ],
)
def test_ingest_config__refuses(values, message):
    known = {"output": "a", "atlas": "cc200"}
    values = values | {"source": {"root": "s", "files": "{subject}.csv"} | values.get("source", {})}
    with pytest.raises(ConfigError, match=message) as caught:
        IngestConfig.from_mapping(known | values, where="run.yaml")
    assert "\n" not in str(caught.value)


def test_stamp__changes_with_files_and_tables_and_nothing_else(source, tmp_path):
    table = "participant_id\tiq\nsub-1\t100\nsub-2\t90\n"
    files, template = ["sub-1.csv", "sub-2.csv"], "sub-{subject}.csv"

    def stamps(table=table, root=tmp_path / "scans", touch=()):
        for path in (tmp_path / "scans").glob("*.csv"):
            os.utime(path, ns=(1, 2 if path.name in touch else 1))
        return [scan.stamp for scan in source([], template, table, root=root)[0]]

    source(files, template, table)
    first = stamps()
    assert stamps() == first
    (tmp_path / "elsewhere").symlink_to(tmp_path / "scans")
    assert stamps(root=tmp_path / "elsewhere") == first
    assert stamps(table.replace("90", "91"))[0] == first[0]
    assert stamps(table.replace("90", "91"))[1] != first[1]
    assert stamps(touch=["sub-1.csv"])[0] != first[0]
    assert stamps(touch=["sub-1.csv"])[1] == first[1]
    (tmp_path / "scans" / "sub-2.csv").write_text("1")
    assert [old == new for old, new in zip(first, stamps(), strict=True)] == [True, False]

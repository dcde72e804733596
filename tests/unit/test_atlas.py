import pytest

from boldstream.errors import AtlasError
from boldstream.parcellation.atlas import Atlas, check_same, numbered_atlas, read_atlas

ABC = Atlas("abc", ("a", "b", "c"))


def test_check_same__goes_by_names_not_by_the_atlas_name():
    assert check_same(ABC, Atlas("other", ("a", "b", "c")), where="cohort", other="model") is None


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("a", "c", "b"), "same regions, other order; first at region 2, 'c' instead of 'b'"),
        (("a", "b"), "another number of regions, missing 'c'"),
        (("a", "b", "c", "d"), "another number of regions, extra 'd'"),
        (("a", "x", "y"), "other names, missing 'b', 'c'; extra 'x', 'y'"),
        (tuple("uvwxy"), "missing 'a', 'b', 'c'; extra 'u', 'v', 'w' and 2 more"),
    ],
)
def test_check_same__says_what_differs(names, message):
    begin = rf"cohort 'k@1' has atlas 'k' \({len(names)} regions\) but model 'm@2' expects 'abc' \(3\): "
    with pytest.raises(AtlasError, match=begin + f".*{message}.* Ingest again"):
        check_same(Atlas("k", names), ABC, where="cohort 'k@1'", other="model 'm@2'")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "has no regions"),
        (("a", " "), "region 2 has an empty name"),
        (("a", "b", "a"), "region 'a' stands twice, at 1 and 3"),
    ],
)
def test_atlas__refuses_names_that_are_none(names, message):
    with pytest.raises(AtlasError, match=message):
        Atlas("x", names)


def test_numbered_atlas__is_generated_in_order():
    assert numbered_atlas("cc200").roi_names[::199] == ("CC200-001", "CC200-200")
    assert numbered_atlas("aal2_94").roi_names[::93] == ("AAL2-01", "AAL2-94")
    assert numbered_atlas("aal2_94").n_rois == 94
    with pytest.raises(AtlasError, match="atlas 'cc201' is unknown; known: aal2_94, cc200, or give a file"):
        numbered_atlas("cc201")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("l.txt", "a\nb\nc\n"),
        ("l.txt", "name\na\nb\nc\n\n"),
        ("l.csv", "index,name\n1,a\n2,b\n3,c\n"),
        ("l.csv", "0,a\n1,b\n2,c\n"),
        ("l.tsv", "index\tname\n1\ta\n2\tb\n3\tc\n"),
        ("l.tsv", "\ufeffa\nb\nc"),
    ],
)
def test_read_atlas__takes_every_form(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_atlas(tmp_path / name) == Atlas("l", ("a", "b", "c"))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("l.json", "[]", r"come in \.txt, \.csv or \.tsv files, not '\.json'"),
        ("l.txt", "", "l.txt: atlas 'l' has no regions"),
        ("l.txt", "a\n\nb\n", "l.txt: .* region 2 has an empty name"),
        ("l.csv", "a\nb\na\n", "l.csv: .* region 'a' stands twice"),
        ("l.csv", "1,a\n3,b\n", r"indices do not count up by one from 0 or 1 \('1', '3'"),
        ("l.csv", "a\n2,b\n", r"lines have \[1, 2\] columns"),
    ],
)
def test_read_atlas__refuses(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(AtlasError, match=message):
        read_atlas(tmp_path / name)


def test_read_atlas__refuses_what_cannot_be_read(tmp_path):
    with pytest.raises(AtlasError, match="cannot be read"):
        read_atlas(tmp_path / "l.txt")
    (tmp_path / "l.txt").write_bytes(b"\xff\xfe\x00a")
    with pytest.raises(AtlasError, match="is not UTF-8 text"):
        read_atlas(tmp_path / "l.txt")

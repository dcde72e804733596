import gzip
import io

import numpy as np
import pandas as pd
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st

from boldstream.errors import ScanError
from boldstream.parcellation.timeseries import check_regions, judge_series, read_timeseries

VALUES = np.array([[1.5, -2, 3e3], [0, 5.25, -6e-3], [7, 8, 9], [1, 0, -1]], dtype=np.float32)
NAMES = ("left", "mid", "right")


def text(separator, header=None, values=VALUES, end="\n"):
    lines = [separator.join(f"{value:g}" for value in row) for row in values]
    return (end.join([*([header] if header else []), *lines]) + end).encode()


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def mat(**arrays):
    # compressed, as MATLAB writes them: scipy crashes the process on some damaged files without checksums
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, arrays, do_compression=True)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "header"),
    [
        ("a.1D", text("\t"), None),
        ("a.1D", text("  "), None),
        ("a.1D", text("\t", "#1\t#2\t#3"), ("1", "2", "3")),
        ("a.1D", text(" ", "# left mid right"), NAMES),
        ("a.1D", text(" ", "# 3dROIstats -mask a\n# left mid right"), NAMES),
        ("a.1D", text(" ", "# made by AFNI on Monday"), None),
        ("a.1D", text(" ", "left mid right"), NAMES),
        ("a.1D", text("   ", None).replace(b"\n", b"  \n "), None),
        ("a.csv", text(","), None),
        ("a.csv", text(",", end="\r\n"), None),
        ("a.csv", text(",", end="\r"), None),
        ("a.csv", text(",") + b"\n\n", None),
        ("a.csv", text(",", "left,mid,right"), NAMES),
        ("a.csv", text(",", '"left","mid","right"'), NAMES),
        ("a.csv", b"\xef\xbb\xbf" + text(",", "left,mid,right"), NAMES),
        ("a.csv", b"\xef\xbb\xbf" + text(","), None),
        ("a.csv.gz", gzip.compress(text(",", "left,mid,right")), NAMES),
        ("a.tsv", text("\t", "left\tmid\tright"), NAMES),
        ("a.csv_x.tsv", text("\t"), None),
        ("a.tsv.gz", gzip.compress(text("\t")), None),
        ("a.npy", npy(VALUES), None),
        ("a.npy", npy(VALUES.astype(np.float64)), None),
        ("a.npy", npy(np.asfortranarray(VALUES)), None),
        ("a.npy", npy(VALUES.astype(">f4")), None),
        ("a.mat", mat(tc=VALUES, other=np.eye(2)), None),
    ],
)
def test_read__gives_the_same_from_every_format(name, data, header):
    found = read_timeseries(data, name, mat_key="tc")
    np.testing.assert_array_equal(found.values, VALUES)
    assert found.values.dtype == np.float32
    assert found.values.flags.c_contiguous
    assert found.column_names == header


@pytest.mark.parametrize("name", ["a.csv", "a.npy", "a.mat"])
def test_read__turns_what_has_regions_first(name):
    data = {"a.csv": text(",", values=VALUES.T), "a.npy": npy(VALUES.T), "a.mat": mat(tc=VALUES.T)}[name]
    found = read_timeseries(data, name, orientation="rois_first", mat_key="tc")
    np.testing.assert_array_equal(found.values, VALUES)
    assert found.values.flags.c_contiguous


def test_read__takes_the_counted_header_of_a_data_frame_for_a_header():
    values = np.random.default_rng(0).normal(size=(5, 10)).astype(np.float32)
    for index in (range(10), range(1, 11)):
        data = pd.DataFrame(values, columns=list(index)).to_csv(index=False).encode()
        found = read_timeseries(data, "a.csv")
        np.testing.assert_allclose(found.values, values)
        assert found.column_names == tuple(map(str, index))


def test_read__keeps_a_first_timepoint_that_does_not_count():
    data = b"0,1,2,3,4,5,6,8\n" + b"1,2,3,4,5,6,7,8\n" * 2
    assert read_timeseries(data, "a.csv").values.shape == (3, 8)
    assert read_timeseries(b"0,1,2\n3,4,5\n", "a.csv").values.shape == (2, 3)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.csv", b"1,2\n3,oops\n", r"text 'oops' among the numbers \(line 2, column 2\)"),
        ("a.csv", b"left,right\n1,2\n3,4\nn/a?,4\n", r"text 'n/a\?' among the numbers \(line 4, column 1\)"),
        ("a.1D", b"#1 #2\n1 2\n3 x\n", r"text 'x' among the numbers \(line 3, column 2\)"),
        ("a.csv", b"1,2\nTrue,4\n", "text 'True' among the numbers"),
        ("a.csv", b"1,2\n1_0,4\n", "text '1_0' among the numbers"),
        ("a.csv", b'1,2\n"1,5",4\n', "text '1,5' among the numbers"),
        ("a.csv", b"1,2\n3,4,5\n", "Expected 2 fields in line 2, saw 3"),
        ("a.csv", b"", "No columns to parse"),
        ("a.csv", b"left,right\n", "No columns to parse"),
        ("a.csv", "größe,b\n1,2\n".encode("latin-1"), "codec can't decode"),
        ("a.csv", "1,2\n".encode("utf-16"), "codec can't decode"),
        ("a.csv", gzip.compress(b"1,2\n"), "codec can't decode"),
        ("a.csv.gz", b"1,2\n3,4\n", "Not a gzipped file"),
        ("a.csv.gz", gzip.compress(text(","))[:-12], "ended before the end-of-stream marker"),
        ("a.npy", b"", "No data left in file"),
        ("a.npy", npy(VALUES)[:-8], "cannot reshape|EOF|could not be read"),
        ("a.npy", npy(VALUES)[:20], "EOF|Expected|header"),
        ("a.npy", npy(np.array([{"run": "code"}], dtype=object)), "Object arrays cannot be loaded"),
        ("a.npy", npy(np.zeros(5)), r"holds float64 of shape \(5,\), not a table of real numbers"),
        ("a.npy", npy(np.zeros((2, 3, 4))), r"float64 of shape \(2, 3, 4\)"),
        ("a.npy", npy(np.zeros((2, 3), dtype=complex)), "holds complex128"),
        ("a.npy", npy(np.zeros((2, 3), dtype="U4")), "holds <U4"),
        ("a.npy", npy(np.zeros((2, 3), dtype=bool)), "holds bool"),
        ("a.mat", mat(tc=VALUES), r"has no variable 'series' \(variables: tc\); set mat_key"),
        ("a.mat", b"MATLAB 7.3 MAT-file" + b" " * 105 + b"\x00\x02IM", "is a MATLAB 7.3 .HDF5. file; save it with -v7"),
        ("a.mat", mat(series=VALUES)[:150], "unreadable"),
        ("a.mat", b"not a mat file", "unreadable"),
        ("a.mat", mat(series=np.array([["cell"]], dtype=object)), "holds object"),
    ],
)
def test_read__refuses(name, data, message):
    with pytest.raises(ScanError, match=message) as caught:
        read_timeseries(data, name, mat_key="series")
    assert caught.value.reason == "unreadable"
    assert "\n" not in caught.value.message


def test_read__refuses_an_archive_of_arrays():
    buffer = io.BytesIO()
    np.savez(buffer, a=VALUES)
    with pytest.raises(ScanError, match=r"is an .npz archive, not one array; save it with numpy.save"):
        read_timeseries(buffer.getvalue(), "a.npy")


WHOLE = {
    "a.csv": text(",", "left,mid,right"),
    "a.csv.gz": gzip.compress(text(",")),
    "a.1D": text(" ", "#1 #2 #3"),
    "a.npy": npy(VALUES),
    "a.mat": mat(tc=VALUES),
}


@settings(deadline=None, max_examples=150)
@given(
    name=st.sampled_from(sorted(WHOLE)),
    edits=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 12), st.binary(max_size=6)), min_size=1, max_size=4),
)
def test_read__of_a_damaged_file_never_fails_otherwise_than_by_refusing(name, edits):
    data = WHOLE[name]
    for at, length, new in edits:
        at %= len(data) + 1
        data = data[:at] + new + data[at + length :]
    try:
        found = read_timeseries(data, name, mat_key="tc")
        check_regions(found.values, found.column_names, NAMES)
        judge_series(found.values, NAMES, min_timepoints=2, max_bad_rois=0.5)
    except ScanError as error:
        assert error.reason in {"unreadable", "wrong_roi_count", "roi_order", "too_short", "non_finite", "bad_rois"}
    else:
        assert found.values.shape[1] == 3


def judge(values, names=None, min_timepoints=2, max_bad_rois=0.1):
    found = np.asarray(values, np.float32)
    check_regions(found, names, NAMES)
    return judge_series(found, NAMES, min_timepoints=min_timepoints, max_bad_rois=max_bad_rois)


def test_judge__takes_a_good_scan_and_flags_constant_regions():
    assert judge(VALUES) == ()
    assert judge(VALUES * [1, 0, 1], max_bad_rois=0.34) == ("mid",)
    assert judge(VALUES * [1, 0, 1] + 5, max_bad_rois=0.34) == ("mid",)


@pytest.mark.parametrize(
    ("values", "names", "reason", "message"),
    [
        (VALUES[:, :2], None, "wrong_roi_count", "has 2 regions, the atlas 3$"),
        (VALUES[:3].T[:, :2].T.repeat(2, 0)[:3, :2], None, "wrong_roi_count", "set source.orientation"),
        (VALUES, ("mid", "left", "right"), "roi_order", "column 1 is 'mid' where the atlas has 'left'"),
        (VALUES, ("left", "mid", "other"), "roi_order", "column 3 is 'other' where the atlas has 'right'"),
        (VALUES, ("x", "left", "mid", "right"), "roi_order", "its header names 4 regions, its lines have 3"),
        (VALUES[:1], None, "too_short", "has 1 timepoints, fewer than min_timepoints=2"),
        (VALUES * [1, np.nan, 1], None, "non_finite", "4 of 12 values are NaN or infinite, first at timepoint 0, re"),
        (VALUES * [1, 1, np.inf], None, "non_finite", "region right"),
        (VALUES * [1, 0, 0], None, "bad_rois", "2 of 3 regions are constant, more than max_bad_rois=0.1 of them"),
    ],
)
def test_judge__refuses(values, names, reason, message):
    with pytest.raises(ScanError, match=message) as caught:
        judge(values, names)
    assert caught.value.reason == reason


def test_judge__lets_headers_of_another_kind_pass():
    assert judge(VALUES, ("#1", "#2", "#3")) == ()
    assert judge(VALUES, NAMES) == ()


def test_read__of_values_beyond_float32_is_refused_as_not_finite():
    found = read_timeseries(npy(np.array([[1e300, 1, 2], [3, 4, 5.0]])), "a.npy")
    with pytest.raises(ScanError, match="1 of 6 values are NaN or infinite"):
        judge_series(found.values, NAMES, min_timepoints=2, max_bad_rois=0)

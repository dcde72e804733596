import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boldstream.errors import ScanError
from boldstream.parcellation.xcpd import kept_timepoints, read_qc, read_xcpd
from trees import ROIS, write_xcpd

FLAGS = [0, 0, 1, 0, 1]


def outliers(flags, column="framewise_displacement"):
    return "\n".join([column, *map(str, flags), ""]).encode()


def tsv(rows, header="left\tright"):
    return "\n".join([header, *("\t".join(map(str, row)) for row in rows), ""]).encode()


@pytest.mark.parametrize("release", ["0.6", "0.7.5", "26"])
@pytest.mark.parametrize("censored", [True, False])
def test_read__knows_censored_from_interpolated_series(tmp_path, release, censored):
    written = write_xcpd(tmp_path, ["01"], release, censored=censored, uncovered=(5,))["01"]
    folder = tmp_path / "sub-01" / "func"
    (series,) = folder.glob("*_timeseries.tsv")
    (flags,) = folder.glob("*_outliers.tsv")
    found = read_xcpd(series.read_bytes(), flags.read_bytes())
    kept = np.ones(60, dtype=bool)
    kept[[2, 3]] = False
    np.testing.assert_array_equal(found.kept, kept)
    assert found.censored is censored
    assert found.roi_names == ROIS
    assert found.values.dtype == np.float32
    expected = written[kept] if censored else written.copy()
    expected[:, 5] = np.nan
    np.testing.assert_array_equal(found.values, expected)
    (qc,) = folder.glob("*_qc.*")
    measures = read_qc(qc.read_bytes())
    assert measures["mean_fd"] == 0.1
    assert "task" not in measures


def test_read__without_outliers_takes_all_timepoints_as_kept():
    found = read_xcpd(tsv([[1, 2], [3, "n/a"]]), None)
    assert found.kept.tolist() == [True, True]
    assert not found.censored
    np.testing.assert_array_equal(found.values, np.array([[1, 2], [3, np.nan]], dtype=np.float32))


@settings(deadline=None)
@given(st.lists(st.sampled_from([0, 1]), min_size=1, max_size=30))
def test_kept__fits_all_timepoints_or_those_without_outliers(flags):
    for n_timepoints in (len(flags), flags.count(0)):
        assert kept_timepoints(n_timepoints, outliers(flags)).tolist() == [flag == 0 for flag in flags]
    with pytest.raises(ScanError, match="length_mismatch"):
        kept_timepoints(len(flags) + 1, outliers(flags))


def test_kept__looks_at_no_other_column():
    data = b"framewise_displacement\tinterpolation\n0\t1\n1\t1\n"
    assert kept_timepoints(2, data).tolist() == [True, False]


@pytest.mark.parametrize(
    ("series", "flags", "message"),
    [
        (
            tsv([[1, 2]] * 4),
            outliers(FLAGS),
            "^length_mismatch: has 4 timepoints; its outliers tell of 5, of which 3 were kept",
        ),
        (tsv([[1, 2]] * 5), outliers([0, 0, 2, 0, 0]), "^unreadable: outliers must be 0 or 1 in .*, one is 2"),
        (tsv([[1, 2]] * 2), outliers([0, "n/a"]), "^unreadable: outliers must be 0 or 1 in .*, one is nan"),
        (
            tsv([[1, 2]]),
            outliers([0], "fd"),
            r"^unreadable: outliers have no column 'framewise_displacement' \(columns: fd\)",
        ),
        (tsv([[1, 2]]), b"framewise_displacement\n0\t1\n", "^unreadable: outliers: Length of header"),
        (tsv([[1, 2]]), b"", "^unreadable: outliers: No columns to parse"),
        (tsv([[1, 2]]), "größe\n".encode("latin-1"), "^unreadable: outliers: .*can't decode"),
        (tsv([[1, 2], [3, 4]], "0.5\t0.25"), None, "^unreadable: has no header with the regions' names"),
        (tsv([[1, "oops"]]), None, "^unreadable: text 'oops' among the numbers"),
    ],
)
def test_read__of_what_does_not_fit(series, flags, message):
    with pytest.raises(ScanError, match=message):
        read_xcpd(series, flags)


def test_qc__takes_numbers_only_and_the_older_name():
    assert read_qc(b"sub,meanFD,nVolsRemoved,mean_dvars\nx,0.25,0,n/a\n") == {"mean_fd": 0.25, "nVolsRemoved": 0.0}
    assert read_qc(b"sub\tmean_fd\nx\t0.5\n") == {"mean_fd": 0.5}
    assert read_qc(b"mean_fd\n0.5\n") == {"mean_fd": 0.5}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"mean_fd\n0.1\n0.2\n", "^unreadable: quality control has 2 rows; it has one a scan"),
        (b"mean_fd\n", "has 0 rows"),
        (b"", "^unreadable: quality control: No columns"),
    ],
)
def test_qc__of_what_is_no_row(data, message):
    with pytest.raises(ScanError, match=message):
        read_qc(data)


@settings(deadline=None)
@given(st.data())
def test_read__of_damaged_tables_raises_nothing_but_scan_errors(data):
    tables = [tsv([[1, 2.5], [3, "n/a"]]), outliers([0, 1]), b"sub\tmean_fd\nx\t0.5\n"]
    damaged = [bytearray(table) for table in tables]
    for table in damaged:
        for at in data.draw(st.lists(st.integers(0, len(table) - 1), max_size=4)):
            table[at] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ScanError):
        assert len(read_xcpd(bytes(damaged[0]), bytes(damaged[1])).kept) > 0
    with contextlib.suppress(ScanError):
        assert isinstance(read_qc(bytes(damaged[2])), dict)

import contextlib
import gzip

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boldstream.errors import ScanError
from boldstream.parcellation.ukb import read_ukb
from trees import ukb_file, ukb_names, write_ukb

NAMES = ukb_names()
T = 9
VALUES = np.random.default_rng(0).normal(size=(T, 450)).astype(np.float32)


def table(values, *, names=None, first=None, header=None):
    """Write regions in rows; `first` heads the column of names."""
    rows = [",".join(repr(float(value)) for value in row) for row in values.T]
    if names is not None:
        rows = [f"{name},{row}" for name, row in zip(names, rows, strict=True)]
    if header is not None:
        rows.insert(0, ",".join([*([first] if names is not None else []), *header]))
    return ("\n".join(rows) + "\n").encode()


def read(values=VALUES, names=NAMES, **kinds):
    lower = None if names is None else names[:50]
    upper = None if names is None else names[50:]
    return read_ukb(table(values[:, :50], names=lower, **kinds), table(values[:, 50:], names=upper, **kinds))


def test_read__joins_the_subcortex_before_the_cortex(tmp_path):
    values = write_ukb(tmp_path, ["1000001_2_0"])["1000001_2_0"]
    folder = tmp_path / "time_series" / "1000001_2_0"
    found = read_ukb(
        (folder / "fMRI.Tian_Subcortex_S3_3T.csv.gz").read_bytes(),
        (folder / "fMRI.Schaefer17n400p.csv.gz").read_bytes(),
    )
    np.testing.assert_array_equal(found.values, values)
    assert found.values.dtype == np.float32
    assert found.values.flags.c_contiguous
    assert found.roi_names == NAMES


@pytest.mark.parametrize(
    "kinds",
    [
        {"first": "label_name", "header": [f"timepoint_{t}" for t in range(T)]},
        {"first": "label_name", "header": [str(t) for t in range(T)]},
        {"first": "", "header": [str(t + 1) for t in range(T)]},
        {"first": '"label"', "header": [f'"{t}"' for t in range(T)]},
        {},
    ],
)
def test_read__takes_labels_with_and_without_a_header(kinds):
    found = read(**kinds)
    np.testing.assert_array_equal(found.values, VALUES)
    assert found.roi_names == NAMES


@pytest.mark.parametrize(
    "kinds", [{"header": [f"timepoint_{t}" for t in range(T)]}, {"header": [str(t) for t in range(T)]}, {}]
)
def test_read__takes_tables_without_labels(kinds):
    found = read(names=None, **kinds)
    np.testing.assert_array_equal(found.values, VALUES)
    assert found.roi_names is None


def test_read__takes_numbers_for_labels_where_the_header_says_so():
    found = read(names=[str(i) for i in range(450)], first="label_id", header=[f"t{t}" for t in range(T)])
    np.testing.assert_array_equal(found.values, VALUES)
    assert found.roi_names[:2] == ("0", "1")


def test_read__keeps_what_is_missing_as_nan():
    lower = table(VALUES[:, :50], names=NAMES[:50]).replace(b"S0-rh," + repr(float(VALUES[0, 0])).encode(), b"S0-rh,")
    found = read_ukb(lower, table(VALUES[:, 50:], names=NAMES[50:]))
    assert np.argwhere(np.isnan(found.values)).tolist() == [[0, 0]]


SHORT = ukb_file(VALUES[1:, :50], NAMES[:50])
LOWER, UPPER = ukb_file(VALUES[:, :50], NAMES[:50]), ukb_file(VALUES[:, 50:], NAMES[50:])


@pytest.mark.parametrize(
    ("lower", "upper", "message"),
    [
        (UPPER, LOWER, "^wrong_roi_count: the subcortex has 400 rows of regions, not 50"),
        (LOWER, LOWER, "^wrong_roi_count: the cortex has 50 rows of regions, not 400"),
        (
            ukb_file(VALUES[1:, :50], NAMES[:50]),
            UPPER,
            "^length_mismatch: the subcortex has 8 timepoints, the cortex 9",
        ),
        (table(VALUES[:, :50]), UPPER, "^unreadable: only one of subcortex and cortex has a column of labels"),
        (LOWER[:-20], UPPER, "^unreadable: subcortex: .*end-of-stream"),
        (LOWER, b"", "^unreadable: cortex: "),
        (LOWER, b"label_name,t0\n", "^unreadable: cortex: No columns to parse"),
        (LOWER, "größe,1\n".encode("latin-1"), "^unreadable: cortex: .*can't decode"),
        (LOWER, b"a,1,2\nb,3,4,5\n", "^unreadable: cortex: .*Expected 3 fields"),
        (LOWER, b"a,1,2\nb,3,oops\n", "^unreadable: cortex: text 'oops' among the numbers of timepoint 2"),
        (LOWER, b"1,2\noops,3\n", "^unreadable: cortex: text 'oops' among the numbers of timepoint 1"),
        (LOWER, b"a,1,2\nb,3,1_0\n", "^unreadable: cortex: text '1_0' among the numbers"),
        (LOWER, b"a,1,2\nb,3,True\n", "^unreadable: cortex: text 'True' among the numbers"),
        (LOWER, b"a,1,True\nb,3,True\n" * 3, "^unreadable: cortex: text 'True' among the numbers"),
        (LOWER, b"a\nb\n", "^wrong_roi_count: the cortex has 2 rows"),
    ],
)
def test_read__of_what_is_no_pair_of_tables(lower, upper, message):
    with pytest.raises(ScanError, match=message):
        read_ukb(lower, upper)


def test_read__takes_tables_that_are_not_zipped():
    np.testing.assert_array_equal(read_ukb(gzip.decompress(LOWER), UPPER).values, VALUES)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_read__of_damaged_tables_raises_nothing_but_scan_errors(data):
    damaged = bytearray(data.draw(st.sampled_from([LOWER, gzip.decompress(LOWER)])))
    for at in data.draw(st.lists(st.integers(0, len(damaged) - 1), max_size=4)):
        damaged[at] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ScanError):
        assert read_ukb(bytes(damaged), UPPER).values.shape == (T, 450)

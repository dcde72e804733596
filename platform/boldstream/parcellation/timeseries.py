"""Read time series that somebody else has parcellated, and judge whether a scan can be used."""

import csv
import io
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import scipy.io
from numpy.typing import NDArray
from scipy.io.matlab import MatReadError

from boldstream.errors import ScanError, first_line
from boldstream.unpack import check_mat, unpack_gzip

Orientation = Literal["timepoints_first", "rois_first"]
SUFFIXES = (".1D", ".csv", ".csv.gz", ".tsv", ".tsv.gz", ".npy", ".mat")
SEPARATORS = {"1D": r"\s+", "csv": ",", "tsv": "\t"}
COUNTED_HEADER = 8
"""From so many columns on, a first line that counts 0, 1, 2, … or 1, 2, 3, … is a header, not a timepoint."""

UNREADABLE = (
    ArithmeticError,
    EOFError,
    LookupError,
    MatReadError,
    MemoryError,
    OSError,
    TypeError,
    ValueError,
    csv.Error,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What numpy, pandas and scipy raise on damaged files (found by feeding them such files)."""


@dataclass(frozen=True)
class ParcellatedSeries:
    """One scan's series as found in a file.

    Attributes
    ----------
    values : array, shape (n_timepoints, n_rois), float32
    column_names : tuple of str or None
        The header of a text file, without quotes and a leading ``#``.
    """

    values: NDArray[np.float32]
    column_names: tuple[str, ...] | None


def read_timeseries(
    data: bytes, name: str, *, orientation: Orientation = "timepoints_first", mat_key: str | None = None
) -> ParcellatedSeries:
    """Read the parcellated time series in a file's bytes.

    Parameters
    ----------
    data : bytes
        The file's content.
    name : str
        Its name; the ending says the format: ``.1D`` (blanks or tabs), ``.csv``, ``.tsv`` (both also ``.gz``),
        ``.npy``, ``.mat`` (MATLAB up to version 7). Text files may begin with comment lines (``#``) and a header
        line, of names or of the numbers from 0 or 1.
    orientation : {"timepoints_first", "rois_first"}
        Meaning of the file's rows.
    mat_key : str, optional
        Variable in a ``.mat`` file.

    Raises
    ------
    ScanError
        ``unreadable`` if the content is not what the ending says, has text among the numbers, or is not a
        two-dimensional array, or if it unpacks to more than `unpack.LARGEST` bytes.
    """
    try:
        if name.endswith(".gz"):
            data, name = unpack_gzip(data), name.removesuffix(".gz")
        if name.endswith(".npy"):
            values, header = _read_npy(data), None
        elif name.endswith(".mat"):
            values, header = _read_mat(data, mat_key), None
        else:
            values, header = _read_text(data, SEPARATORS[name.rpartition(".")[2]])
    except UNREADABLE as error:
        raise ScanError("unreadable", first_line(error)) from None
    if values.ndim != 2 or not np.issubdtype(values.dtype, np.number) or np.iscomplexobj(values):
        raise ScanError("unreadable", f"holds {values.dtype} of shape {values.shape}, not a table of real numbers")
    if orientation == "rois_first":
        values, header = values.T, None
    with np.errstate(over="ignore"):
        return ParcellatedSeries(np.ascontiguousarray(values, dtype=np.float32), header)


def _read_npy(data: bytes) -> NDArray[np.number]:
    """Return the array of a .npy file."""
    found = np.load(io.BytesIO(data), allow_pickle=False)
    if not isinstance(found, np.ndarray):
        raise ValueError("is an .npz archive, not one array; save it with numpy.save")
    return found


def _read_mat(data: bytes, key: str | None) -> NDArray[np.number]:
    """Return one variable of a MATLAB file."""
    check_mat(data)
    try:
        found = scipy.io.loadmat(io.BytesIO(data))
    except NotImplementedError:
        raise ValueError("is a MATLAB 7.3 (HDF5) file; save it with -v7") from None
    names = [name for name in found if not name.startswith("__")]
    if key is None or key not in found:
        raise ValueError(f"has no variable {key!r} (variables: {', '.join(names)}); set mat_key")
    return np.asarray(found[key])


def _read_text(data: bytes, separator: str) -> tuple[NDArray[np.float64], tuple[str, ...] | None]:
    """Return the numbers of a text table, and its header line if there is one."""
    lines = data.decode("utf-8-sig").splitlines()
    n_comments = next((i for i, line in enumerate(lines) if not line.lstrip().startswith("#")), len(lines))
    header, n_skipped = None, n_comments
    if n_comments:
        # PCP's 1D files begin with `#1 #2 …`, AFNI's with comments; the last of these lines may be the header.
        header = _fields(lines[n_comments - 1].lstrip().removeprefix("#"), separator)
    elif lines and _is_header(first := _fields(lines[0], separator)):
        header, n_skipped = first, 1
    frame = pd.read_csv(io.StringIO("\n".join(lines[n_skipped:])), sep=separator, header=None)
    for column in frame.columns:
        if not pd.api.types.is_numeric_dtype(frame[column]) or pd.api.types.is_bool_dtype(frame[column]):
            _refuse_text(frame[column], n_skipped)
    if header and len(header) != frame.shape[1] and n_comments:
        header = None  # a comment
    return frame.to_numpy(dtype=np.float64), header


def _fields(line: str, separator: str) -> tuple[str, ...]:
    """Split a header line; quotes and every field's leading ``#`` go."""
    fields = line.replace('"', "").split() if separator == r"\s+" else next(csv.reader([line], delimiter=separator), [])
    return tuple(field.strip().lstrip("#") for field in fields)


def _is_header(fields: tuple[str, ...]) -> bool:
    """Say whether a first line names the columns: by words, or by the numbers that pandas writes for lack of names."""
    return not all(map(is_number, fields)) or is_counted(fields)


def is_counted(fields: Sequence[str]) -> bool:
    """Say whether a line numbers its columns from 0 or 1, as pandas does for lack of names."""
    counted = [[str(i) for i in range(first, first + len(fields))] for first in (0, 1)]
    return len(fields) >= COUNTED_HEADER and list(fields) in counted


def _refuse_text(column: "pd.Series[Any]", n_skipped: int) -> None:
    """Name the first text in a column that must hold numbers, by its line in the file."""
    for row, value in enumerate(column):
        if isinstance(value, (str, bool)) and not is_number(str(value)):
            line = f"line {row + n_skipped + 1}, column {int(str(column.name)) + 1}"
            raise ValueError(f"text {str(value)!r} among the numbers ({line})")


def is_number(text: str) -> bool:
    """Say whether a field of a table is a number, or empty."""
    try:
        float(text)
    except ValueError:
        return text == ""
    return "_" not in text


def judge_series(
    values: NDArray[np.float32], roi_names: tuple[str, ...], *, min_timepoints: int, max_bad_rois: float
) -> tuple[str, ...]:
    """Return the regions without signal of a usable scan.

    A region is bad where its series is constant (all-zero ones included).

    Parameters
    ----------
    values : array, shape (n_timepoints, n_rois), float32
    roi_names : tuple of str
        The atlas's regions in order.
    min_timepoints : int
        Shorter scans are refused.
    max_bad_rois : float
        Largest usable share of bad regions, 0 to 1.

    Raises
    ------
    ScanError
        ``too_short``, ``non_finite`` or ``bad_rois``, with the values.
    """
    n_timepoints, n_rois = values.shape
    if n_timepoints < min_timepoints:
        raise ScanError("too_short", f"has {n_timepoints} timepoints, fewer than min_timepoints={min_timepoints}")
    finite = np.isfinite(values)
    if not finite.all():
        where = np.argwhere(~finite)
        t, r = where[0]
        raise ScanError(
            "non_finite",
            f"{len(where)} of {finite.size} values are NaN or infinite, first at timepoint {t}, region {roi_names[r]}",
        )
    bad = tuple(roi_names[i] for i in np.flatnonzero(np.ptp(values, axis=0) == 0))
    if len(bad) > max_bad_rois * n_rois:
        raise ScanError(
            "bad_rois",
            f"{len(bad)} of {n_rois} regions are constant, more than max_bad_rois={max_bad_rois:g} of them",
        )
    return bad


def check_regions(values: NDArray[np.float32], names: tuple[str, ...] | None, roi_names: tuple[str, ...]) -> None:
    """Refuse a series of another number of regions, or one that names the atlas's in another order, or others of them.

    Parameters
    ----------
    values : array, shape (n_timepoints, n_rois)
    names : tuple of str or None
        Regions as the file names them; names that have nothing to do with the atlas's are not judged.
    roi_names : tuple of str
        The atlas's regions in order.

    Raises
    ------
    ScanError
        ``wrong_roi_count`` or ``roi_order``, with the values.
    """
    n_timepoints, n_rois = values.shape
    if n_rois != len(roi_names):
        turned = n_timepoints == len(roi_names)
        hint = "; the file has the atlas's count in its rows: set source.orientation" if turned else ""
        raise ScanError("wrong_roi_count", f"has {n_rois} regions, the atlas {len(roi_names)}{hint}")
    if names is None or names == roi_names or not set(names) & set(roi_names):
        return
    if len(names) != len(roi_names):
        raise ScanError("roi_order", f"its header names {len(names)} regions, its lines have {len(roi_names)}")
    at = next(i for i, (ours, theirs) in enumerate(zip(roi_names, names, strict=True)) if ours != theirs)
    raise ScanError("roi_order", f"column {at + 1} is {names[at]!r} where the atlas has {roi_names[at]!r}")

"""Read time series that somebody else has parcellated, and judge whether a scan can be used."""

import gzip
import io
import struct
import zlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import scipy.io
from numpy.typing import NDArray
from scipy.io.matlab import MatReadError

from boldstream.errors import ScanError

Orientation = Literal["timepoints_first", "rois_first"]
SUFFIXES = (".1D", ".csv", ".csv.gz", ".tsv", ".tsv.gz", ".npy", ".mat")


@dataclass(frozen=True)
class ParcellatedSeries:
    """One scan's series as found in a file.

    Attributes
    ----------
    values : array, shape (n_timepoints, n_rois), float32
    column_names : tuple of str or None
        The header of a text file with one column a region, without leading ``#``.
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
        ``.npy``, ``.mat`` (MATLAB up to version 7). Text files may begin with a header line.
    orientation : {"timepoints_first", "rois_first"}
        Meaning of the file's rows.
    mat_key : str, optional
        Variable in a ``.mat`` file.

    Raises
    ------
    ScanError
        ``unreadable`` if the content is not what the ending says, has text among the numbers, or is not a
        two-dimensional array.
    """
    try:
        if name.endswith(".gz"):
            data, name = gzip.decompress(data), name.removesuffix(".gz")
        if name.endswith(".npy"):
            values, header = np.load(io.BytesIO(data), allow_pickle=False), None
        elif name.endswith(".mat"):
            values, header = _read_mat(data, mat_key), None
        else:
            values, header = _read_text(data, r"\s+" if name.endswith(".1D") else "," if ".csv" in name else "\t")
    except (EOFError, OSError, zlib.error, struct.error, ValueError, TypeError, MatReadError) as error:
        raise ScanError("unreadable", f"{_first_line(error)}") from None
    if values.ndim != 2 or not np.issubdtype(values.dtype, np.number) or np.iscomplexobj(values):
        raise ScanError("unreadable", f"holds {values.dtype} of shape {values.shape}, not a table of real numbers")
    if orientation == "rois_first":
        values, header = values.T, None
    with np.errstate(over="ignore"):
        return ParcellatedSeries(np.ascontiguousarray(values, dtype=np.float32), header)


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__


def _read_mat(data: bytes, key: str | None) -> NDArray[np.number]:
    """Return one variable of a MATLAB file."""
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
    text = data.decode("utf-8-sig")
    first, _, rest = text.partition("\n")
    fields = [field.strip().lstrip("#") for field in (first.split() if separator == r"\s+" else first.split(separator))]
    # PCP's 1D files begin with `#1 #2 …`: numbers to the eye, but a header.
    header = tuple(fields) if first.lstrip().startswith("#") or not all(map(_is_number, fields)) else None
    body = rest if header else text
    frame = pd.read_csv(io.StringIO(body), sep=separator, header=None, skip_blank_lines=True)
    for column in frame.columns:
        if not pd.api.types.is_numeric_dtype(frame[column]):
            numbers = pd.to_numeric(frame[column], errors="coerce")
            row = int(np.flatnonzero(numbers.isna() & frame[column].notna())[0])
            line = row + (2 if header else 1)
            raise ValueError(
                f"text {frame[column].iloc[row]!r} among the numbers (line {line}, column {int(column) + 1})"
            )
    return frame.to_numpy(dtype=np.float64), header


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text == ""
    return True


def judge_series(
    series: ParcellatedSeries, roi_names: tuple[str, ...], *, min_timepoints: int, max_bad_rois: float
) -> tuple[str, ...]:
    """Return the regions without signal of a usable scan.

    A region is bad where its series is constant (all-zero ones included).

    Parameters
    ----------
    series : ParcellatedSeries
    roi_names : tuple of str
        The atlas's regions in order.
    min_timepoints : int
        Shorter scans are refused.
    max_bad_rois : float
        Largest usable share of bad regions, 0 to 1.

    Raises
    ------
    ScanError
        ``wrong_roi_count``, ``roi_order``, ``too_short``, ``non_finite`` or ``bad_rois``, with the values.
    """
    n_timepoints, n_rois = series.values.shape
    if n_rois != len(roi_names):
        hint = "; the file has the atlas's count in its rows: set orientation" if n_timepoints == len(roi_names) else ""
        raise ScanError("wrong_roi_count", f"has {n_rois} regions, the atlas {len(roi_names)}{hint}")
    _judge_header(series.column_names, roi_names)
    if n_timepoints < min_timepoints:
        raise ScanError("too_short", f"has {n_timepoints} timepoints, fewer than min_timepoints={min_timepoints}")
    finite = np.isfinite(series.values)
    if not finite.all():
        where = np.argwhere(~finite)
        t, r = where[0]
        raise ScanError(
            "non_finite",
            f"{len(where)} of {finite.size} values are NaN or infinite, first at timepoint {t}, region {roi_names[r]}",
        )
    bad = tuple(roi_names[i] for i in np.flatnonzero(np.ptp(series.values, axis=0) == 0))
    if len(bad) > max_bad_rois * n_rois:
        raise ScanError(
            "bad_rois",
            f"{len(bad)} of {n_rois} regions are constant, more than max_bad_rois={max_bad_rois:g} of them",
        )
    return bad


def _judge_header(names: tuple[str, ...] | None, roi_names: tuple[str, ...]) -> None:
    """Refuse a file whose header names the atlas's regions in another order, or other regions of that kind."""
    if names is None or names == roi_names or not set(names) & set(roi_names):
        return
    at = next(i for i, (ours, theirs) in enumerate(zip(roi_names, names, strict=True)) if ours != theirs)
    raise ScanError("roi_order", f"column {at + 1} is {names[at]!r} where the atlas has {roi_names[at]!r}")

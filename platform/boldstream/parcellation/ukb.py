"""Read UK Biobank's regional series: a table of the cortex and one of the subcortex, regions in rows."""

import csv
import io
import re
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from boldstream.errors import ScanError
from boldstream.parcellation.timeseries import UNREADABLE, is_counted, is_number
from boldstream.unpack import unpack_gzip

N_REGIONS = {"subcortex": 50, "cortex": 400}
LABEL_COLUMN = re.compile(r"|(label|roi|region|parcel|name|index|id\b|unnamed).*", re.IGNORECASE)


@dataclass(frozen=True)
class UkbSeries:
    """One scan's regional series, subcortex first.

    Attributes
    ----------
    values : array, shape (n_timepoints, 450), float32
        Tian's 50 regions (scale S3), then Schaefer's 400 in the order of 17 networks.
    roi_names : tuple of str or None
        The tables' labels; None where neither has any.
    """

    values: NDArray[np.float32]
    roi_names: tuple[str, ...] | None


def read_ukb(subcortex: bytes, cortex: bytes) -> UkbSeries:
    """Read the two tables of a scan and join them, subcortex first.

    Parameters
    ----------
    subcortex : bytes
        ``fMRI.Tian_Subcortex_S3_3T.csv.gz``, gzipped or not: regions in rows, with or without a first column of labels
        and a header.
    cortex : bytes
        ``fMRI.Schaefer17n400p.csv.gz``, likewise.

    Raises
    ------
    ScanError
        ``unreadable``, ``wrong_roi_count``, or ``length_mismatch`` where they differ in timepoints.
    """
    below, below_names = _read_part(subcortex, "subcortex")
    above, above_names = _read_part(cortex, "cortex")
    if below.shape[1] != above.shape[1]:
        raise ScanError(
            "length_mismatch", f"the subcortex has {below.shape[1]} timepoints, the cortex {above.shape[1]}"
        )
    if (below_names is None) != (above_names is None):
        raise ScanError("unreadable", "only one of subcortex and cortex has a column of labels")
    names = (*below_names, *above_names) if below_names and above_names else None
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(np.concatenate([below, above]).T, dtype=np.float32)
    return UkbSeries(values, names)


def _read_part(data: bytes, part: str) -> tuple[NDArray[np.float64], tuple[str, ...] | None]:
    """Return one table's numbers (n_rois, n_timepoints) and labels."""
    try:
        values, names = _read_rows(unpack_gzip(data) if data.startswith(b"\x1f\x8b") else data)
    except UNREADABLE as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ScanError("unreadable", f"{part}: {reason}") from None
    if len(values) != N_REGIONS[part]:
        raise ScanError("wrong_roi_count", f"the {part} has {len(values)} rows of regions, not {N_REGIONS[part]}")
    return values, names


def _read_rows(data: bytes) -> tuple[NDArray[np.float64], tuple[str, ...] | None]:
    """Return the numbers and the labels of a table with regions in rows."""
    text = data.decode("utf-8-sig")
    first = next(csv.reader([text.partition("\n")[0]]), [])
    header = not all(map(is_number, first[1:])) or is_counted(first) or is_counted(first[1:])
    frame = pd.read_csv(io.StringIO(text), header=None, skiprows=int(header))
    labels = None
    if (header and LABEL_COLUMN.fullmatch(first[0].strip())) or not any(is_number(str(v)) for v in frame[0]):
        labels = tuple(str(label).strip() for label in frame[0])
        frame = frame.drop(columns=0)
    for at, column in enumerate(frame, start=1):
        if not pd.api.types.is_numeric_dtype(frame[column]) or pd.api.types.is_bool_dtype(frame[column]):
            wrong = next((str(value) for value in frame[column] if not is_number(str(value))), "True")
            raise ValueError(f"text {wrong!r} among the numbers of timepoint {at}")
    return frame.to_numpy(dtype=np.float64), labels

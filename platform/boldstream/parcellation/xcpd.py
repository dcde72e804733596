"""Read what XCP-D writes: regional series, outliers, quality control."""

import io
import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from boldstream.errors import ScanError
from boldstream.parcellation.timeseries import UNREADABLE, read_timeseries

OUTLIER_COLUMN = "framewise_displacement"

QC_NAMES = {"meanFD": "mean_fd"}
"""Quality measures that releases before 0.7 call otherwise."""


@dataclass(frozen=True)
class XcpdSeries:
    """One scan's regional series.

    Attributes
    ----------
    values : array, shape (n_timepoints, n_rois), float32
        Without the outliers where XCP-D censored the series (mode linc), with interpolated values in their place
        otherwise (abcd, hbcd). A region that the image covers too little is NaN.
    roi_names : tuple of str
        The table's header.
    kept : array of bool, shape (all timepoints,)
        False where XCP-D took a timepoint for an outlier. `values` has a row for each of these timepoints, or for each
        that was kept.
    """

    values: NDArray[np.float32]
    roi_names: tuple[str, ...]
    kept: NDArray[np.bool_]

    @property
    def censored(self) -> bool:
        """Whether the outliers are left out of `values`."""
        return len(self.values) < len(self.kept)


def read_xcpd(data: bytes, outliers: bytes | None) -> XcpdSeries:
    """Read a series of regions with its time axis.

    Parameters
    ----------
    data : bytes
        ``*_timeseries.tsv``, with region names in its header and ``n/a`` for what is not covered.
    outliers : bytes or None
        ``*_outliers.tsv`` of the scan; without it no timepoint is known to be an outlier, or to be missing.

    Raises
    ------
    ScanError
        ``unreadable``, or ``length_mismatch`` where the series has neither all timepoints nor those that were kept.
    """
    found = read_timeseries(data, "timeseries.tsv")
    if found.column_names is None:
        raise ScanError("unreadable", "has no header with the regions' names, as XCP-D writes it")
    return XcpdSeries(found.values, found.column_names, kept_timepoints(len(found.values), outliers))


def kept_timepoints(n_timepoints: int, outliers: bytes | None) -> NDArray[np.bool_]:
    """Return which timepoints of the scan were kept, over its full time axis.

    Parameters
    ----------
    n_timepoints : int
        Length of the series as written (of a table or a .ptseries.nii).
    outliers : bytes or None
        ``*_outliers.tsv``.

    Raises
    ------
    ScanError
        As `read_xcpd`.
    """
    if outliers is None:
        return np.ones(n_timepoints, dtype=np.bool_)
    table = _read_table(outliers, "outliers")
    if OUTLIER_COLUMN not in table.columns:
        columns = ", ".join(map(str, table.columns))
        raise ScanError("unreadable", f"outliers have no column {OUTLIER_COLUMN!r} (columns: {columns})")
    flags = table[OUTLIER_COLUMN]
    if not flags.isin([0, 1]).all():
        wrong = flags[~flags.isin([0, 1])].iloc[0]
        raise ScanError("unreadable", f"outliers must be 0 or 1 in {OUTLIER_COLUMN!r}, one is {wrong}")
    kept = flags.to_numpy() == 0
    if n_timepoints not in (len(kept), kept.sum()):
        raise ScanError(
            "length_mismatch",
            f"has {n_timepoints} timepoints; its outliers tell of {len(kept)}, of which {kept.sum()} were kept",
        )
    return np.asarray(kept, dtype=np.bool_)


def read_qc(data: bytes) -> dict[str, float]:
    """Return the numbers of a quality control table (``*_desc-linc_qc.tsv``; ``.csv`` in older releases) by name.

    ``mean_fd`` is the mean framewise displacement in mm. Text and missing values are left out.

    Raises
    ------
    ScanError
        ``unreadable`` if it is no table of one row.
    """
    table = _read_table(data, "quality control")
    if len(table) != 1:
        raise ScanError("unreadable", f"quality control has {len(table)} rows; it has one a scan")
    numbers = table.select_dtypes("number").iloc[0]
    return {QC_NAMES.get(str(name), str(name)): float(value) for name, value in numbers.items() if pd.notna(value)}


def _read_table(data: bytes, what: str) -> pd.DataFrame:
    """Read a table with a header, of tabs if there are any, else of commas."""
    try:
        text = data.decode("utf-8-sig")
        with warnings.catch_warnings():
            # lines longer than the header would be shifted or cut
            warnings.simplefilter("error", pd.errors.ParserWarning)
            separator = "\t" if "\t" in text or "," not in text else ","
            return pd.read_csv(io.StringIO(text), sep=separator, index_col=False)
    except (*UNREADABLE, pd.errors.ParserWarning) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ScanError("unreadable", f"{what}: {reason}") from None

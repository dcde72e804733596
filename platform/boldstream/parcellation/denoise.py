"""Take trends, frequencies and confounds out of series, around timepoints that are censored."""

import numpy as np
from numpy.typing import NDArray

from boldstream.errors import ScanError

FILTER_LENGTH = 34
"""nilearn's band-pass (order 5, forwards and backwards) needs so many timepoints."""


def denoise(
    values: NDArray[np.floating],
    t_r: float | None,
    kept: NDArray[np.bool_],
    noise: NDArray[np.float64] | None,
    *,
    detrend: bool,
    high_pass: float | None,
    low_pass: float | None,
) -> NDArray[np.float64]:
    """Return the cleaned series at the kept timepoints.

    Censored timepoints are bridged by lines (those at the ends left out); series and noise are detrended and filtered
    alike; the bridges are left out; the noise is regressed out. Without censoring this is `nilearn.signal.clean`.

    nilearn 0.14 can bridge too (`sample_mask`), but does not reach a timepoint whose mirror image in time is censored
    as well: what was censored then goes through the filter into its neighbours. And it bridges by cubic splines, which
    disturb the kept timepoints more than lines do, the more the longer the gap (docs/cleaning.md).

    Parameters
    ----------
    values : array, shape (n_timepoints, n_rois)
        Regions that are NaN throughout stay so.
    t_r : float or None
        Repetition time in seconds; only filters need it.
    kept : array of bool, shape (n_timepoints,)
    noise : array, shape (n_timepoints, n_regressors), or None
    detrend : bool
        Take out every region's mean and line.
    high_pass, low_pass : float or None
        Cut-off frequencies (Hz) of Butterworth filters of order 5, run forwards and backwards.

    Returns
    -------
    array, shape (number of kept timepoints, n_rois), float64

    Raises
    ------
    ScanError
        ``too_few_timepoints``, ``non_finite``, ``t_r_unknown``, or ``band`` (a frequency that the scan cannot hold).
    """
    from nilearn import signal

    absent = np.isnan(values).all(axis=0)
    series = np.asarray(values, dtype=np.float64)[:, ~absent]
    _check_finite(series, np.flatnonzero(~absent), kept)
    n_kept, n_noise = int(kept.sum()), 0 if noise is None else noise.shape[1]
    _check_length(n_kept, len(values), n_noise)
    cleaned = np.full((n_kept, values.shape[1]), np.nan)
    if absent.all():
        return cleaned

    def over_time(wanted: NDArray[np.float64]) -> NDArray[np.float64]:
        return _over_time(wanted, t_r, kept, detrend=detrend, high_pass=high_pass, low_pass=low_pass)

    series = over_time(series)
    if noise is not None and n_noise:
        series = signal.clean(series, detrend=False, standardize=None, filter=False, confounds=over_time(noise))
    cleaned[:, ~absent] = series
    return cleaned


def _check_length(n_kept: int, n_timepoints: int, n_noise: int) -> None:
    if n_kept < n_noise + 2:
        raise ScanError(
            "too_few_timepoints",
            f"{n_kept} of {n_timepoints} timepoints are left after censoring, with {n_noise} confounds to remove",
        )


def bridge(values: NDArray[np.floating], kept: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return values at all timepoints from those at the kept ones, by lines; held at the ends.

    Parameters
    ----------
    values : array, shape (number of kept timepoints, n_rois)
    kept : array of bool, shape (n_timepoints,)
    """
    at = np.flatnonzero(kept)
    time = np.arange(len(kept))
    before = np.clip(np.searchsorted(at, time, side="right") - 1, 0, None)
    after = np.clip(np.searchsorted(at, time), None, len(at) - 1)
    share = np.clip((time - at[before]) / np.maximum(at[after] - at[before], 1), 0, 1)[:, None]
    return values[before] * (1 - share) + values[after] * share


def _over_time(
    values: NDArray[np.float64],
    t_r: float | None,
    kept: NDArray[np.bool_],
    *,
    detrend: bool,
    high_pass: float | None,
    low_pass: float | None,
) -> NDArray[np.float64]:
    """Detrend and filter; return the kept timepoints."""
    from nilearn import signal

    filters = high_pass is not None or low_pass is not None
    if not (detrend or filters):
        return values[kept]
    first, last = np.flatnonzero(kept)[[0, -1]]
    inside = slice(first, last + 1)
    whole = bridge(values[kept], kept)[inside]
    if filters:
        t_r = _check_band(len(whole), t_r, high_pass, low_pass)
    whole = signal.clean(
        whole,
        detrend=detrend,
        standardize=None,
        filter="butterworth" if filters else False,
        low_pass=low_pass,
        high_pass=high_pass,
        t_r=t_r,
    )
    return whole[kept[inside]]


def _check_band(n_timepoints: int, t_r: float | None, high_pass: float | None, low_pass: float | None) -> float:
    """Refuse a filter that cannot work; return the repetition time."""
    if t_r is None:
        raise ScanError("t_r_unknown", "repetition time is unknown, and cleaning filters; give t_r (seconds) at ingest")
    for name, hertz in (("low_pass", low_pass), ("high_pass", high_pass)):
        if hertz is not None and hertz >= 0.5 / t_r:
            raise ScanError(
                "band", f"{name} {hertz:g} Hz is not below {0.5 / t_r:.4g} Hz, all that t_r {t_r:g} s holds"
            )
    if n_timepoints < FILTER_LENGTH:
        raise ScanError("too_few_timepoints", f"{n_timepoints} timepoints; a filter needs {FILTER_LENGTH}")
    return t_r


def _check_finite(series: NDArray[np.float64], regions: NDArray[np.intp], kept: NDArray[np.bool_]) -> None:
    """Refuse gaps at timepoints that are kept."""
    bad = ~np.isfinite(series) & kept[:, None]
    if bad.any():
        row, column = np.argwhere(bad)[0]
        where = f"first: timepoint {row + 1}, region {regions[column] + 1}"
        raise ScanError("non_finite", f"{int(bad.sum())} NaN or infinite values ({where}); they cannot be cleaned")

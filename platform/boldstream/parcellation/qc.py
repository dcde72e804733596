"""How good is a scan? Numbers of one parcellated scan: motion, spikes, missing regions, odd connectivity."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boldstream.parcellation.fc_sketch import homotopic_pairs, sketch_connectivity
from boldstream.parcellation.gradients import functional_connectivity

IQR_OF_NORMAL = 1.349
MAD_OF_NORMAL = 1.4826
SPIKE_Z = 4.0
HIGH_FD = 0.2
LOW_COVERAGE = 0.5


@dataclass(frozen=True)
class Measure:
    """What a number of a scan is called, its unit, and which side of it is bad."""

    title: str
    unit: str
    bad: Literal["high", "low"]


MEASURES: dict[str, Measure] = {
    "mean_fd": Measure("mean framewise displacement", "mm", "high"),
    "high_fd_share": Measure(f"share of timepoints with FD over {HIGH_FD:g} mm", "", "high"),
    "censored_share": Measure("share of timepoints censored", "", "high"),
    "dvars": Measure("mean standardised DVARS", "", "high"),
    "spike_share": Measure("share of timepoints that are spikes", "", "high"),
    "tsnr": Measure("temporal SNR, median region", "", "low"),
    "min_coverage": Measure("least coverage of a region", "", "low"),
    "n_low_coverage": Measure(f"regions covered less than {LOW_COVERAGE:g}", "", "high"),
    "n_zero_rois": Measure("regions that are all zero", "", "high"),
    "n_flat_rois": Measure("regions that are constant", "", "high"),
    "n_nonfinite_rois": Measure("regions with NaN or infinite values", "", "high"),
    "bad_roi_share": Measure("share of regions constant or not finite", "", "high"),
    "fc_mean": Measure("mean functional connectivity", "", "high"),
    "fc_homotopic": Measure("left-right pairs' lead in connectivity", "", "low"),
}
"""Every scalar measure of a scan by name, in the order of the columns."""

QC_COLUMNS: dict[str, str] = {
    **{f"qc_{name}": "float64" for name in MEASURES},
    "qc_content_sha256": "string",
    "qc_fc_sketch": "list<float32>",
}
"""Names and types (as Arrow writes them) of `ScanQuality.columns`; all may be null."""


@dataclass(frozen=True)
class ScanQuality:
    """Measures of one scan; None where a measure cannot be had (not given, too few timepoints or regions).

    Regions that are constant or not finite take no part in dvars, spike_share, tsnr and the fc_ measures.

    Attributes
    ----------
    mean_fd : float or None
        Mean framewise displacement (mm), as given.
    high_fd_share : float or None
        Share of timepoints with FD over 0.2 mm (Parkes et al. 2018), where FD by timepoint is given.
    censored_share : float or None
        Share of timepoints that preprocessing took out, where it says which.
    dvars : float or None
        Mean standardised DVARS, as given or by `standardised_dvars` of the regions' series. About 1 without artefacts.
    spike_share : float or None
        Share of steps between timepoints that `find_spikes` calls spikes.
    tsnr : float or None
        Median over regions of mean / SD, as given or of the regions' series. None where these are centred: their
        median mean is not larger than their SD.
    min_coverage, n_low_coverage : float and int, or None
        Least share of a region's voxels with signal, and number of regions below 0.5, where coverage is given.
    n_zero_rois, n_flat_rois, n_nonfinite_rois : int
        Regions that are all zero; constant (all-zero ones included); with NaN or infinite values.
    bad_roi_share : float
        Share of regions that are constant or not finite.
    fc_mean : float or None
        Mean correlation of all pairs of regions.
    fc_homotopic : float or None
        Mean correlation of left-right pairs of the same region minus that of all other pairs, where the names tell
        pairs. Near 0 the columns are hardly in the order of the names.
    content_sha256 : str
        Of the values; equal for exact copies only.
    fc_sketch : array of float32, shape (64,), or None
        `sketch_connectivity`.
    """

    mean_fd: float | None
    high_fd_share: float | None
    censored_share: float | None
    dvars: float | None
    spike_share: float | None
    tsnr: float | None
    min_coverage: float | None
    n_low_coverage: int | None
    n_zero_rois: int
    n_flat_rois: int
    n_nonfinite_rois: int
    bad_roi_share: float
    fc_mean: float | None
    fc_homotopic: float | None
    content_sha256: str
    fc_sketch: NDArray[np.float32] | None

    def measures(self) -> dict[str, float | None]:
        """Return the scalar measures by name, in the order of `MEASURES`."""
        values = {name: getattr(self, name) for name in MEASURES}
        return {name: None if value is None else float(value) for name, value in values.items()}

    def columns(self) -> dict[str, Any]:
        """Return the cohort's columns of these measures, named and typed as `QC_COLUMNS` says."""
        scalars = {f"qc_{name}": value for name, value in self.measures().items()}
        return {**scalars, "qc_content_sha256": self.content_sha256, "qc_fc_sketch": self.fc_sketch}


def measure_scan(
    values: NDArray[np.float32],
    t_r: float | None,
    *,
    roi_names: Sequence[str] | None = None,
    coverage: ArrayLike | None = None,
    tsnr: ArrayLike | None = None,
    fd: ArrayLike | None = None,
    mean_fd: float | None = None,
    kept: ArrayLike | None = None,
    dvars: ArrayLike | None = None,
) -> ScanQuality:
    """Measure one scan.

    Parameters
    ----------
    values : array of float32, shape (n_timepoints, n_rois)
        Time series; constant regions, NaN and infinities may be in it.
    t_r : float or None
        Repetition time in seconds; no measure is scaled by it, so compare FD and DVARS of different t_r with care.
    roi_names : sequence of str, optional
        Regions in order, for `fc_homotopic`.
    coverage, tsnr : array, shape (n_rois,), optional
        Of every region, from its voxels; `tsnr` may be one number. NaN: not known.
    fd, dvars : array, shape (n_timepoints of the whole run,), optional
        Framewise displacement (mm), *standardised* DVARS (or one number); NaN: not known (the first timepoint).
    mean_fd : float, optional
        In mm; goes before the mean of `fd`.
    kept : array of bool, shape (n_timepoints of the whole run,), optional
        False where preprocessing censored a timepoint.

    Raises
    ------
    ValueError
        If `values` is no matrix, or names or coverage are not one a region.
    """
    x = _checked(values, roi_names=roi_names, coverage=coverage)
    finite = np.isfinite(x).all(axis=0)
    good = finite & (x.max(axis=0) != x.min(axis=0))
    series = np.where(good, x, 0).astype(np.float64)
    known = _known(coverage)
    fc_mean, fc_homotopic, sketch = _connectivity(series, good, roi_names)
    return ScanQuality(
        mean_fd=_mean(fd) if mean_fd is None or np.isnan(mean_fd) else float(mean_fd),
        high_fd_share=_mean(_known(fd) > HIGH_FD),
        censored_share=_mean(~np.asarray(kept, dtype=bool)) if kept is not None else None,
        dvars=_mean(standardised_dvars(series[:, good])) if dvars is None else _mean(dvars),
        spike_share=_mean(find_spikes(series[:, good])),
        tsnr=_tsnr(series[:, good]) if tsnr is None else _median(tsnr),
        min_coverage=float(known.min()) if known.size else None,
        n_low_coverage=int((known < LOW_COVERAGE).sum()) if known.size else None,
        n_zero_rois=int((finite & ~good & (x[0] == 0)).sum()),
        n_flat_rois=int((finite & ~good).sum()),
        n_nonfinite_rois=int((~finite).sum()),
        bad_roi_share=float(1 - good.mean()),
        fc_mean=fc_mean,
        fc_homotopic=fc_homotopic,
        content_sha256=hashlib.sha256(x.tobytes()).hexdigest(),
        fc_sketch=sketch,
    )


def _checked(values: NDArray[np.floating], **by_region: Sequence[str] | ArrayLike | None) -> NDArray[np.float32]:
    """Return the series as float32, C order; refuse what is no matrix, and what is given by region and does not fit."""
    x = np.ascontiguousarray(values, dtype=np.float32)
    if x.ndim != 2 or 0 in x.shape:
        raise ValueError(f"a scan is (n_timepoints, n_rois), got shape {x.shape}")
    for name, given in by_region.items():
        if given is not None and np.shape(given) != (x.shape[1],):
            raise ValueError(f"{name} has shape {np.shape(given)}, the scan {x.shape[1]} regions")
    return x


def standardised_dvars(series: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return DVARS of every step between timepoints, over what it is expected to be without artefacts.

    DVARS_t is the root mean square over regions of x_t - x_(t-1) (Power et al. 2012). It is divided by its expectation
    without artefacts (Nichols 2017), the root mean square over regions of the SD of these differences, so that 1 is a
    clean scan of any unit and repetition time. Nichols and fMRIPrep's ``std_dvars`` get that SD as
    sqrt(2 (1 - a)) s from the lag-1 autocorrelation a and s = IQR / 1.349; here it is IQR / 1.349 of the differences
    themselves, for spikes pull a down and hide themselves (Afyouni & Nichols 2018 estimate robustly, too).

    Parameters
    ----------
    series : array, shape (n_timepoints, n_rois)
        Finite.

    Returns
    -------
    array, shape (n_timepoints - 1,), or (0,) with fewer than 4 timepoints or where nothing varies.

    References
    ----------
    Power et al. (2012), NeuroImage 59:2142; Nichols (2017), arXiv:1704.01469; Afyouni & Nichols, NeuroImage 172:291.
    """
    if len(series) < 4 or series.shape[1] == 0:
        return np.empty(0)
    change = np.diff(series, axis=0)
    low, high = np.percentile(change, [25, 75], axis=0)
    expected = np.sqrt(np.square((high - low) / IQR_OF_NORMAL).mean())
    found = np.sqrt(np.square(change).mean(axis=1))
    return found / expected if expected > 0 else np.empty(0)


def find_spikes(series: NDArray[np.float64], z: float = SPIKE_Z) -> NDArray[np.bool_]:
    """Say of every step between timepoints whether it is a spike.

    It is where the root mean square change of the z-scored regions, or the global signal (their mean) at its end, is
    more than `z` robust SDs (1.4826 MAD) from its median; the change upwards only.

    `series` is finite, shape (n_timepoints, n_rois); the answer has shape (n_timepoints - 1,), or (0,) with fewer than
    4 timepoints or where nothing varies.
    """
    sd = series.std(axis=0)
    if len(series) < 4 or not (sd > 0).any():
        return np.empty(0, dtype=bool)
    scored = (series[:, sd > 0] - series[:, sd > 0].mean(axis=0)) / sd[sd > 0]
    change = _robust_z(np.sqrt(np.square(np.diff(scored, axis=0)).mean(axis=1)))
    global_signal = _robust_z(scored.mean(axis=1))[1:]
    return (change > z) | (np.abs(global_signal) > z)


def _connectivity(
    series: NDArray[np.float64], good: NDArray[np.bool_], roi_names: Sequence[str] | None
) -> tuple[float | None, float | None, NDArray[np.float32] | None]:
    """Return mean connectivity, the lead of homotopic pairs, and the sketch."""
    if len(series) < 3:
        return None, None, None
    fc = functional_connectivity(series)
    good = good & (np.diagonal(fc) > 0)
    n_good = int(good.sum())
    if n_good < 2:
        return None, None, None
    n_pairs = n_good * (n_good - 1) / 2
    total = float(np.triu(fc, 1).sum())
    pairs = homotopic_pairs(tuple(roi_names)) if roi_names is not None else np.empty((0, 2), dtype=np.intp)
    pairs = pairs[good[pairs].all(axis=1)]
    lead = None
    if len(pairs) and n_pairs > len(pairs):
        of_pairs = fc[pairs[:, 0], pairs[:, 1]]
        lead = float(of_pairs.mean() - (total - of_pairs.sum()) / (n_pairs - len(pairs)))
    return total / n_pairs, lead, sketch_connectivity(fc)


def _tsnr(series: NDArray[np.float64]) -> float | None:
    """Return the median of mean / SD over regions; None where the series are centred."""
    sd = series.std(axis=0)
    found = _median(np.divide(np.abs(series.mean(axis=0)), sd, out=np.full_like(sd, np.nan), where=sd > 0))
    return found if found is not None and found > 1 else None


def _robust_z(values: NDArray[np.float64]) -> NDArray[np.float64]:
    away = values - np.median(values)
    scale = MAD_OF_NORMAL * np.median(np.abs(away))
    return away / scale if scale > 0 else np.zeros_like(away)


def _known(values: ArrayLike | None) -> NDArray[np.float64]:
    """Return what is finite of the values."""
    array = np.empty(0) if values is None else np.atleast_1d(np.asarray(values, dtype=np.float64))
    return array[np.isfinite(array)]


def _mean(values: ArrayLike | None) -> float | None:
    known = _known(values)
    return float(known.mean()) if known.size else None


def _median(values: ArrayLike | None) -> float | None:
    known = _known(values)
    return float(np.median(known)) if known.size else None

"""From a scan as it was read to a scan of the cohort: time axis, cleaning, repetition time, quality."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boldstream.errors import ScanError
from boldstream.ingest.config import IngestConfig
from boldstream.ingest.read import ReadScan
from boldstream.parcellation.clean import CleanedSeries, clean_series, restore_axis
from boldstream.parcellation.qc import ScanQuality, measure_scan
from boldstream.parcellation.qc_rules import Decision, judge
from boldstream.parcellation.timeseries import judge_series
from boldstream.parcellation.timing import choose_t_r, resample, resampling_notes

GIVEN = "the configuration or the table"


@dataclass(frozen=True, eq=False)
class PreparedScan:
    """A scan as it goes into the cohort.

    Attributes
    ----------
    values : array, shape (n_timepoints, n_rois), float32
    t_r, t_r_original : float or None
        Seconds; None: unknown.
    n_timepoints_original : int
        Length in the source, before anything was cut off, left out or resampled.
    bad_rois : tuple of str
        Regions without signal.
    censored : tuple of int or None
        Timepoints (after dummy scans, before resampling) whose values are interpolated or left out; None: not known.
    mean_fd : float or None
        In mm.
    notes : tuple of str
    quality : ScanQuality
    decision : Decision
    """

    values: NDArray[np.float32]
    t_r: float | None
    t_r_original: float | None
    n_timepoints_original: int
    bad_rois: tuple[str, ...]
    censored: tuple[int, ...] | None
    mean_fd: float | None
    notes: tuple[str, ...]
    quality: ScanQuality
    decision: Decision

    def columns(self) -> dict[str, Any]:
        """Return the cohort's columns."""
        return {
            "t_r": self.t_r,
            "t_r_original": self.t_r_original,
            "n_timepoints": self.values.shape[0],
            "n_timepoints_original": self.n_timepoints_original,
            "n_rois": self.values.shape[1],
            "timeseries": self.values.ravel(),
            "bad_rois": list(self.bad_rois),
            "censored": None if self.censored is None else list(self.censored),
            "mean_fd": self.mean_fd,
            "notes": list(self.notes),
            **self.quality.columns(),
            **self.decision.columns(),
        }


def prepare_scan(
    scan: ReadScan, known: dict[str, Any], roi_names: tuple[str, ...], config: IngestConfig
) -> PreparedScan:
    """Bring a scan on its time axis, clean it, resample it where the cohort says so, and judge it.

    Parameters
    ----------
    scan : ReadScan
    known : dict
        What tables and configuration say of it: ``t_r`` (seconds) and ``mean_fd`` (mm) are used.
    roi_names : tuple of str
        The cohort's regions, in order.
    config : IngestConfig

    Raises
    ------
    ScanError
        If it cannot be used; ``quality`` if a rule sets it aside.
    """
    chosen = choose_t_r({GIVEN: known.get("t_r"), **scan.t_rs})
    cleaned, kept, n_original = _clean(scan, chosen.t_r, config)
    values, notes = cleaned.values, [*chosen.notes, *cleaned.notes]
    if config.source.kind == "xcpd":
        values, blank = _blank_as_zero(values, roi_names)
        notes += blank
    t_r = chosen.t_r
    if config.target_t_r is not None:
        values = resample(values, t_r, config.target_t_r)
        assert t_r is not None  # resample has refused it
        notes += resampling_notes(t_r, config.target_t_r)
        t_r = config.target_t_r
    bad_rois = judge_series(values, roi_names, min_timepoints=config.min_timepoints, max_bad_rois=config.max_bad_rois)
    mean_fd = next((fd for fd in (known.get("mean_fd"), cleaned.mean_fd, scan.mean_fd) if fd is not None), None)
    quality = measure_scan(
        values,
        t_r,
        roi_names=roi_names,
        coverage=scan.coverage,
        tsnr=scan.tsnr,
        fd=cleaned.fd,
        dvars=cleaned.dvars,
        mean_fd=mean_fd,
        kept=kept,
    )
    decision = judge(quality, config.quality)
    if decision.status == "quarantine":
        raise ScanError("quality", decision.message)
    censored = None if kept is None else tuple(int(at) for at in np.flatnonzero(~kept))
    return PreparedScan(
        values, t_r, chosen.t_r, n_original, bad_rois, censored, mean_fd, tuple(notes), quality, decision
    )


def _clean(
    scan: ReadScan, t_r: float | None, config: IngestConfig
) -> tuple[CleanedSeries, NDArray[np.bool_] | None, int]:
    """Clean a scan, also one that its source censored; return which timepoints were kept, and its original length."""
    spec = config.cleaning
    if scan.kept is None:
        cleaned = clean_series(scan.values, t_r, spec, scan.confounds)
        censors = "scrub" in spec.resolved().components
        return cleaned, cleaned.kept if censors else None, cleaned.n_timepoints
    # filters need an evenly spaced series; what is to be dropped goes at the end
    whole = scan.values
    if len(whole) < len(scan.kept):
        whole = restore_axis(whole, scan.kept, "interpolate")
    cleaned = clean_series(whole, t_r, spec.model_copy(update={"censored": "interpolate"}), scan.confounds)
    kept = scan.kept[cleaned.n_dummies :] & cleaned.kept
    if spec.censored == "drop":
        cleaned = cleaned.with_values(cleaned.values[kept], kept)
    return cleaned, kept, len(scan.kept)


def _blank_as_zero(values: NDArray[np.float32], roi_names: tuple[str, ...]) -> tuple[NDArray[np.float32], list[str]]:
    """Write regions that are NaN throughout (not covered, says XCP-D) as zeros, as images give them."""
    blank = np.isnan(values).all(axis=0)
    if not blank.any():
        return values, []
    named = ", ".join(roi_names[at] for at in np.flatnonzero(blank)[:3])
    return np.where(blank, np.float32(0), values), [f"{int(blank.sum())} regions are NaN in the source: {named}…"]

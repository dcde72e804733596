"""Clean the series of one scan: dummy scans, filters, confounds, censored timepoints."""

from dataclasses import dataclass, replace
from typing import Literal, Self

import numpy as np
import pandas as pd
import pydantic
from numpy.typing import NDArray

from boldstream.config import Config
from boldstream.errors import ScanError
from boldstream.parcellation.confounds import (
    Component,
    ConfoundFiles,
    Expansion,
    Preset,
    Strategy,
    count_dummies,
    displacement,
    given_dvars,
    read_confounds,
    resolve_strategy,
    select_regressors,
)
from boldstream.parcellation.denoise import bridge, denoise

Restoration = Literal["interpolate", "drop"]


class CleaningSpec(Config):
    """How series are cleaned after extraction. By default they are not."""

    confounds: Preset = "none"
    """fMRIPrep's confounds to remove, as nilearn's presets name them: ``simple`` (motion, white matter and CSF,
    drifts), ``scrubbing`` (the same, and censoring), ``compcor`` or ``ica_aroma``."""

    strategy: tuple[Component, ...] = ()
    """Your own list of components in place of a preset, e.g. motion, wm_csf, high_pass, scrub."""

    motion: Expansion | None = None
    """Expansion of the six motion parameters; empty: full (24)."""

    wm_csf: Expansion | None = None
    """Expansion of the white matter and CSF signals; empty: basic, with ``scrubbing`` full."""

    global_signal: Expansion | None = None
    """Remove the global signal as well, with this expansion (a preset has it only if it is given)."""

    compcor: (
        Literal["anat_combined", "anat_separated", "temporal", "temporal_anat_combined", "temporal_anat_separated"]
        | None
    ) = None
    """Kind of CompCor; empty: anat_combined."""

    n_compcor: int | Literal["all"] | None = None
    """CompCor's components per mask, or all there are where there are fewer; empty: all."""

    ica_aroma: Literal["full", "basic"] | None = None
    """``full`` for images that fMRIPrep has denoised, ``basic`` to remove AROMA's components here; empty: full."""

    scrub: int | None = pydantic.Field(default=None, ge=0)
    """Shortest run of good timepoints that scrubbing keeps; empty: 5."""

    fd_threshold: float | None = pydantic.Field(default=None, gt=0)
    """Framewise displacement (mm) above which scrubbing censors; empty: 0.5."""

    std_dvars_threshold: float | None = pydantic.Field(default=None, gt=0)
    """Standardised DVARS above which scrubbing censors; empty: 1.5."""

    detrend: bool = False
    """Remove every region's mean and line."""

    high_pass: float | None = pydantic.Field(default=None, gt=0)
    """Remove what is slower (Hz), by a Butterworth filter; replaces the confounds' cosines."""

    low_pass: float | None = pydantic.Field(default=None, gt=0)
    """Remove what is faster (Hz), by a Butterworth filter."""

    dummy_scans: int | Literal["auto"] = 0
    """Timepoints to cut off at the beginning; ``auto``: those that fMRIPrep found not to be in steady state."""

    censored: Restoration = "interpolate"
    """What becomes of censored timepoints: ``interpolate`` between cleaned neighbours, or ``drop`` (leaves gaps)."""

    @pydantic.model_validator(mode="after")
    def _check(self) -> Self:
        resolved = self.resolved()
        if self.dummy_scans != "auto" and self.dummy_scans < 0:
            raise ValueError(f"dummy_scans: {self.dummy_scans} is no number of timepoints")
        if self.high_pass is not None and self.low_pass is not None and self.high_pass >= self.low_pass:
            raise ValueError(f"high_pass: {self.high_pass:g} Hz must be below low_pass, {self.low_pass:g} Hz")
        if resolved.parameters.get("n_compcor", 1) != "all" and resolved.parameters.get("n_compcor", 1) < 1:
            raise ValueError("n_compcor: must be at least 1")
        return self

    def resolved(self) -> Strategy:
        """Return what is taken from the confounds, with every parameter."""
        given = {
            name: getattr(self, name)
            for name in (
                "motion", "wm_csf", "global_signal", "compcor", "n_compcor", "ica_aroma",
                "scrub", "fd_threshold", "std_dvars_threshold",
            )
        }  # fmt: skip
        return resolve_strategy(self.confounds, self.strategy, given)


@dataclass(frozen=True)
class CleanedSeries:
    """The cleaned series of one scan.

    Attributes
    ----------
    values : array, shape (T, n_rois), float32
        T is the scan's length without dummy scans; with ``censored: drop`` without the censored ones either.
    n_timepoints : int
        Length before anything was cut off.
    n_dummies : int
        Timepoints cut off at the beginning.
    kept : array of bool, shape (n_timepoints - n_dummies,)
        False where a timepoint was censored.
    fd : array, shape (n_timepoints - n_dummies,), float64, or None
        Framewise displacement (mm), NaN where it is missing.
    mean_fd : float or None
        Its mean over all timepoints that have one, the censored ones included.
    dvars : array, shape (n_timepoints - n_dummies,), float64, or None
        fMRIPrep's standardised DVARS.
    regressors : tuple of str
        Confounds that were removed.
    notes : tuple of str
        What whoever uses the series must know.
    """

    values: NDArray[np.float32]
    n_timepoints: int
    n_dummies: int
    kept: NDArray[np.bool_]
    fd: NDArray[np.float64] | None
    mean_fd: float | None
    dvars: NDArray[np.float64] | None = None
    regressors: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def censored(self) -> NDArray[np.int64]:
        """Return the censored timepoints, counted from the first after the dummy scans."""
        return np.flatnonzero(~self.kept)

    def with_values(self, values: NDArray[np.float32], kept: NDArray[np.bool_]) -> "CleanedSeries":
        """Return the same scan with other values, of other kept timepoints."""
        return replace(self, values=values, kept=kept)

    @property
    def censored_share(self) -> float:
        """Return the share of censored timepoints."""
        return float(1 - self.kept.mean())


def clean_series(
    values: NDArray[np.floating], t_r: float | None, spec: CleaningSpec, confounds: ConfoundFiles | None
) -> CleanedSeries:
    """Clean one scan's series.

    In this order: cut off dummy scans; bridge censored timepoints by a line and leave out those at the ends; detrend
    and band-pass series and regressors alike (nilearn's Butterworth of order 5); leave out the bridges; regress the
    confounds out; put the series back on the time axis. This is nilearn's order, which keeps filters and regression
    orthogonal (Lindquist et al. 2019, Human Brain Mapping 40:2358). Regions that are NaN throughout stay so. With the
    default `spec` the values come back as they are.

    Parameters
    ----------
    values : array, shape (n_timepoints, n_rois)
    t_r : float or None
        Repetition time in seconds; only filters need it.
    spec : CleaningSpec
    confounds : ConfoundFiles or None
        Framewise displacement is read from it even where nothing is removed.

    Raises
    ------
    ScanError
        ``confounds`` (missing, damaged, or without what the strategy needs), ``confounds_length``, ``t_r_unknown``,
        ``band`` (a frequency that the scan cannot hold), ``non_finite`` or ``too_few_timepoints``.
    """
    n_timepoints = len(values)
    strategy = spec.resolved()
    table = read_confounds(confounds.table, n_timepoints) if confounds is not None else None
    n_dummies = _dummies(spec, table)
    if n_dummies and n_timepoints - n_dummies < 2:
        raise ScanError("too_few_timepoints", f"{n_timepoints} timepoints, {n_dummies} of them dummy scans")
    left = values[n_dummies:]
    kept, noise = np.ones(len(left), dtype=np.bool_), None
    names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    if table is not None:
        table = table.iloc[n_dummies:].reset_index(drop=True)
    if strategy.components:
        if table is None or confounds is None:
            raise ScanError("confounds", f"cleaning takes {', '.join(strategy.components)}; there is no confounds file")
        found = select_regressors(table, confounds, strategy)
        if spec.high_pass is not None:
            # filtered, the cosines would be nothing but the filter's edges, scaled up
            found = found.without("cosine")
        kept, noise, names, notes = found.kept, found.values, found.names, found.notes
    if strategy.components or spec.detrend or spec.high_pass is not None or spec.low_pass is not None:
        cleaned = denoise(
            left, t_r, kept, noise, detrend=spec.detrend, high_pass=spec.high_pass, low_pass=spec.low_pass
        )
        left = restore_axis(cleaned, kept, spec.censored)
    if spec.censored == "drop" and not kept.all():
        notes = (*notes, f"{int((~kept).sum())} timepoints dropped: what is left is not evenly spaced")
    fd = displacement(table) if table is not None else None
    mean_fd = float(np.nanmean(fd)) if fd is not None and np.isfinite(fd).any() else None
    series = np.ascontiguousarray(left, dtype=np.float32)
    dvars = given_dvars(table) if table is not None else None
    return CleanedSeries(series, n_timepoints, n_dummies, kept, fd, mean_fd, dvars, names, notes)


def restore_axis(values: NDArray[np.floating], kept: NDArray[np.bool_], how: Restoration) -> NDArray[np.float32]:
    """Put series that hold only the kept timepoints back on the scan's time axis.

    Parameters
    ----------
    values : array, shape (number of kept timepoints, n_rois)
        For example XCP-D's censored series.
    kept : array of bool, shape (n_timepoints,)
    how : {"interpolate", "drop"}
        ``interpolate`` draws a line from the last kept value to the next, region by region, and holds the first and
        the last kept value to the ends; a line does not overshoot in long gaps, as splines do. ``drop`` gives the
        values as they are.

    Returns
    -------
    array, shape (n_timepoints, n_rois) or that of `values`, float32

    Raises
    ------
    ScanError
        ``censoring_length`` if `values` are not the kept timepoints, ``too_few_timepoints`` if there are fewer than 2.
    """
    n_kept = int(np.count_nonzero(kept))
    if len(values) != n_kept:
        raise ScanError(
            "censoring_length", f"{len(values)} timepoints, but {n_kept} of {len(kept)} are said to be kept"
        )
    if n_kept < 2:
        raise ScanError("too_few_timepoints", f"{n_kept} of {len(kept)} timepoints are left after censoring")
    restored = values if how == "drop" else bridge(values, kept)
    return np.asarray(restored, dtype=np.float32)


def _dummies(spec: CleaningSpec, table: pd.DataFrame | None) -> int:
    if spec.dummy_scans != "auto":
        return spec.dummy_scans
    if table is None:
        raise ScanError(
            "confounds", "dummy_scans: auto counts them in the confounds, and there is no file; give a number"
        )
    return count_dummies(table)

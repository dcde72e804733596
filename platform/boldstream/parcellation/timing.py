"""The time axis of a scan: its repetition time, and series at another one."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from boldstream.errors import ScanError

SAME_T_R = 1e-3
"""Repetition times that differ by less (relative) count as equal: headers round."""
NOTED_DIFFERENCE = 0.01
"""From this relative difference on, a source of the repetition time that was not taken is noted."""
SHORTEST_T_R, LONGEST_T_R = 0.05, 30.0
"""Between these (seconds) a number can be a repetition time."""
SECONDS_PER = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6, "unknown": 1.0}


@dataclass(frozen=True)
class ChosenTR:
    """The repetition time of a scan, and who said so.

    Attributes
    ----------
    t_r : float or None
        Seconds; None if no source says anything.
    source : str or None
        Name of the source that was taken.
    notes : tuple of str
        Sources that say something else.
    """

    t_r: float | None
    source: str | None
    notes: tuple[str, ...] = ()


def check_t_r(t_r: float, where: str) -> float:
    """Return a repetition time that a scanner can have.

    Raises
    ------
    ScanError
        ``bad_t_r`` outside 0.05 to 30 s; `where` (the source's name) begins the message.
    """
    if not SHORTEST_T_R < t_r < LONGEST_T_R:  # false for NaN as well
        hint = "; these look like milliseconds" if LONGEST_T_R <= t_r < LONGEST_T_R * 1000 else ""
        raise ScanError(
            "bad_t_r", f"{where}: {t_r:g} s is no repetition time{hint}; correct it there, or give t_r in seconds"
        )
    return t_r


def sidecar_t_r(data: bytes, where: str) -> float | None:
    """Return ``RepetitionTime`` (seconds) of a BIDS sidecar; None where it has none.

    Raises
    ------
    ScanError
        ``bad_t_r`` if the sidecar is not JSON, or says something that is no number.
    """
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:  # the latter of brackets in brackets
        raise ScanError("bad_t_r", f"{where} is not JSON ({error})") from None
    value = found.get("RepetitionTime") if isinstance(found, dict) else None
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ScanError("bad_t_r", f"{where}: RepetitionTime is {value!r}, not a number of seconds")
    return float(value)


def header_t_r(step: float, zooms: Sequence[float], units: str) -> float | None:
    """Return the repetition time in an image's header, in seconds; None where the header says nothing.

    It says nothing where the step is not a positive number, is along no time axis (Hz, ppm), or is 1 with voxels of
    1 x 1 x 1: that is what software writes that never set the fields. The number is not judged: `choose_t_r` does.

    Parameters
    ----------
    step : float
        ``pixdim[4]`` of NIfTI, or the step of a CIFTI series axis.
    zooms : sequence of float
        Voxel sizes; empty for an image without voxels.
    units : {"sec", "msec", "usec", "unknown", …}
        Unit of `step` as nibabel names it; unknown is read as seconds.
    """
    if not (math.isfinite(step) and step > 0) or units not in SECONDS_PER:
        return None
    if step == 1 and len(zooms) > 0 and all(zoom == 1 for zoom in zooms):
        return None
    # float32 in the header: 0.735 comes as 0.7350000143
    return float(f"{step * SECONDS_PER[units]:.6g}")


def choose_t_r(sources: Mapping[str, float | None]) -> ChosenTR:
    """Take the first source that says something; note the ones that say something else.

    Parameters
    ----------
    sources : mapping of str to float or None
        Repetition times in seconds by the source's name, the most trusted first: what the user gives, the sidecar,
        the header.

    Raises
    ------
    ScanError
        ``bad_t_r`` if the first that says something cannot be right.
    """
    said = {name: t_r for name, t_r in sources.items() if t_r is not None}
    if not said:
        return ChosenTR(None, None)
    source, t_r = next(iter(said.items()))
    check_t_r(t_r, source)
    notes = tuple(
        f"{name} says {other:g} s, taken is {t_r:g} s of {source}"
        for name, other in said.items()
        if not abs(other - t_r) <= NOTED_DIFFERENCE * t_r
    )
    return ChosenTR(t_r, source, notes)


def resample(timeseries: NDArray[np.floating], t_r: float | None, target_t_r: float) -> NDArray[np.float32]:
    """Resample a scan to another repetition time, with an anti-aliasing filter.

    Polyphase filtering; the line through the first and the last timepoint is set aside meanwhile, so a
    region's offset and drift ring at neither end and a constant region stays constant. Repetition times
    within 0.1 % of each other leave the values untouched. The ratio of the two is a fraction with a
    denominator of 1000 at most.

    Parameters
    ----------
    timeseries : array, shape (T, R)
        One scan.
    t_r, target_t_r : float
        Repetition time it has (None: unknown) and the one wanted, in seconds.

    Returns
    -------
    array, shape (ceil(T * t_r / target_t_r), R), float32

    Raises
    ------
    ScanError
        ``t_r_unknown`` if `t_r` is None or not a positive number, ``too_short`` for a single timepoint.
    """
    ratio = _ratio(t_r, target_t_r)
    if ratio == 1:
        return np.asarray(timeseries, dtype=np.float32)
    values = np.asarray(timeseries, dtype=np.float64)
    if len(values) < 2:
        raise ScanError("too_short", f"{len(values)} timepoint(s) cannot be resampled")
    from scipy import signal  # here: half a second of CPU, which tasks that keep the repetition time need not pay

    # scipy's padtype="line" does not do this: it extends by a line, and leaves up to 1e-3 of an offset as a ripple
    slope = (values[-1] - values[0]) / (len(values) - 1)
    around = signal.resample_poly(
        values - _line(values[0], slope, np.arange(len(values))), ratio.numerator, ratio.denominator, axis=0
    )
    out = around + _line(values[0], slope, np.arange(len(around)) / float(ratio))
    return np.asarray(out, dtype=np.float32)


def _line(first: NDArray[np.float64], slope: NDArray[np.float64], at: NDArray[np.generic]) -> NDArray[np.float64]:
    return first + np.multiply.outer(at, slope)


def resampled_length(n_timepoints: int, t_r: float | None, target_t_r: float) -> int:
    """Return how many timepoints `resample` makes of a scan.

    Raises
    ------
    ScanError
        ``t_r_unknown`` if `t_r` is None or not a positive number.
    """
    return math.ceil(n_timepoints * _ratio(t_r, target_t_r))


def resampling_notes(t_r: float, target_t_r: float) -> tuple[str, ...]:
    """Say what a reader of resampled series must know: that more timepoints hold no more signal.

    Raises
    ------
    ScanError
        ``t_r_unknown`` if `t_r` is not a positive number.
    """
    if _ratio(t_r, target_t_r) <= 1:
        return ()
    return (f"upsampled from {t_r:g} s to {target_t_r:g} s: nothing faster than {0.5 / t_r:.3g} Hz is in it",)


def pick(timeseries: NDArray[np.floating], stride: int) -> NDArray[np.float32]:
    """Keep every `stride`-th timepoint, with no filter: what the reference of Brain-JEPA does, for comparison.

    Everything faster than the new Nyquist frequency is folded into what is kept; use `resample`.
    """
    if stride < 1:
        raise ValueError(f"stride must be at least 1, got {stride}")
    return np.ascontiguousarray(timeseries[::stride], dtype=np.float32)


def _ratio(t_r: float | None, target_t_r: float) -> Fraction:
    """Return timepoints after resampling for one before; 1 for repetition times that count as equal."""
    if t_r is None or not (math.isfinite(t_r) and t_r > 0):
        raise ScanError("t_r_unknown", _unknown_t_r(t_r))
    if not (math.isfinite(target_t_r) and target_t_r > 0):
        raise ValueError(f"target_t_r must be a positive number of seconds, got {target_t_r!r}")
    if abs(t_r - target_t_r) <= SAME_T_R * target_t_r:
        return Fraction(1)
    ratio = (Fraction(t_r) / Fraction(target_t_r)).limit_denominator(1000)
    if ratio.numerator == 0:
        raise ScanError("t_r_unknown", f"t_r {t_r} s cannot be resampled to {target_t_r} s; check the sidecar's unit")
    return ratio


def _unknown_t_r(t_r: float | None) -> str:
    return (
        f"repetition time is {t_r!r}, and target_t_r asks for resampling; "
        "give t_r (seconds) at ingest or leave target_t_r out"
    )

"""Windows: from the timeseries of one scan, (T, R), to what an encoder takes, (W, 1, R, T).

The transpose happens in `to_model_input` and nowhere else.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import pydantic
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from boldstream.config import Config
from boldstream.errors import ScanError
from boldstream.parcellation.timing import resample

if TYPE_CHECKING:
    import torch


class WindowSpec(Config):
    """How windows are cut out of a scan."""

    length: int = pydantic.Field(gt=0)
    """Timepoints in a window, after resampling."""
    stride: int = pydantic.Field(gt=0)
    """Timepoints between the starts of two windows."""
    target_t_r: float | None = pydantic.Field(default=None, gt=0)
    """Repetition time (seconds) to resample every scan to; none: take scans as they were sampled."""
    short_scans: Literal["refuse", "pad"] = "refuse"
    """What happens to a scan shorter than one window: refuse it, or mirror it at its end and flag it."""


@dataclass(frozen=True)
class Windows:
    """Windows of one scan.

    Attributes
    ----------
    values : array, shape (W, length, R), float32
        The windows: a read-only view of the one series, so that a long scan's overlapping windows take no memory.
    starts : array, shape (W,), int64
        First timepoint of each window, after resampling.
    padded : bool
        Whether timepoints were made up to fill the one window.
    n_timepoints : int
        Length of the scan after resampling, before padding.
    """

    values: NDArray[np.float32]
    starts: NDArray[np.int64]
    padded: bool
    n_timepoints: int


def cut_windows(timeseries: NDArray[np.floating], t_r: float | None, spec: WindowSpec) -> Windows:
    """Cut a scan into windows, resampling it first if `spec` asks for it.

    Windows start at 0, stride, 2 stride, …; timepoints after the last whole window are left out. With
    ``short_scans: pad`` a scan shorter than a window is mirrored at its end (as often as needed, the end
    points not repeated) into a single window, and `padded` is set.

    Parameters
    ----------
    timeseries : array, shape (T, R)
        One scan.
    t_r : float or None
        Its repetition time in seconds; needed only with `spec.target_t_r`.
    spec : WindowSpec

    Raises
    ------
    ScanError
        ``shorter_than_window``, ``t_r_unknown`` or ``not_finite``.
    """
    values = np.asarray(timeseries, dtype=np.float32)
    if values.ndim != 2:
        raise ValueError(f"a timeseries is (n_timepoints, n_rois), got shape {values.shape}")
    if not np.isfinite(values).all():
        raise ScanError("not_finite", f"{int((~np.isfinite(values)).sum())} values are NaN or infinite")
    if spec.target_t_r is not None:
        values = resample(values, t_r, spec.target_t_r)
    n_timepoints = len(values)
    short = n_timepoints < spec.length
    if short:
        # one timepoint has nothing to mirror
        if spec.short_scans == "refuse" or n_timepoints < 2:
            raise ScanError("shorter_than_window", _too_short(len(timeseries), n_timepoints, spec))
        values = np.pad(values, ((0, spec.length - n_timepoints), (0, 0)), mode="reflect")
    starts = np.arange(0, len(values) - spec.length + 1, spec.stride, dtype=np.int64)
    view = sliding_window_view(values, spec.length, axis=0)[:: spec.stride].transpose(0, 2, 1)
    return Windows(values=view, starts=starts, padded=short, n_timepoints=n_timepoints)


def to_model_input(windows: NDArray[np.floating]) -> "torch.Tensor":
    """Turn windows (W, T, R) into the encoders' (W, 1, R, T), float32, in memory of its own.

    The one place where time and regions change places.
    """
    import torch  # here, so that cutting windows needs no torch

    values = np.asarray(windows, dtype=np.float32)
    if values.ndim != 3:
        raise ValueError(f"windows are (W, n_timepoints, n_rois), got shape {values.shape}")
    # a copy: Arrow's buffers are read-only, torch's are not
    turned = np.array(values.transpose(0, 2, 1), dtype=np.float32, order="C", copy=True)
    return torch.from_numpy(turned).unsqueeze(1)


def _too_short(n_original: int, n_timepoints: int, spec: WindowSpec) -> str:
    resampled = f" ({n_original} before resampling to {spec.target_t_r} s)" if spec.target_t_r else ""
    return (
        f"{n_timepoints} timepoints{resampled}, a window has {spec.length}; "
        "use a model with shorter windows, or short_scans: pad"
    )

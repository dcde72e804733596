"""Each region's distribution over a cohort, in two passes whose parts merge, and how far a scan or a cohort is off.

First pass: `Moments`. Second pass: `Histogram`, counts between limits that follow from the moments. Counts are whole
numbers and limits are shared, so the quantiles do not depend on how scans are grouped or in which order groups merge.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from boldstream.parcellation.gradients import MeanConnectivity
from boldstream.unpack import read_npz

N_BINS = 4096
LIMIT_SD = 8.0
"""A histogram reaches so many standard deviations from the mean, or as far as there are values."""
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


class Moments:
    """Count, mean, variance, least and largest value of every region; mergeable (Chan, Golub & LeVeque 1983).

    Attributes
    ----------
    count : int
    mean, m2, low, high : array, shape (n_rois,), float64
        `m2` is the sum of squares around the mean.
    """

    def __init__(self, n_rois: int) -> None:
        self.count = 0
        self.mean, self.m2 = np.zeros(n_rois), np.zeros(n_rois)
        self.low, self.high = np.full(n_rois, np.inf), np.full(n_rois, -np.inf)

    def add(self, values: NDArray[np.floating]) -> Self:
        """Take up values, shape (n, n_rois)."""
        x = np.asarray(values, dtype=np.float64)
        part = Moments(x.shape[1])
        part.count, part.mean = len(x), x.mean(axis=0)
        part.m2 = np.square(x - part.mean).sum(axis=0)
        part.low, part.high = x.min(axis=0), x.max(axis=0)
        return self.merge(part)

    def merge(self, other: "Moments") -> Self:
        """Take up another's values."""
        total = self.count + other.count
        if other.count:
            away = other.mean - self.mean
            self.mean = self.mean + away * (other.count / total)
            self.m2 = self.m2 + other.m2 + np.square(away) * (self.count * other.count / total)
            self.low, self.high = np.minimum(self.low, other.low), np.maximum(self.high, other.high)
            self.count = total
        return self

    @property
    def sd(self) -> NDArray[np.float64]:
        """Standard deviation (dividing by the count), shape (n_rois,)."""
        return np.sqrt(self.m2 / max(self.count, 1))


class Histogram:
    """Counts of every region's values in equal bins; mergeable.

    Attributes
    ----------
    low, width : array, shape (n_rois,), float64
        Where the first bin begins, and how wide each is.
    counts : array, shape (n_rois, N_BINS), int64
        Values beyond the limits are counted in the outermost bins.
    """

    def __init__(self, moments: Moments) -> None:
        reach = LIMIT_SD * moments.sd
        self.low = np.maximum(moments.low, moments.mean - reach)
        self.width = (np.minimum(moments.high, moments.mean + reach) - self.low) / N_BINS
        self.counts = np.zeros((len(self.low), N_BINS), dtype=np.int64)

    def add(self, values: NDArray[np.floating]) -> Self:
        """Take up values, shape (n, n_rois)."""
        width = np.where(self.width > 0, self.width, 1.0)
        bins = np.clip((np.asarray(values, dtype=np.float64) - self.low) / width, 0, N_BINS - 1).astype(np.int64)
        flat = bins + np.arange(len(self.low)) * N_BINS
        self.counts += np.bincount(flat.ravel(), minlength=self.counts.size).reshape(self.counts.shape)
        return self

    def merge(self, counts: NDArray[np.integer]) -> Self:
        """Take up another's counts, made with the same limits."""
        self.counts += counts
        return self

    def quantiles(self, shares: tuple[float, ...] = QUANTILES) -> NDArray[np.float64]:
        """Return the quantiles, shape (len(shares), n_rois), each within a bin's width of a value of that rank."""
        below = self.counts.cumsum(axis=1)
        total = below[:, -1:]
        found = []
        for share in shares:
            rank = share * total
            at = (below < rank).sum(axis=1)
            at = np.minimum(at, N_BINS - 1)
            rows = np.arange(len(at))
            before = below[rows, at] - self.counts[rows, at]
            inside = (rank[:, 0] - before) / np.maximum(self.counts[rows, at], 1)
            found.append(self.low + (at + np.clip(inside, 0, 1)) * self.width)
        return np.stack(found)


@dataclass(frozen=True)
class RoiStatistics:
    """What the trained-on scans of a cohort look like.

    Attributes
    ----------
    n_scans, n_timepoints : int
    mean, sd, low, high : array, shape (n_rois,), float64
        Over all timepoints of all scans.
    quantiles : array, shape (5, n_rois), float64
        `QUANTILES` over all timepoints of all scans.
    quantile_error : array, shape (n_rois,), float64
        Width of a bin: no quantile is farther from a value of its rank.
    scan_mean_quantiles, scan_sd_quantiles : array, shape (5, n_rois), float64
        Of the scans' temporal means, and of their temporal standard deviations.
    scan_mean_error, scan_sd_error : array, shape (n_rois,), float64
        Their bins' widths.
    z_sum : array, shape (n_rois, n_rois), float64
        Sum over scans of Fisher's z of their connectivity.
    z_count : array, shape (n_rois, n_rois), int64
        Scans in which both regions vary.
    t_r : array, shape (k,), float64
        Repetition times that occur (s); NaN: unknown.
    length : array, shape (3,), float64
        Least, median and largest number of timepoints.
    """

    n_scans: int
    n_timepoints: int
    mean: NDArray[np.float64]
    sd: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    quantiles: NDArray[np.float64]
    quantile_error: NDArray[np.float64]
    scan_mean_quantiles: NDArray[np.float64]
    scan_sd_quantiles: NDArray[np.float64]
    scan_mean_error: NDArray[np.float64]
    scan_sd_error: NDArray[np.float64]
    z_sum: NDArray[np.float64]
    z_count: NDArray[np.int64]
    t_r: NDArray[np.float64]
    length: NDArray[np.float64]

    @classmethod
    def gathered(
        cls,
        moments: Sequence[Moments],
        histograms: Sequence[Histogram],
        connectivity: MeanConnectivity,
        *,
        t_r: NDArray[np.float64],
        length: NDArray[np.float64],
    ) -> Self:
        """Put together what the two passes gave: of all timepoints, of scans' means, of their standard deviations."""
        values, means, _ = moments
        of_values, of_means, of_sds = histograms
        return cls(
            n_scans=means.count,
            n_timepoints=values.count,
            mean=values.mean,
            sd=values.sd,
            low=values.low,
            high=values.high,
            quantiles=of_values.quantiles(),
            quantile_error=of_values.width,
            scan_mean_quantiles=of_means.quantiles(),
            scan_sd_quantiles=of_sds.quantiles(),
            scan_mean_error=of_means.width,
            scan_sd_error=of_sds.width,
            z_sum=connectivity.z_sum,
            z_count=connectivity.count,
            t_r=t_r,
            length=length,
        )

    def connectivity(self) -> MeanConnectivity:
        """Return the mean connectivity as an accumulator."""
        found = MeanConnectivity(len(self.mean))
        found.z_sum, found.count = self.z_sum.copy(), self.z_count.copy()
        return found

    def to_bytes(self) -> bytes:
        """Return all of it as an uncompressed .npz: the same numbers give the same bytes."""
        buffer = io.BytesIO()
        arrays: dict[str, Any] = {field.name: np.asarray(getattr(self, field.name)) for field in fields(self)}
        np.savez(buffer, **arrays)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read what `to_bytes` wrote.

        Raises
        ------
        ValueError
            If it is something else.
        """
        try:
            values: dict[str, Any] = dict(read_npz(data))
        except ValueError as error:
            raise ValueError(f"is no .npz of statistics ({error})") from None
        if values.keys() != {field.name for field in fields(cls)}:
            raise ValueError(f"holds {', '.join(sorted(values))}, not the statistics of a cohort")
        values |= {name: int(values[name]) for name in ("n_scans", "n_timepoints")}
        return cls(**values)

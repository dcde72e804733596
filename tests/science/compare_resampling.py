"""From 0.735 s to 2.205 s: filtered and resampled against every third timepoint, on planted scans.

    python tests/science/compare_resampling.py [--scans 20] [--rois 100] [--timepoints 490] [--seed 0]

A scan is a planted slow part (0.01 to 0.1 Hz, mixed from 8 networks, its own mixing per scan) plus a fast part, which
is half respiration (one wave of 0.25 to 0.35 Hz per scan, wandering by 0.01 Hz, with a weight and a delay per region),
half white noise that differs between regions. The fast part has the given share of the variance; no public data at
0.735 s is at hand, so shares are assumed, and cover what is plausible.

By share and method, medians over scans:

aliased      power that comes from above the new Nyquist frequency (0.227 Hz), as a share of the result's
FC full      correlation of the upper triangles of FC with those of the scan at 0.735 s, as it is
FC planted   ... with those of the planted slow part at 0.735 s
split-half   ... of the scan's first half with those of its second half

The last line is one JSON object.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from boldstream.parcellation.timing import pick, resample

T_R, STRIDE = 0.735, 3
TARGET_T_R = T_R * STRIDE
N_NETWORKS = 8
FAST_SHARES = (0.1, 0.3, 0.5, 0.7)
METHODS: dict[str, Callable[[NDArray], NDArray]] = {
    "pick": lambda series: pick(series, STRIDE),
    "resample": lambda series: resample(series, T_R, TARGET_T_R),
}


@dataclass(frozen=True)
class Row:
    """What one method does at one share of fast variance; medians over scans."""

    fast_share: float
    method: str
    aliased: float
    fc_full: float
    fc_planted: float
    split_half: float


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=int, default=20)
    parser.add_argument("--rois", type=int, default=100)
    parser.add_argument("--timepoints", type=int, default=490)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    rows = compare_resampling(
        n_scans=args.scans, n_rois=args.rois, n_timepoints=args.timepoints, fast_shares=FAST_SHARES, seed=args.seed
    )
    print("fast share  method     aliased  FC full  FC planted  split-half")
    for row in rows:
        print(
            f"{row.fast_share:10.1f}  {row.method:9s}  {row.aliased:7.3f}  {row.fc_full:7.3f}  {row.fc_planted:10.3f}  "
            f"{row.split_half:10.3f}"
        )
    ours, baseline = ([row.aliased for row in rows if row.method == method] for method in ("resample", "pick"))
    ratios = [theirs / mine for mine, theirs in zip(ours, baseline, strict=True)]
    print(
        json.dumps(
            {
                "name": "compare_resampling", "ratio": min(ratios), "target": 5, "met": min(ratios) >= 5,
                "ours": ours, "baseline": baseline, "unit": "share of power aliased, by fast share",
            }
        )
    )  # fmt: skip


def compare_resampling(
    *, n_scans: int, n_rois: int, n_timepoints: int, fast_shares: Sequence[float], seed: int
) -> list[Row]:
    """Measure both methods at every share."""
    rows = []
    for share in fast_shares:
        found: dict[str, list[tuple[float, ...]]] = {method: [] for method in METHODS}
        for scan in range(n_scans):
            slow, fast = plant(np.random.default_rng([seed, scan]), n_timepoints, n_rois)
            slow, fast = np.sqrt(1 - share) * slow, np.sqrt(share) * fast
            too_fast = above(fast, 0.5 / TARGET_T_R)
            for method, reduce in METHODS.items():
                short, half = reduce(slow + fast), len(reduce(fast)) // 2
                aliased = reduce(too_fast).var(axis=0).mean() / short.var(axis=0).mean()
                found[method].append(
                    (
                        float(aliased),
                        alike(short, slow + fast),
                        alike(short, slow),
                        alike(short[:half], short[half:]),
                    )
                )
        rows += [Row(share, method, *np.median(values, axis=0).tolist()) for method, values in found.items()]
    return rows


def plant(rng: np.random.Generator, n_timepoints: int, n_rois: int) -> tuple[NDArray, NDArray]:
    """Return the slow and the fast part of one scan, (n_timepoints, n_rois) each, of variance 1 by region."""
    drive = band(rng.normal(size=(n_timepoints, N_NETWORKS)), 0.01, 0.1)
    private = band(rng.normal(size=(n_timepoints, n_rois)), 0.01, 0.1)
    slow = drive @ rng.normal(size=(N_NETWORKS, n_rois)) + private
    wander = np.cumsum(rng.normal(size=n_timepoints))
    hertz = rng.uniform(0.25, 0.35) + 0.01 * wander / np.abs(wander).max()
    angle = 2 * np.pi * np.cumsum(hertz) * T_R
    breath = np.sin(angle[:, None] + rng.uniform(0, np.pi / 2, n_rois)) * rng.normal(size=n_rois)
    noise = rng.normal(size=(n_timepoints, n_rois))
    fast = unit(breath) * np.sqrt(0.5) + unit(noise) * np.sqrt(0.5)
    return unit(slow), unit(fast)


def band(series: NDArray, low: float, high: float) -> NDArray:
    """Keep the frequencies (Hz) from low to high."""
    hertz = np.fft.rfftfreq(len(series), T_R)
    spectrum = np.fft.rfft(series, axis=0)
    return np.fft.irfft(spectrum * ((hertz >= low) & (hertz <= high))[:, None], len(series), axis=0)


def above(series: NDArray, low: float) -> NDArray:
    """Keep the frequencies above low (Hz)."""
    return band(series, low, np.inf)


def unit(series: NDArray) -> NDArray:
    """Return columns of mean 0 and variance 1."""
    return (series - series.mean(axis=0)) / series.std(axis=0)


def alike(a: NDArray, b: NDArray) -> float:
    """Return the correlation of two scans' functional connectivity."""
    upper = np.triu_indices(a.shape[1], 1)
    first, second = (np.corrcoef(series, rowvar=False)[upper] for series in (a, b))
    return float(np.corrcoef(first, second)[0, 1])


if __name__ == "__main__":
    main()

"""Lines against cubic splines across censored timepoints, on real scans.

    python tests/science/compare_bridges.py [--scans 30] [--data ../shared/data/abide/abide_cc200.npz]

Every scan gets three gaps, at 0.2, 0.5 and 0.8 of its length, and is detrended and filtered to 0.01 to 0.1 Hz (t_r
taken as 2 s). The truth is the same filter of the scan without gaps. Errors are root mean squares, as a share of the
truth's standard deviation; medians over scans.

kept     gaps bridged before the filter: the error at the timepoints that are kept
filled   gaps of the truth filled after the filter: the error in the gaps

It needs ABIDE, so it is neither a test nor one of tests/benchmarks. The last line is one JSON object.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from boldstream.parcellation.denoise import bridge, denoise

GAPS = (1, 2, 3, 5, 10)
T_R, BAND = 2.0, {"detrend": True, "high_pass": 0.01, "low_pass": 0.1}
ABIDE = Path(__file__).parents[2].parent / "shared" / "data" / "abide" / "abide_cc200.npz"


def spline(values: NDArray, kept: NDArray[np.bool_]) -> NDArray:
    return CubicSpline(np.flatnonzero(kept), values)(np.arange(len(kept)))


BRIDGES: dict[str, Callable[[NDArray, NDArray[np.bool_]], NDArray]] = {"lines": bridge, "splines": spline}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=int, default=30)
    parser.add_argument("--data", type=Path, default=ABIDE)
    args = parser.parse_args()
    if not args.data.exists():
        raise SystemExit(f"{args.data} is not there; name an .npz of (n_timepoints, n_rois) arrays with --data")
    with np.load(args.data) as archive:
        names = archive.files[:: max(1, len(archive.files) // args.scans)][: args.scans]
        scans = [archive[name].astype(np.float64) for name in names]
    print(
        f"{len(scans)} scans\ngap  "
        + "  ".join(f"{where} {name:8s}" for where in ("kept", "filled") for name in BRIDGES)
    )
    kept_errors = {}
    for gap in GAPS:
        errors = np.median([measure(scan[:, scan.std(axis=0) > 0], gap) for scan in scans], axis=0)
        print(f"{gap:3d}  " + "  ".join(f"{error:13.3f}" for error in errors))
        kept_errors[gap] = errors[:2].tolist()
    ratio = min(splines / lines for lines, splines in kept_errors.values())
    print(
        json.dumps(
            {
                "name": "compare_bridges", "ratio": ratio, "target": 1, "met": ratio >= 1,
                "ours": [lines for lines, _ in kept_errors.values()],
                "baseline": [splines for _, splines in kept_errors.values()],
                "unit": "error at kept timepoints / sd, by gap",
            }
        )
    )  # fmt: skip


def measure(values: NDArray, gap: int) -> list[float]:
    """Return the errors of lines and splines at kept timepoints, then in the gaps."""
    everything = np.ones(len(values), dtype=bool)
    kept = everything.copy()
    for start in (0.2, 0.5, 0.8):
        kept[int(start * len(values)) :][:gap] = False
    truth = denoise(values, T_R, everything, None, **BAND)
    errors = []
    for build in BRIDGES.values():
        bridged = denoise(build(values[kept], kept), T_R, everything, None, **BAND)
        errors.append(rms((bridged - truth)[kept]) / truth.std())
    for build in BRIDGES.values():
        errors.append(rms((build(truth[kept], kept) - truth)[~kept]) / truth.std())
    return errors


def rms(values: NDArray) -> float:
    return float(np.sqrt(np.mean(values**2)))


if __name__ == "__main__":
    main()

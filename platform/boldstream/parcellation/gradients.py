"""Functional connectivity, and the functional gradient that is regions' position (Brain-JEPA, Sec. 3.1)."""

from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from boldstream.errors import GradientError

FLAT = 1e-6
"""A region whose standard deviation is below this part of its largest value is constant: float32 rounds."""

HIGHEST_R = 1.0 - 1e-7
"""Correlations are clipped here before Fisher's z, so that two identical regions do not give infinity."""


def functional_connectivity(timeseries: NDArray[np.floating]) -> NDArray[np.float64]:
    """Correlate every region with every other over time (Pearson).

    Parameters
    ----------
    timeseries : array, shape (n_timepoints, n_rois)
        One scan, any unit.

    Returns
    -------
    array, shape (n_rois, n_rois), float64
        Symmetric, 1 on the diagonal. A constant region correlates with nothing: its row and column are 0,
        the diagonal included, which is how `MeanConnectivity` knows it.

    Raises
    ------
    GradientError
        If there are fewer than two timepoints or values are not finite.
    """
    x = np.asarray(timeseries, dtype=np.float64)
    if x.ndim != 2 or len(x) < 2:
        raise GradientError(f"connectivity needs (n_timepoints >= 2, n_rois), got shape {x.shape}")
    if not np.isfinite(x).all():
        raise GradientError(f"timeseries holds {int((~np.isfinite(x)).sum())} values that are NaN or infinite")
    centred = x - x.mean(axis=0)
    norm = np.sqrt(np.square(centred).sum(axis=0))
    flat = norm <= FLAT * np.sqrt(len(x)) * np.abs(x).max(axis=0)
    unit = np.where(flat, 0.0, centred / np.where(flat, 1.0, norm))
    fc = np.clip(unit.T @ unit, -1.0, 1.0)
    fc = (fc + fc.T) / 2
    np.fill_diagonal(fc, np.where(flat, 0.0, 1.0))
    return fc


class MeanConnectivity:
    """Mean of scans' connectivity over Fisher's z, one scan at a time, mergeable across workers.

    A pair of regions is averaged over the scans in which both vary.

    Parameters
    ----------
    n_rois : int

    Attributes
    ----------
    z_sum : array, shape (n_rois, n_rois), float64
    count : array, shape (n_rois, n_rois), int64
    """

    def __init__(self, n_rois: int) -> None:
        self.z_sum = np.zeros((n_rois, n_rois))
        self.count = np.zeros((n_rois, n_rois), dtype=np.int64)

    def add(self, connectivity: NDArray[np.float64]) -> Self:
        """Add one scan's `functional_connectivity`, shape (n_rois, n_rois)."""
        if connectivity.shape != self.z_sum.shape:
            raise GradientError(f"connectivity has shape {connectivity.shape}, the mean {self.z_sum.shape}")
        _check_finite(connectivity)
        varies = np.diagonal(connectivity) != 0
        self.z_sum += np.arctanh(np.clip(connectivity, -HIGHEST_R, HIGHEST_R))
        self.count += np.outer(varies, varies)
        return self

    def merge(self, other: "MeanConnectivity") -> Self:
        """Add another accumulator's scans."""
        self.z_sum += other.z_sum
        self.count += other.count
        return self

    def result(self) -> NDArray[np.float64]:
        """Return the mean connectivity, shape (n_rois, n_rois), float64, 1 on the diagonal.

        Raises
        ------
        GradientError
            If some pair of regions never varies together.
        """
        empty = np.flatnonzero((self.count == 0).any(axis=1))
        if len(empty):
            worst = np.flatnonzero(np.diagonal(self.count) == 0)
            named = ", ".join(map(str, worst[:5] if len(worst) else empty[:5]))
            raise GradientError(
                f"{len(worst) if len(worst) else len(empty)} regions (indices {named}, …) are constant in "
                "every scan that could pair them; leave those regions out of the atlas, or add scans"
            )
        mean = np.tanh(self.z_sum / self.count)
        np.fill_diagonal(mean, 1.0)
        return mean


def diffusion_gradient(
    connectivity: NDArray[np.floating], n_components: int = 30, alpha: float = 0.5
) -> NDArray[np.float64]:
    """Embed regions by an anisotropic diffusion map of their connectivity.

    Affinity of two regions is ``1 - angle / pi`` between their rows of connectivity, dense: nothing is
    thresholded, as printed in the paper (BrainSpace's default would keep a tenth of each row). With
    ``W = D^-alpha A D^-alpha`` and ``M = D_W^-1 W``, the components are M's eigenvectors after the constant
    one, relative to it, times ``lambda / (1 - lambda)``. M is similar to a symmetric matrix, which is what is
    solved, in float64; so components are orthogonal under the stationary distribution (D_W), and nearly so
    without it. The entry of largest magnitude of a component is positive.

    Parameters
    ----------
    connectivity : array, shape (n_rois, n_rois)
        Symmetric, of a group (one gradient serves every subject).
    n_components : int
    alpha : float
        0.5 is Fokker-Planck diffusion.

    Returns
    -------
    array, shape (n_rois, n_components), float64
        Components in order of falling eigenvalue.

    Raises
    ------
    GradientError
        If there are not more regions than components, values are not finite or not symmetric, or a region
        has no connectivity.

    References
    ----------
    Coifman & Lafon (2006), Appl. Comput. Harmon. Anal. 21:5; Dong et al. (2024), arXiv 2409.19407.
    """
    fc = np.asarray(connectivity, dtype=np.float64)
    _check_connectivity(fc, n_components)
    unit = fc / np.linalg.norm(fc, axis=1, keepdims=True)
    affinity = 1.0 - np.arccos(np.clip(unit @ unit.T, -1.0, 1.0)) / np.pi
    np.fill_diagonal(affinity, 1.0)
    affinity = (affinity + affinity.T) / 2
    degree = affinity.sum(axis=1) ** -alpha
    weight = affinity * np.outer(degree, degree)
    root = np.sqrt(weight.sum(axis=1))
    n = len(fc)
    values, vectors = linalg.eigh(weight / np.outer(root, root), subset_by_index=(n - n_components - 1, n - 1))
    values, vectors = values[::-1], vectors[:, ::-1]
    if values[1] >= 1.0 - 1e-12:
        raise GradientError("connectivity falls into parts that have nothing to do with each other; check the atlas")
    # D_W^-1/2 u are M's eigenvectors; the first is constant up to its scale, 1 / root
    relative = vectors[:, 1:] / vectors[:, [0]]
    scaled = relative * (values[1:] / (1.0 - values[1:]))
    largest = scaled[np.abs(scaled).argmax(axis=0), np.arange(n_components)]
    return np.asarray(scaled * np.where(largest < 0, -1.0, 1.0), dtype=np.float64)


def _check_connectivity(fc: NDArray[np.float64], n_components: int) -> None:
    if fc.ndim != 2 or fc.shape[0] != fc.shape[1]:
        raise GradientError(f"connectivity is (n_rois, n_rois), got shape {fc.shape}")
    if not 1 <= n_components < len(fc):
        raise GradientError(
            f"{n_components} components need more than {n_components} regions, connectivity has {len(fc)}; "
            f"choose 1 to {len(fc) - 1}"
        )
    _check_finite(fc)
    if not np.allclose(fc, fc.T, atol=1e-8):
        raise GradientError(f"connectivity is not symmetric (differences up to {np.abs(fc - fc.T).max():.3g})")
    alone = np.flatnonzero(~fc.any(axis=1))
    if len(alone):
        named = ", ".join(map(str, alone[:5]))
        raise GradientError(f"{len(alone)} regions (indices {named}) have no connectivity; leave them out or add scans")


def _check_finite(fc: NDArray[np.float64]) -> None:
    bad = int((~np.isfinite(fc)).sum())
    if bad:
        raise GradientError(f"connectivity holds {bad} values that are NaN or infinite; check the scans behind it")


def read_gradient(path: str | Path) -> NDArray[np.float64]:
    """Read a gradient from comma-separated text without a header, a region a line.

    Returns
    -------
    array, shape (n_rois, n_components), float64

    Raises
    ------
    GradientError
        If the file cannot be read, lines differ in length, a value is no finite number, or a component is the
        same for every region.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").strip().splitlines()
    except OSError as error:
        raise GradientError(f"{path}: the gradient cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise GradientError(f"{path}: the gradient is not UTF-8 text") from None
    if not lines:
        raise GradientError(f"{path}: the gradient is empty")
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append([float(cell) for cell in line.split(",")])
        except ValueError as error:
            raise GradientError(
                f"{path}: line {number} of the gradient is not numbers with commas between ({error}); a line is a "
                "region's components, without header or names"
            ) from None
        if len(rows[-1]) != len(rows[0]):
            raise GradientError(f"{path}: line {number} has {len(rows[-1])} numbers, line 1 has {len(rows[0])}")
    values = np.array(rows)
    if len(bad := np.argwhere(~np.isfinite(values))):
        row, column = bad[0]
        raise GradientError(
            f"{path}: {len(bad)} values of the gradient are NaN or infinite, the first in line {row + 1}, column "
            f"{column + 1}"
        )
    if len(flat := np.flatnonzero((values == values[0]).all(axis=0))):
        raise GradientError(
            f"{path}: component {flat[0] + 1} of the gradient is {values[0, flat[0]]:g} for every region "
            f"({len(flat)} such of {values.shape[1]}); a component that does not vary is no position"
        )
    return values

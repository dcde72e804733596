"""Scans that are unlike the rest of a cohort, and scans that are there twice."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

FEWEST = 20
"""Fewer scans have no covariance to be outlying from."""

MOST_COMPONENTS = 8
SCANS_A_COMPONENT = 20
FLAT = 1e-10
"""A component with less than this part of the largest one's spread is rounding."""

MAD_OF_NORMAL = 1.4826
MAD_EFFICIENCY = 0.37
"""A median absolute deviation of n normal values is as uncertain as the SD of 0.37 n."""

SITE_FEWEST = 8
"""Scans that a site needs for a centre of its own."""


@dataclass(frozen=True)
class Outliers:
    """How far every scan is from the cohort.

    Attributes
    ----------
    scores : array, shape (n_scans,)
        In SDs: in a normal cohort a share of about ``norm.sf(score)`` of the scans is further away; 0 is the middle,
        negative is near. NaN for scans without a sketch, and for all where there are too few.
    p_values : array, shape (n_scans,)
        That share.
    coordinates : array, shape (n_scans, 2)
        First two robust principal components, for a map; NaN as the scores.
    note : str or None
        Why there are no scores.
    """

    scores: NDArray[np.float64]
    p_values: NDArray[np.float64]
    coordinates: NDArray[np.float64]
    note: str | None = None


def outlier_scores(
    sketches: Sequence[NDArray[np.floating] | None] | NDArray[np.floating],
    sites: Sequence[str | None] | None = None,
    *,
    seed: int = 0,
) -> Outliers:
    """Measure how far every scan's connectivity is from the cohort's, by robust distances.

    Sketches are centred on the median (of their site, where it has 8 scans or more, so that a site that differs as a
    whole is not one of outliers), scaled by the median absolute deviation, and split into a few spherical principal
    components and the rest. The first part's Mahalanobis distance takes centre and covariance from the half of the
    scans that lies closest (minimum covariance determinant); the other part is its length. Both become normal scores
    (Wilson & Hilferty's cube root, and Hubert's 2/3 power), their scale set by the cohort's median, and the larger one
    counts, as one of two.

    Parameters
    ----------
    sketches : array, shape (n_scans, n_dims), or sequence of arrays and None
        Row: `boldstream.parcellation.fc_sketch.sketch_connectivity` of a scan; None or NaN: it has none.
    sites : sequence of str or None, optional
        Site of every scan.
    seed : int
        Of the search for the closest half.

    Raises
    ------
    ValueError
        If sketches differ in length, or sites are not one a scan.

    References
    ----------
    Rousseeuw & Van Driessen (1999), Technometrics 41:212; Hubert, Rousseeuw & Vanden Branden (2005), Technometrics
    47:64; Locantore et al. (1999), Test 8:1.
    """
    x = _matrix(sketches)
    n_scans = len(x)
    if sites is not None and len(sites) != n_scans:
        raise ValueError(f"there are {len(sites)} sites for {n_scans} sketches")
    scores, coordinates = np.full(n_scans, np.nan), np.full((n_scans, 2), np.nan)
    known: NDArray[np.bool_] = np.asarray(np.isfinite(x).all(axis=1))
    n = int(known.sum())
    if n < FEWEST:
        note = f"{n} of {n_scans} scans have connectivity to compare; outliers are sought among {FEWEST} or more"
        return Outliers(scores, scores.copy(), coordinates, note)
    named = [site for site, there in zip(sites, known, strict=True) if there] if sites is not None else [None] * n
    scaled = _scale(_centre(x[known], named))
    if not scaled.shape[1]:
        note = f"at least half of the {n} scans have the same connectivity; there is no spread to be outlying from"
        return Outliers(scores, scores.copy(), coordinates, note)
    all_axes = _spherical_components(scaled, MOST_COMPONENTS)
    coordinates[known, : min(2, len(all_axes))] = scaled @ all_axes[:2].T
    axes = all_axes[: n // SCANS_A_COMPONENT]
    inside = scaled @ axes.T
    outside = np.linalg.norm(scaled - inside @ axes, axis=1)
    z = _of_estimated_scale(np.maximum(_mahalanobis_score(inside, seed), _length_score(outside)), n)
    scores[known] = _larger_of_two(z)
    return Outliers(scores, stats.norm.sf(scores), coordinates)


def find_duplicates(keys: Sequence[str], hashes: Sequence[str | None]) -> list[tuple[str, ...]]:
    """Return the groups of scans with the same content, in the order of their first keys.

    Parameters
    ----------
    keys : sequence of str
        Scan keys.
    hashes : sequence of str or None
        Content hash of every scan; None is equal to nothing.
    """
    groups: dict[str, list[str]] = {}
    for key, content in sorted(zip(keys, hashes, strict=True), key=lambda pair: pair[0]):
        if content is not None:
            groups.setdefault(content, []).append(key)
    return sorted(tuple(group) for group in groups.values() if len(group) > 1)


def copies(groups: Sequence[Sequence[str]], subjects: dict[str, str]) -> dict[str, str]:
    """Say of every scan to be marked which scan it is a copy of.

    Copies of one subject: all but the first. Of several subjects: all, for nothing tells whose scan it is.

    Parameters
    ----------
    groups : sequence of sequence of str
        Of `find_duplicates`.
    subjects : dict of str to str
        Subject by scan key.
    """
    marked: dict[str, str] = {}
    for group in groups:
        first = group[0]
        if len({subjects[key] for key in group}) > 1:
            marked[first] = group[1]
        marked |= dict.fromkeys(group[1:], first)
    return marked


def _matrix(sketches: Sequence[NDArray[np.floating] | None] | NDArray[np.floating]) -> NDArray[np.float64]:
    """Return sketches as one matrix, NaN where there is none."""
    found = [None if sketch is None else np.asarray(sketch, dtype=np.float64).ravel() for sketch in sketches]
    lengths = sorted({len(sketch) for sketch in found if sketch is not None})
    if len(lengths) > 1:
        raise ValueError(f"sketches have {lengths[0]} and {lengths[-1]} numbers; they are of one length in a cohort")
    width = lengths[0] if lengths else 0
    matrix = np.full((len(found), max(width, 1)), np.nan)
    for row, sketch in enumerate(found):
        if sketch is not None and len(sketch):
            matrix[row] = sketch
    return matrix


def _centre(x: NDArray[np.float64], sites: Sequence[str | None]) -> NDArray[np.float64]:
    """Subtract the median of the site, or of the cohort where a site has few scans or no name."""
    centred = x - np.median(x, axis=0)
    for site in {site for site in sites if site is not None}:
        rows = np.array([site == other for other in sites])
        if rows.sum() >= SITE_FEWEST:
            centred[rows] = x[rows] - np.median(x[rows], axis=0)
    return centred


def _scale(centred: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divide columns by their robust SD; columns in which half of the scans agree are left out."""
    spread = MAD_OF_NORMAL * np.median(np.abs(centred), axis=0)
    varies = spread > 0
    return centred[:, varies] / spread[varies]


def _spherical_components(x: NDArray[np.float64], n_components: int) -> NDArray[np.float64]:
    """Return the first principal axes of the directions of rows, which no row can pull by its length."""
    length = np.linalg.norm(x, axis=1, keepdims=True)
    directions = np.divide(x, length, out=np.zeros_like(x), where=length > 0)
    _, singular, axes = np.linalg.svd(directions, full_matrices=False)
    return np.asarray(axes[singular > FLAT * singular[0]][:n_components])


def _mahalanobis_score(inside: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Return normal scores of robust Mahalanobis distances."""
    from sklearn.covariance import MinCovDet

    # a direction in which nothing varies has no covariance: the centre may lie off the plane that all scans are in
    _, singular, axes = np.linalg.svd(inside - inside.mean(axis=0), full_matrices=False)
    inside = inside @ axes[singular > FLAT * singular[0]].T
    k = inside.shape[1]
    squared = MinCovDet(random_state=seed).fit(inside).mahalanobis(inside)
    squared = squared * (stats.chi2.ppf(0.5, k) / np.median(squared))
    return np.asarray((np.cbrt(squared / k) - (1 - 2 / (9 * k))) / np.sqrt(2 / (9 * k)))


def _of_estimated_scale(z: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """Return the normal scores of what is Student's t, its scale being estimated from n scans (Wallace 1959)."""
    df = MAD_EFFICIENCY * n
    return np.sign(z) * np.sqrt(df * np.log1p(np.square(z) / df)) * (8 * df + 1) / (8 * df + 3)


def _larger_of_two(z: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the normal scores of what is the larger of two, by its logarithm where 1 - p would round to 1."""
    near = -special.ndtri(1 - np.square(special.ndtr(np.minimum(z, 3))))
    far = -special.ndtri_exp(np.log(2) + stats.norm.logsf(np.maximum(z, 3)))
    return np.asarray(np.where(z < 3, near, far))


def _length_score(outside: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return normal scores of distances from the components' subspace; very low ones where there is no rest."""
    power = np.power(outside, 2 / 3)
    spread = MAD_OF_NORMAL * np.median(np.abs(power - np.median(power)))
    if not spread > 1e-6 * max(1.0, float(np.median(power))):
        return np.full(len(power), -np.inf)
    return np.asarray((power - np.median(power)) / spread)

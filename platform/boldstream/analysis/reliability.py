"""Does an embedding say the same of a subject twice? Intraclass correlations, and identification within sites."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boldstream.analysis.quality import Metric, found_again, identification


class Icc(NamedTuple):
    """Intraclass correlations of every dimension; NaN where a dimension does not vary.

    Attributes
    ----------
    consistency : array, shape (d,)
        ICC(3,1): sessions are these ones; a shift that all subjects share does not count against it.
    agreement : array, shape (d,)
        ICC(2,1): sessions are any ones; such a shift counts.
    """

    consistency: NDArray[np.float64]
    agreement: NDArray[np.float64]


def icc(sessions: ArrayLike) -> Icc:
    """Return ICC(3,1) and ICC(2,1) of every dimension.

    Parameters
    ----------
    sessions : array, shape (n_sessions, n_subjects, d)
        At least two of each, subjects in the same order.

    Raises
    ------
    ValueError
        If there are too few, or values are not finite.

    References
    ----------
    Shrout & Fleiss (1979), Psychol. Bull. 86:420.
    """
    x = np.asarray(sessions, dtype=np.float64)
    if x.ndim != 3 or min(x.shape[:2]) < 2:
        raise ValueError(f"an ICC needs (n_sessions >= 2, n_subjects >= 2, d), got shape {x.shape}")
    if not np.isfinite(x).all():
        raise ValueError(f"sessions hold {int((~np.isfinite(x)).sum())} values that are NaN or infinite")
    k, n, _ = x.shape
    x = x - x.mean(axis=(0, 1))
    subject, session = x.mean(axis=0), x.mean(axis=1)
    rows = k * np.square(subject).sum(axis=0) / (n - 1)
    columns = n * np.square(session).sum(axis=0) / (k - 1)
    error = np.square(x - subject - session[:, None]).sum(axis=(0, 1)) / ((n - 1) * (k - 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        consistency = (rows - error) / (rows + (k - 1) * error)
        agreement = (rows - error) / (rows + (k - 1) * error + k * (columns - error) / n)
    varies = np.ptp(np.asarray(sessions, dtype=np.float64), axis=(0, 1)) > 0
    return Icc(np.where(varies, consistency, np.nan), np.where(varies, agreement, np.nan))


class WithinSite(NamedTuple):
    """Identification where candidates are of the same site only, so that a scanner's signature is no help.

    Attributes
    ----------
    n : int
        Subjects of sites with at least two.
    accuracy, chance : float
        Share found again, mean of both directions; and the mean over subjects of 1 / subjects of the site.
    i_diff : float
        Mean over sites, weighted by subjects, of the differential identifiability within it.
    """

    n: int
    accuracy: float
    chance: float
    i_diff: float


def identification_within(
    first: ArrayLike, second: ArrayLike, sites: ArrayLike, metric: Metric = "correlation"
) -> WithinSite:
    """Find subjects again among those of their own site; with as many sites as subjects there is nobody to confuse.

    Parameters
    ----------
    first, second : array, shape (n_subjects, d)
        Two sessions, runs or halves; row i of both belongs to the same subject.
    sites : array, shape (n_subjects,)
    metric : {"correlation", "cosine"}

    Raises
    ------
    ValueError
        As `quality.identification`, and if no site has two subjects.

    References
    ----------
    Finn et al. (2015), Nat. Neurosci. 18:1664; Amico & Goñi (2018), Sci. Rep. 8:8254.
    """
    a, b, names = np.asarray(first), np.asarray(second), np.asarray(sites)
    if names.shape != (len(a),):
        raise ValueError(f"sites have shape {names.shape}, there are {len(a)} subjects")
    found, chance, differences = [], [], []
    for site in np.unique(names):
        rows = names == site
        if (n := int(rows.sum())) > 1:
            found.append(found_again(a[rows], b[rows], metric).mean(axis=1))
            chance += [1 / n] * n
            differences += [identification(a[rows], b[rows], metric).i_diff] * n
    if not found:
        raise ValueError("no site has two subjects, so nobody can be confused within one")
    return WithinSite(
        len(chance), float(np.concatenate(found).mean()), float(np.mean(chance)), float(np.mean(differences))
    )

"""The report's numbers: what each representation of the same scans is worth, by the same measures."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from boldstream.analysis.quality import Identification, identification, mean_pairwise_cosine, rankme
from boldstream.errors import EmbeddingsError

HALVES = 2


@dataclass(frozen=True)
class Measured:
    """One representation of the chosen scans, measured.

    Attributes
    ----------
    name : str
        Its key in numbers and figures.
    title : str
        Its name in a sentence, e.g. ``the trained encoder``.
    n_dims : int
    rankme, mean_cosine : float
        Effective rank and mean pairwise cosine of all parts' vectors.
    coordinates : array, shape (n_parts, n_scans, 2)
        First two principal components of all parts' vectors.
    explained : tuple of float
        Share of variance on the two components.
    similarity : array, shape (n_scans, n_scans)
        Correlation of the first part's vectors with the last part's, after subtracting the mean of all vectors.
    identified, identified_centred : Identification or None
        Test-retest identification of the vectors as they are, and after subtracting their mean; None where scans
        are not cut in halves or there is one subject only, the latter also where a vector is the mean itself.
    """

    name: str
    title: str
    n_dims: int
    rankme: float
    mean_cosine: float
    coordinates: NDArray[np.float64]
    explained: tuple[float, float]
    similarity: NDArray[np.float64]
    identified: Identification | None
    identified_centred: Identification | None

    @property
    def display(self) -> str:
        """Its name as a heading, e.g. ``Trained encoder``."""
        text = self.title.removeprefix("the ")
        return text[0].upper() + text[1:]


def measure(name: str, title: str, vectors: NDArray[np.float32]) -> Measured:
    """Measure one representation.

    Parameters
    ----------
    name, title : str
    vectors : array, shape (n_parts, n_scans, n_dims)

    Raises
    ------
    EmbeddingsError
        If a vector is constant or not finite, so that it correlates with nothing.
    """
    n_parts, n_scans, n_dims = vectors.shape
    flat = vectors.reshape(-1, n_dims).astype(np.float64)
    centred = (flat - flat.mean(axis=0)).reshape(vectors.shape)
    coordinates, explained = principal_components(flat)
    halves = n_parts == HALVES and n_scans > 1
    try:
        return Measured(
            name=name,
            title=title,
            n_dims=n_dims,
            rankme=rankme(flat),
            mean_cosine=mean_pairwise_cosine(flat),
            coordinates=coordinates.reshape(n_parts, n_scans, 2),
            explained=explained,
            similarity=correlation(centred[0], centred[-1]),
            identified=identification(vectors[0], vectors[1]) if halves else None,
            identified_centred=_identify_centred(centred) if halves else None,
        )
    except ValueError as error:
        raise EmbeddingsError(f"{title} cannot be measured: {error}; look at what made it") from None


def _identify_centred(centred: NDArray[np.float64]) -> Identification | None:
    """Identify by vectors without their mean; None where that leaves nothing (collapsed embeddings)."""
    spread = np.ptp(centred, axis=2)
    return identification(centred[0], centred[1]) if (spread > 0).all() else None


def principal_components(x: NDArray[np.float64]) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """Return the first two principal components, (n, 2), and their shares of variance.

    By way of the (n, n) matrix of inner products: connectivity has far more dimensions than scans. The entry of
    largest magnitude of a component is positive.
    """
    centred = x - x.mean(axis=0)
    values, vectors = np.linalg.eigh(centred @ centred.T)
    values = np.clip(values[::-1], 0.0, None)
    scores = np.zeros((len(x), 2))
    n = min(2, len(x))
    scores[:, :n] = vectors[:, ::-1][:, :n] * np.sqrt(values[:n])
    largest = scores[np.abs(scores).argmax(axis=0), [0, 1]]
    total = values.sum()
    shares = np.append(values, 0.0)[:2] / total if total > 0 else np.zeros(2)
    return scores * np.where(largest < 0, -1.0, 1.0), (float(shares[0]), float(shares[1]))


def correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Correlate every row of one matrix with every row of another over dimensions; 0 where a row is constant."""
    units = []
    for x in (first, second):
        shifted = x - x.mean(axis=1, keepdims=True)
        norm = np.linalg.norm(shifted, axis=1, keepdims=True)
        units.append(np.divide(shifted, norm, out=np.zeros_like(shifted), where=norm > 0))
    return np.asarray(units[0] @ units[1].T)


def accuracy_interval(found: Identification) -> tuple[float, float]:
    """Return the exact 95 % interval (Clopper-Pearson) of an identification accuracy.

    Both directions use the same subjects, so they count as one set of n trials with the directions' mean count; the
    lower bound is of that count rounded down, the upper bound of it rounded up.
    """
    mean = sum(found.correct) / 2
    low = stats.binomtest(int(np.floor(mean)), found.n).proportion_ci(0.95, method="exact").low
    high = stats.binomtest(int(np.ceil(mean)), found.n).proportion_ci(0.95, method="exact").high
    return float(low), float(high)

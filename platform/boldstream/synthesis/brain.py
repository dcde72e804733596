"""What all made-up people have in common: modes of connectivity, and the directions of all effects."""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boldstream.errors import SourceError
from boldstream.synthesis.spec import SyntheticSpec

DIRECTIONS_STREAM, SITE_STREAM = 21, 22
"""These streams do not depend on the seed: other people, the same effects."""

CONNECTIVITY_EFFECTS = ("age", "sex", "trait_fc")


@dataclass(frozen=True, eq=False)
class Brain:
    """Modes of connectivity, and what changes them in which direction.

    Attributes
    ----------
    modes : array, shape (n_rois, n_modes), float64
        Eigenvectors of the mean connectivity times the roots of their eigenvalues, by falling eigenvalue.
    directions : dict of array, shape (n_modes,)
        Of ``age``, ``sex`` and ``trait_fc`` in the logarithms of the modes' gains; of length 1, at right angles to one
        another where there are enough modes.
    sites : array, shape (n_sites, n_modes)
        The same of every site.
    persistence : array, shape (n_modes,)
        By how many SDs modes differ in autocorrelation.
    coupling : array, shape (n_modes, n_modes)
        Antisymmetric, of spectral norm 1.
    connectivity_sha256 : str
        Of the mean connectivity, to 6 digits.
    """

    modes: NDArray[np.float64]
    directions: dict[str, NDArray[np.float64]]
    sites: NDArray[np.float64]
    persistence: NDArray[np.float64]
    coupling: NDArray[np.float64]
    connectivity_sha256: str

    @property
    def n_rois(self) -> int:
        """Number of regions."""
        return len(self.modes)

    @property
    def n_modes(self) -> int:
        """Number of modes."""
        return self.modes.shape[1]


def make_brain(connectivity: NDArray[np.float64], spec: SyntheticSpec) -> Brain:
    """Take the modes from mean connectivity, and draw the directions of the effects.

    Parameters
    ----------
    connectivity : array, shape (n_rois, n_rois)
        Symmetric, 1 on the diagonal. Negative eigenvalues, which means over pairs can have, are left out.
    spec : SyntheticSpec

    Raises
    ------
    SourceError
        If it has fewer than two positive eigenvalues.
    """
    values, vectors = np.linalg.eigh(connectivity)
    order = [at for at in np.argsort(values)[::-1][: spec.n_modes] if values[at] > 0]
    if len(order) < 2:
        raise SourceError(f"connectivity: {len(order)} of {len(values)} eigenvalues are positive; modes need 2")
    modes = vectors[:, order] * np.sqrt(values[order])
    # an eigenvector's sign is the library's choice; ours: the entry of largest magnitude is positive
    largest = np.abs(modes).argmax(axis=0)
    modes *= np.sign(modes[largest, np.arange(len(order))])
    n_modes = len(order)
    rng = np.random.default_rng([DIRECTIONS_STREAM, n_modes])
    drawn = rng.normal(size=(n_modes, len(CONNECTIVITY_EFFECTS)))
    axes = np.linalg.qr(drawn)[0] if n_modes >= len(CONNECTIVITY_EFFECTS) else _of_length_1(drawn.T).T
    persistence = rng.normal(size=n_modes)
    square = rng.normal(size=(n_modes, n_modes))
    coupling = square - square.T
    sites = [np.random.default_rng([SITE_STREAM, n_modes, site]).normal(size=n_modes) for site in range(spec.n_sites)]
    return Brain(
        modes=modes,
        directions=dict(zip(CONNECTIVITY_EFFECTS, np.ascontiguousarray(axes.T), strict=True)),
        sites=_of_length_1(np.array(sites)),
        persistence=persistence,
        coupling=coupling / np.linalg.norm(coupling, 2),
        connectivity_sha256=hashlib.sha256(connectivity.round(6).tobytes()).hexdigest(),
    )


def _of_length_1(rows: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float64)

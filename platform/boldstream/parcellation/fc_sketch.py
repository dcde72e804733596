"""A scan's connectivity as 64 numbers, for comparing scans; the left-right pairs of an atlas, by its names."""

import re
from functools import lru_cache

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

N_SKETCH = 64
HIGHEST_R = 0.999
SEED = 20260

STRONG = re.compile(r"(?<![a-z0-9])(lh|rh|left|right)(?![a-z0-9])", re.IGNORECASE)
WEAK = re.compile(r"(?<![a-z0-9])([lr])(?![a-z0-9])", re.IGNORECASE)


def sketch_connectivity(fc: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return a random projection of a scan's connectivity, the same for every scan with so many regions.

    The upper triangle of Fisher's z is multiplied by a very sparse random matrix of -1, 0 and 1 and scaled, so that
    the distance of two sketches estimates (to about 9 %) the root mean square difference of the scans' z over pairs.

    Parameters
    ----------
    fc : array, shape (n_rois, n_rois)
        Pearson's correlations; 0 for regions without signal.

    Returns
    -------
    array of float32, shape (64,)

    References
    ----------
    Achlioptas (2003), J. Comput. Syst. Sci. 66:671; Li, Hastie & Church (2006), KDD (density 1 / sqrt(n_pairs)).
    """
    upper = fc[np.triu_indices(len(fc), 1)]
    return (_projection(len(fc)) @ np.arctanh(np.clip(upper, -HIGHEST_R, HIGHEST_R))).astype(np.float32)


@lru_cache(maxsize=4)
def _projection(n_rois: int) -> scipy.sparse.csr_array:
    """Return the matrix, shape (64, n_pairs), drawn row by row.

    From a bit generator's raw numbers: numpy keeps those streams for ever, its distributions it may change.
    """
    n_pairs = n_rois * (n_rois - 1) // 2
    keep_one_in = max(1.0, np.sqrt(n_pairs))
    bound = np.uint64(min(2.0**64 / keep_one_in, 2.0**64 - 2048))
    bits = np.random.Philox(key=[SEED, n_rois])
    rows = []
    for _ in range(N_SKETCH):
        raw = bits.random_raw(n_pairs)
        columns = np.flatnonzero(raw <= bound)
        signs = 1.0 - 2.0 * (raw[columns] & np.uint64(1)).astype(np.float64)
        rows.append((columns, signs))
    lengths = [len(columns) for columns, _ in rows]
    scale = np.sqrt(keep_one_in / (N_SKETCH * n_pairs))
    return scipy.sparse.csr_array(
        (
            scale * np.concatenate([signs for _, signs in rows]),
            np.concatenate([columns for columns, _ in rows]),
            np.concatenate([[0], np.cumsum(lengths)]),
        ),
        shape=(N_SKETCH, n_pairs),
    )


@lru_cache(maxsize=4)
def homotopic_pairs(roi_names: tuple[str, ...]) -> NDArray[np.intp]:
    """Return the pairs of regions whose names differ in the hemisphere only, shape (n_pairs, 2), left first.

    The hemisphere is a word ``lh``/``rh`` or ``left``/``right`` of the name (Schaefer, Tian, FreeSurfer,
    Harvard-Oxford); where a name has none, a word ``L``/``R`` (AAL, Glasser). A name with two such words has no
    partner. Schaefer's twins by name are neighbours of true homologues at worst: parcels are not mirrored.
    """
    positions = {name.lower(): i for i, name in enumerate(roi_names)}
    pairs = [
        (i, positions[partner])
        for i, name in enumerate(roi_names)
        if (partner := _right_twin(name)) is not None and partner in positions
    ]
    return np.array(pairs, dtype=np.intp).reshape(-1, 2)


def _right_twin(name: str) -> str | None:
    """Return the lower-case name of a left region's right twin; None for all other names."""
    for pattern, twins in ((STRONG, {"lh": "rh", "left": "right"}), (WEAK, {"l": "r"})):
        found = list(pattern.finditer(name))
        if found:
            side = twins.get(found[0][1].lower())
            only = found[0].span(1)
            return name[: only[0]].lower() + side + name[only[1] :].lower() if side and len(found) == 1 else None
    return None

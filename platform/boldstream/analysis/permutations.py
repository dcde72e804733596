"""What chance would give: targets permuted among exchangeable subjects, and p values of one target and of many."""

from collections import defaultdict

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats


def exchange(
    subjects: ArrayLike,
    n: int,
    *,
    families: ArrayLike | None = None,
    blocks: ArrayLike | None = None,
    seed: int = 0,
) -> NDArray[np.int64]:
    """Draw permutations of subjects that keep what the null hypothesis keeps.

    All scans of a subject go together. Families are exchanged as wholes with families of the same number of subjects
    in the same block, and their members among each other, as relatives' targets are alike whatever the brain (Winkler
    et al. 2015); that takes members of a family for exchangeable, twins and siblings alike. A subject or family
    without a match stays.

    Parameters
    ----------
    subjects : array, shape (n_rows,)
    n : int
        Permutations.
    families : array, shape (n_rows,), optional
        Missing: a family of its own.
    blocks : array, shape (n_rows,), optional
        Subjects are exchanged within a block only: the site, or site and motion.
    seed : int

    Returns
    -------
    array of int, shape (n, n_rows)
        From which row every row takes its target.

    Raises
    ------
    ValueError
        If shapes do not fit, a block is missing, a subject has several families or a family several blocks, or nobody
        can be exchanged.

    References
    ----------
    Winkler et al. (2015), Multi-level block permutation, NeuroImage 123:253.
    """
    names, first, of = np.unique(np.asarray(subjects).astype(str), return_index=True, return_inverse=True)
    tables = _exchangeable(names, first, of, families, blocks)
    rng = np.random.default_rng(seed)
    drawn = np.empty((n, len(of)), dtype=np.int64)
    for at in range(n):
        source = np.empty(len(names), dtype=np.int64)
        for table in tables:
            source[table] = rng.permuted(table[rng.permutation(len(table))], axis=1)
        drawn[at] = first[source][of]
    return drawn


def _exchangeable(
    names: NDArray,
    first: NDArray[np.int64],
    of: NDArray[np.int64],
    families: ArrayLike | None,
    blocks: ArrayLike | None,
) -> list[NDArray[np.int64]]:
    """Return tables of subjects whose rows (families of one size in one block) and columns can be exchanged."""
    n_rows = len(of)
    family = _codes(families, n_rows, "families", pd.Series(of).map("subject {}".format).to_numpy())
    block = _codes(blocks, n_rows, "blocks", None)
    for label, codes in (("family", family), ("block", block)):
        if (codes != codes[first][of]).any():
            who = names[of[codes != codes[first][of]][0]]
            raise ValueError(f"subject {who} is in more than one {label}")
    family, block = family[first], block[first]
    alike: dict[tuple[int, int], list[NDArray[np.int64]]] = defaultdict(list)
    for code in np.unique(family):
        members = np.flatnonzero(family == code)
        if len(np.unique(block[members])) > 1:
            raise ValueError(f"the family of subject {names[members[0]]} is in more than one block")
        alike[int(block[members[0]]), len(members)].append(members)
    tables = [np.stack(found) for found in alike.values()]
    if all(table.size == 1 for table in tables):
        raise ValueError("no two subjects can be exchanged: every one is alone in its block")
    return tables


def permuted_targets(
    y: ArrayLike, permutations: NDArray[np.int64], confounds: ArrayLike | None = None
) -> NDArray[np.float64]:
    """Return a target under every permutation, shape (n_rows, n_permutations).

    With confounds, what they explain of the target linearly stays in place and the rest is permuted (Freedman & Lane
    1983): a target that goes with motion still does under the null hypothesis, as vectors may too. That is for
    numbers; for classes put confounds into `exchange`'s blocks.

    Parameters
    ----------
    y : array, shape (n_rows,)
    permutations : array of int, shape (n_permutations, n_rows)
    confounds : array, shape (n_rows, k), optional

    References
    ----------
    Freedman & Lane (1983), J. Bus. Econ. Stat. 1:292; Winkler et al. (2014), NeuroImage 92:381.
    """
    target = np.asarray(y, dtype=np.float64)
    if confounds is None:
        return np.asarray(target[permutations.T])
    design = np.column_stack([np.ones(len(target)), np.asarray(confounds, dtype=np.float64)])
    explained = design @ np.linalg.lstsq(design, target, rcond=None)[0]
    return np.asarray(explained[:, None] + (target - explained)[permutations.T])


def permutation_p(observed: float, null: ArrayLike) -> float:
    """Return (b + 1) / (m + 1), b of the m null scores being at least the observed one: never 0, never too small.

    References
    ----------
    Phipson & Smyth (2010), Stat. Appl. Genet. Mol. Biol. 9:39.
    """
    scores = np.asarray(null, dtype=np.float64)
    if np.isnan(observed) or np.isnan(scores).any() or not len(scores):
        raise ValueError(f"a p value needs scores: {observed}, and {int(np.isnan(scores).sum())} of {len(scores)} NaN")
    return float((1 + (scores >= observed).sum()) / (1 + len(scores)))


def benjamini_hochberg(p: ArrayLike) -> NDArray[np.float64]:
    """Return p values adjusted over targets: those below q are a list with a false discovery rate of at most q.

    Parameters
    ----------
    p : array, shape (n_targets,)
        NaN (a target that was not tested) stays NaN and does not count.

    References
    ----------
    Benjamini & Hochberg (1995), J. R. Stat. Soc. B 57:289.
    """
    values = np.asarray(p, dtype=np.float64)
    adjusted = np.full(values.shape, np.nan)
    tested = ~np.isnan(values)
    if tested.any():
        adjusted[tested] = stats.false_discovery_control(values[tested], method="bh")
    return adjusted


def _codes(values: ArrayLike | None, n_rows: int, name: str, missing: NDArray | None) -> NDArray[np.int64]:
    """Return numbers for names; what is missing gets the names given, or is refused."""
    if values is None:
        found = pd.Series(missing if missing is not None else np.zeros(n_rows, dtype=np.int64))
    else:
        found = pd.Series(np.asarray(values, dtype=object))
        if len(found) != n_rows:
            raise ValueError(f"{name} have length {len(found)}, there are {n_rows} rows")
        if missing is not None:
            found = found.map("family {}".format, na_action="ignore").where(found.notna(), missing)
        elif found.isna().any():
            raise ValueError(f"{name} are missing in {int(found.isna().sum())} rows")
    return np.unique(found.astype(str).to_numpy(), return_inverse=True)[1]

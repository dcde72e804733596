"""Folds for nested cross-validation: relatives stay together, targets and sites are spread evenly, a seed decides."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

N_BINS = 5
"""Quantile bins of a continuous target that folds are balanced over."""
MOST_CLASSES = 10
"""A numeric target with more values than this is continuous."""


class Split(NamedTuple):
    """One outer fold: whom to train on, whom to predict, and in which inner folds to choose.

    Attributes
    ----------
    repeat, fold : int
    train, test : array of int
        Row numbers.
    inner : array of int, shape (len(train),)
        Inner fold of every training row.
    """

    repeat: int
    fold: int
    train: NDArray[np.int64]
    test: NDArray[np.int64]
    inner: NDArray[np.int64]


@dataclass(frozen=True)
class FoldSet:
    """Nested folds of some scans; two representations are compared on the same fold set.

    Checked when it is made, wherever it comes from: a group (a subject with all scans and relatives) is whole in
    every outer and inner fold.

    Attributes
    ----------
    scheme : str
        How it was made, in words.
    keys : tuple of str
        The scans, in the order of the rows.
    groups : array of int, shape (n,)
    outer : array of int, shape (n_repeats, n)
        In which outer fold every row is held out, 0 to n_folds - 1.
    inner : array of int, shape (n_repeats, n_folds, n)
        Inner fold of every row that an outer fold trains on, -1 for those that it holds out.
    """

    scheme: str
    keys: tuple[str, ...]
    groups: NDArray[np.int64]
    outer: NDArray[np.int64]
    inner: NDArray[np.int64]
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        n = len(self.keys)
        shapes = (self.groups.shape, self.outer.shape[1:], self.inner.shape[2:])
        if shapes != ((n,),) * 3 or len(self.outer) != len(self.inner) or self.inner.shape[1] < 2:
            raise ValueError(f"folds do not fit {n} scans: {self.groups.shape}, {self.outer.shape}, {self.inner.shape}")
        if len(set(self.keys)) < n:
            twice = next(key for key, count in Counter(self.keys).items() if count > 1)
            raise ValueError(f"scan {twice} is in the fold set twice")
        for repeat, (held, chosen) in enumerate(zip(self.outer, self.inner, strict=True)):
            self._check_whole(held, f"outer folds of repeat {repeat}")
            if set(held.tolist()) != set(range(len(chosen))):
                raise ValueError(f"outer folds of repeat {repeat} are {sorted(set(held.tolist()))} of {len(chosen)}")
            for fold, labels in enumerate(chosen):
                if ((labels < 0) != (held == fold)).any():
                    raise ValueError(f"inner folds of outer fold {fold} are not of exactly the rows it trains on")
                self._check_whole(labels, f"inner folds of outer fold {fold}")
        content = hashlib.sha256(json.dumps(self.keys).encode())
        for part in (self.outer, self.inner):
            content.update(str(part.shape).encode() + np.ascontiguousarray(part, dtype=np.int64).tobytes())
        object.__setattr__(self, "digest", content.hexdigest())

    def _check_whole(self, labels: NDArray[np.int64], where: str) -> None:
        pairs = np.unique(np.stack([self.groups, labels]), axis=1)
        names, count = np.unique(pairs[0], return_counts=True)
        if (count > 1).any():
            group = names[count > 1][0]
            scans = [key for key, other in zip(self.keys, self.groups, strict=True) if other == group]
            raise ValueError(f"{where} part what belongs together: {', '.join(scans[:4])}")

    @property
    def id(self) -> str:
        """Short name, of the digest."""
        return f"folds-{self.digest[:12]}"

    @property
    def n_repeats(self) -> int:
        """How often all scans are predicted."""
        return len(self.outer)

    def splits(self) -> Iterator[Split]:
        """Yield the outer folds, repeat by repeat."""
        for repeat, held in enumerate(self.outer):
            for fold, labels in enumerate(self.inner[repeat]):
                train = np.flatnonzero(held != fold)
                yield Split(repeat, fold, train, np.flatnonzero(held == fold), labels[train])


def nested_folds(
    scans: pd.DataFrame,
    target: ArrayLike | None = None,
    *,
    n_folds: int = 5,
    n_inner: int = 5,
    n_repeats: int = 1,
    seed: int = 0,
) -> FoldSet:
    """Deal scans to nested folds; subjects with the same family go together.

    Whole groups are dealt, large ones first and equal ones in the order of a hash of seed and name, each to the fold
    that it leaves most even: in target x site, in the target and in the site. So the order of the rows does not matter.

    Parameters
    ----------
    scans : DataFrame
        A row a scan: ``scan`` (its name, each once), ``subject``, and where they are known ``family`` and ``site``
        (a missing family is nobody's; a missing site is a site of its own).
    target : array, shape (n,), optional
        To stratify by: classes as they are, numbers in quantile bins. Rows without a target have to be left out before.
    n_folds, n_inner, n_repeats, seed : int

    Raises
    ------
    ValueError
        If columns or values are missing, or there are fewer groups than folds.
    """
    keys, groups, names = _groups(scans)
    strata = _strata(scans, target)
    if n_folds < 2 or n_inner < 2 or n_repeats < 1:
        raise ValueError(f"{n_repeats} repeats of {n_folds} folds with {n_inner} inner ones; at least 1, 2 and 2")
    outer = np.empty((n_repeats, len(keys)), dtype=np.int64)
    inner = np.full((n_repeats, n_folds, len(keys)), -1, dtype=np.int64)
    for repeat in range(n_repeats):
        outer[repeat] = _deal(groups, names, strata, n_folds, f"{seed} {repeat}")
        for fold in range(n_folds):
            rows = np.flatnonzero(outer[repeat] != fold)
            inner[repeat, fold, rows] = _deal(groups[rows], names, strata[rows], n_inner, f"{seed} {repeat} {fold}")
    together = "subject and family" if "family" in scans else "subject"
    evenly = " x ".join(["target"] * (target is not None) + ["site"] * ("site" in scans)) or "nothing"
    scheme = (
        f"{n_repeats} x {n_folds} folds, {n_inner} inner, by {together}, stratified by {evenly}, seed {seed}; "
        f"{len(keys)} scans in {len(names)} groups"
    )
    return FoldSet(scheme, keys, groups, outer, inner)


def leave_site_out(scans: pd.DataFrame, *, n_inner: int = 5, seed: int = 0) -> FoldSet:
    """Make every site a fold; the inner folds leave whole sites out too, for penalties that suit sites not seen.

    Parameters
    ----------
    scans : DataFrame
        As for `nested_folds`, with ``site``; at least three sites.
    n_inner : int
        Inner folds at most, sites being dealt to them by size; with fewer sites, each is one.
    seed : int
        Of the dealing.

    Raises
    ------
    ValueError
        If a site is missing, sites are too few, or a subject or family was scanned at several.
    """
    keys, groups, names = _groups(scans)
    if "site" not in scans or scans["site"].isna().any():
        raise ValueError("leave-site-out needs the site of every scan")
    sites, held = np.unique(scans["site"].astype(str).to_numpy(), return_inverse=True)
    if len(sites) < 3:
        raise ValueError(f"leave-site-out needs at least 3 sites (one to test, two to choose in), got {sites.tolist()}")
    for group, name in enumerate(names):
        if len(seen := np.unique(held[groups == group])) > 1:
            where = ", ".join(sites[seen])
            raise ValueError(
                f"{name} (or relatives) was scanned at {where}; leave-site-out would train on who is tested"
            )
    held, n_inner = held.astype(np.int64), min(n_inner, len(sites) - 1)
    inner = np.full((len(sites), len(keys)), -1, dtype=np.int64)
    for fold in range(len(sites)):
        rows = np.flatnonzero(held != fold)
        alike = np.zeros((len(rows), 1), dtype=np.int64)
        inner[fold, rows] = _deal(held[rows], sites.tolist(), alike, n_inner, f"{seed} {sites[fold]}")
    scheme = (
        f"leave-site-out, {len(sites)} sites, {n_inner} inner folds of whole sites, seed {seed}; "
        f"{len(keys)} scans in {len(names)} groups"
    )
    return FoldSet(scheme, keys, groups, held[None], inner[None])


def site_folds(scans: pd.DataFrame, *, n_folds: int = 5, seed: int = 0) -> NDArray[np.int64]:
    """Deal whole sites to folds, shape (n,), as many as there are sites at most; where there is one, subjects.

    Sites that have a subject in common go together. For penalties that suit sites, and cohorts, not seen.

    Parameters
    ----------
    scans : DataFrame
        As for `nested_folds`.
    """
    linked = scans.assign(family=scans["site"]) if "site" in scans else scans
    _, groups, names = _groups(linked)
    if len(names) < 2:
        _, groups, names = _groups(scans.drop(columns="site"))
    return _deal(groups, names, np.zeros((len(groups), 1), dtype=np.int64), min(n_folds, len(names)), str(seed))


def _groups(scans: pd.DataFrame) -> tuple[tuple[str, ...], NDArray[np.int64], list[str]]:
    """Return the scans' names, the group of every row, and every group's name (its first subject in sorted order)."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    for column in ("scan", "subject"):
        if column not in scans:
            raise ValueError(f"folds need a column {column!r}; there are {', '.join(map(str, scans.columns))}")
        if scans[column].isna().any():
            raise ValueError(f"{column!r} is missing in {int(scans[column].isna().sum())} rows")
    subjects, row_subject = np.unique(scans["subject"].astype(str).to_numpy(), return_inverse=True)
    family = scans["family"] if "family" in scans else pd.Series(pd.NA, index=scans.index, dtype="object")
    known = family.notna().to_numpy()
    families, row_family = np.unique(family[known].astype(str).to_numpy(), return_inverse=True)
    n = len(subjects) + len(families)
    ends = (row_subject[known], len(subjects) + row_family)
    links = coo_array((np.ones(int(known.sum())), ends), shape=(n, n))
    part = connected_components(links, directed=False)[1][: len(subjects)]
    # numbered by first subject: the numbers follow from the names, not from the rows
    _, first, number = np.unique(part, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(first))
    names = [str(subjects[at]) for at in np.sort(first)]
    return tuple(scans["scan"].astype(str)), order[number][row_subject].astype(np.int64), names


def _strata(scans: pd.DataFrame, target: ArrayLike | None) -> NDArray[np.int64]:
    """Return what is to be even, as codes (n, 3): target x site, target, site."""
    n = len(scans)
    site = np.zeros(n, dtype=np.int64)
    if "site" in scans:
        site = pd.factorize(scans["site"].astype("object"), sort=True, use_na_sentinel=False)[0]
    wanted = np.zeros(n, dtype=np.int64) if target is None else _bins(np.asarray(target), n)
    joint = np.unique(np.stack([wanted, site]), axis=1, return_inverse=True)[1]
    n_joint, n_wanted = int(joint.max()) + 1, int(wanted.max()) + 1
    return np.stack([joint, n_joint + wanted, n_joint + n_wanted + site], axis=1).astype(np.int64)


def _bins(target: NDArray, n: int) -> NDArray[np.int64]:
    if target.shape != (n,):
        raise ValueError(f"the target has shape {target.shape}, there are {n} scans")
    if pd.isna(target).any():
        raise ValueError(f"the target is missing in {int(pd.isna(target).sum())} rows; leave these rows out")
    values, code = np.unique(target, return_inverse=True)
    if len(values) <= MOST_CLASSES or not np.issubdtype(target.dtype, np.number):
        return code
    edges = np.quantile(target.astype(np.float64), np.arange(1, N_BINS) / N_BINS)
    return np.searchsorted(edges, target.astype(np.float64), side="right")


def _deal(
    groups: NDArray[np.int64], names: Sequence[str], strata: NDArray[np.int64], n_folds: int, seed: str
) -> NDArray[np.int64]:
    """Return the fold of every row."""
    if (n_groups := len(np.unique(groups))) < n_folds:
        raise ValueError(f"{n_groups} groups of relatives are too few for {n_folds} folds")
    counts: dict[int, Counter[int]] = {}
    sizes: Counter[int] = Counter(groups.tolist())
    for group, codes in zip(groups.tolist(), strata.tolist(), strict=True):
        counts.setdefault(group, Counter()).update(codes)
    mark = {group: hashlib.sha256(f"{seed} {names[group]}".encode()).digest() for group in counts}
    there: list[Counter[int]] = [Counter() for _ in range(n_folds)]
    totals = [0] * n_folds
    chosen: dict[int, int] = {}
    for group in sorted(counts, key=lambda name: (-sizes[name], mark[name])):
        # the growth of the sum of squares is least where a fold has least of what the group brings; a rotation by
        # the hash breaks ties
        turn = mark[group][0]
        cost: list[tuple[Any, ...]] = [
            (
                sum(m * (2 * there[fold][code] + m) for code, m in counts[group].items()),
                totals[fold],
                (fold + turn) % n_folds,
            )
            for fold in range(n_folds)
        ]
        fold = cost.index(min(cost))
        chosen[group] = fold
        there[fold].update(counts[group])
        totals[fold] += sizes[group]
    return np.array([chosen[group] for group in groups.tolist()], dtype=np.int64)

"""Targets: a column of the tables as numbers or classes, what is missing counted, what cannot be asked refused."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from boldstream.analysis.folds import FoldSet, leave_site_out, nested_folds
from boldstream.analysis.metrics import indicators
from boldstream.analysis.nested import TargetKind
from boldstream.analysis.target_values import has_value, type_values
from boldstream.analysis.targets import TargetSpec
from boldstream.errors import ConfigError, ResultsError, did_you_mean, few_of
from boldstream.probe.config import FoldSpec

NEAR = 3
N_NAMED = 6


@dataclass(frozen=True)
class Target:
    """A target of some scans.

    Attributes
    ----------
    name, column : str
    kind : {"continuous", "binary", "multiclass"}
    classes : tuple of str or None
        Of classes: their names, the first one being 0 in `y`.
    rows : array of int, shape (n,)
        Which of all scans have a value.
    y : array, shape (n,), float64
    n_missing : int
        Scans without a value.
    n_other : int
        Scans of classes that are not asked for.
    folds : FoldSet
        Of the scans that have a value.
    people : DataFrame, n rows
        ``scan``, ``subject``, and where they are known ``site`` and ``family``.
    """

    name: str
    column: str
    kind: TargetKind
    classes: tuple[str, ...] | None
    rows: NDArray[np.int64]
    y: NDArray[np.float64]
    n_missing: int
    n_other: int
    folds: FoldSet
    people: pd.DataFrame

    @property
    def n_subjects(self) -> int:
        """Subjects with a value."""
        return int(self.people["subject"].nunique())

    @property
    def n_sites(self) -> int:
        """Their sites."""
        return int(self.people["site"].nunique()) if "site" in self.people else 0

    @property
    def is_of_sites(self) -> bool:
        """Whether everybody at a site has the same value: the target is the site, or its scanner."""
        if "site" not in self.people:
            return False
        return bool((pd.Series(self.y).groupby(self.people["site"].to_numpy()).nunique() == 1).all())

    @property
    def shares(self) -> NDArray[np.float64]:
        """Share of every class among the scans, none of numbers."""
        return indicators(self.y, len(self.classes or ())).mean(axis=0)

    def describe(self) -> dict[str, Any]:
        """Return what a manifest tells of it."""
        told: dict[str, Any] = {"kind": self.kind, "column": self.column, "n_scans": len(self.y)}
        told |= {"n_subjects": self.n_subjects, "n_sites": self.n_sites}
        told |= {"n_missing": self.n_missing, "n_other_classes": self.n_other}
        if self.kind == "multiclass":
            told |= {"classes": list(self.classes or ()), "shares": self.shares.tolist()}
        elif self.classes:
            told |= {"classes": list(self.classes), "share_of_second": float(self.y.mean())}
        else:
            told |= {"mean": float(self.y.mean()), "sd": float(self.y.std())}
        return told


def check_column(column: str, there: Sequence[str], what: str) -> None:
    """Refuse a column that the tables have not, naming near ones.

    Raises
    ------
    ConfigError
    """
    if column in there:
        return
    hint = did_you_mean(column, there, NEAR) or f"there: {', '.join(sorted(there))}"
    raise ConfigError(
        f"{what}: the tables have no column {column!r} ({hint}); a column that is new in participants.tsv has to be "
        "ingested and embedded"
    )


def read_target(spec: TargetSpec, scans: pd.DataFrame, folds: FoldSpec) -> Target:
    """Make a target of a column, and deal the scans that have it to folds.

    Parameters
    ----------
    scans : DataFrame
        A row a scan, indexed by ``scan_key``, with ``subject``, the target's column, and ``site`` and the family's
        column where they are known.

    Raises
    ------
    ResultsError
        If the values are no such target, or too few.
    """
    raw = scans[spec.column]
    known = has_value(raw)
    n_missing = int((~known).sum())
    if not known.any():
        raise ResultsError(f"target {spec.name!r}: none of {len(scans)} scans has a value in column {spec.column!r}")
    try:
        kind, classes, values = type_values(spec, raw[known])
    except ValueError as error:
        raise ResultsError(str(error)) from None
    kept = ~np.isnan(values)
    rows, y = np.flatnonzero(known)[kept], values[kept]
    people = _people(scans.iloc[rows], folds)
    _check_enough(spec, classes, y, people, folds)
    try:
        if folds.scheme == "leave_site_out":
            dealt = leave_site_out(people, n_inner=folds.n_inner, seed=folds.seed)
        else:
            counts = {"n_folds": folds.n_folds, "n_inner": folds.n_inner, "n_repeats": folds.n_repeats}
            # as text, because many different numbers would be put into bins
            strata = y.astype(str) if kind == "multiclass" else y
            dealt = nested_folds(people, strata, seed=folds.seed, **counts)
    except ValueError as error:
        raise ResultsError(f"target {spec.name!r}: no folds can be dealt: {error}") from None
    if kind == "multiclass":
        _check_dealt(spec, classes or (), y, dealt)
    n_other = int((~kept).sum())
    return Target(spec.name, spec.column, kind, classes, rows, y, n_missing, n_other, dealt, people)


def _people(scans: pd.DataFrame, folds: FoldSpec) -> pd.DataFrame:
    people = pd.DataFrame({"scan": scans.index.to_numpy(), "subject": scans["subject"].to_numpy()})
    if "site" in scans and scans["site"].notna().any():
        people["site"] = scans["site"].to_numpy()
    if folds.family is not None:
        people["family"] = scans[folds.family].to_numpy()
    return people


def _check_enough(
    spec: TargetSpec, classes: Sequence[str] | None, y: NDArray[np.float64], people: pd.DataFrame, folds: FoldSpec
) -> None:
    """Refuse fewer subjects (of each class) than folds, inner ones included, can hold one each of."""
    dealt = f"{folds.n_folds} folds with {folds.n_inner} inner ones"
    if not classes:
        least = 2 * folds.n_inner if folds.scheme == "leave_site_out" else folds.n_folds * 2
        if (count := people["subject"].nunique()) < least:
            raise ResultsError(
                f"target {spec.name!r}: {count} subjects with a value are too few for {dealt} (at least {least}); take "
                "fewer folds, or more scans"
            )
        return
    least = folds.n_inner if folds.scheme == "leave_site_out" else max(folds.n_folds, folds.n_inner + 1)
    counts = {name: people["subject"][y == code].nunique() for code, name in enumerate(classes)}
    if few := [f"{name!r} has {count}" for name, count in counts.items() if count < least]:
        raise ResultsError(
            f"target {spec.name!r}: too few subjects of {len(few)} of {len(classes)} classes for {dealt} (at least "
            f"{least}): {few_of(few, N_NAMED)}; take fewer folds, or more scans, or name the classes that have enough "
            "(classes: [A, B])"
        )


def _check_dealt(spec: TargetSpec, classes: Sequence[str], y: NDArray[np.float64], folds: FoldSet) -> None:
    """Refuse folds in which nobody of a class is left to learn from: families or sites may hold all of it."""
    for split in folds.splits():
        inside = y[split.train]
        left = [("outer", inside)]
        left += [("inner", inside[split.inner != label]) for label in np.unique(split.inner)]
        for which, codes in left:
            if len(lost := np.setdiff1d(np.arange(len(classes)), codes)):
                name = classes[int(lost[0])]
                raise ResultsError(
                    f"target {spec.name!r}: nobody of class {name!r} ({int((y == lost[0]).sum())} scans) is left to "
                    f"learn from where an {which} fold is held out ({folds.scheme}); take fewer or other folds, or "
                    "leave the class out (classes: [A, B, C])"
                )

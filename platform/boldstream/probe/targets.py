"""Targets: a column of the tables as numbers or two classes, what is missing counted, what cannot be asked refused."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from boldstream.analysis.folds import FoldSet, leave_site_out, nested_folds
from boldstream.analysis.nested import TargetKind
from boldstream.errors import ConfigError, ResultsError, did_you_mean, few_of
from boldstream.probe.config import FoldSpec, TargetSpec

N_NAMED = 6
NEAR = 3


@dataclass(frozen=True)
class Target:
    """A target of some scans.

    Attributes
    ----------
    name, column : str
    kind : {"continuous", "binary"}
    classes : tuple of str or None
        Of two classes: their names, the second one being 1 in `y`.
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
    classes: tuple[str, str] | None
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

    def describe(self) -> dict[str, Any]:
        """Return what a manifest tells of it."""
        told: dict[str, Any] = {"kind": self.kind, "column": self.column, "n_scans": len(self.y)}
        told |= {"n_subjects": self.n_subjects, "n_sites": self.n_sites}
        told |= {"n_missing": self.n_missing, "n_other_classes": self.n_other}
        if self.classes:
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
    known = raw.notna().to_numpy() & (raw.astype(str).str.strip() != "").to_numpy()
    n_missing = int((~known).sum())
    if not known.any():
        raise ResultsError(f"target {spec.name!r}: none of {len(scans)} scans has a value in column {spec.column!r}")
    kind, classes, values = _values(spec, raw[known])
    kept = ~np.isnan(values)
    rows, y = np.flatnonzero(known)[kept], values[kept]
    people = _people(scans.iloc[rows], folds)
    _check_enough(spec, kind, y, people, folds)
    try:
        if folds.scheme == "leave_site_out":
            dealt = leave_site_out(people, n_inner=folds.n_inner, seed=folds.seed)
        else:
            counts = {"n_folds": folds.n_folds, "n_inner": folds.n_inner, "n_repeats": folds.n_repeats}
            dealt = nested_folds(people, y, seed=folds.seed, **counts)
    except ValueError as error:
        raise ResultsError(f"target {spec.name!r}: no folds can be dealt: {error}") from None
    n_other = int((~kept).sum())
    return Target(spec.name, spec.column, kind, classes, rows, y, n_missing, n_other, dealt, people)


def _values(spec: TargetSpec, raw: pd.Series) -> tuple[TargetKind, tuple[str, str] | None, NDArray[np.float64]]:
    """Return kind, classes, and values: NaN for classes that are not asked for."""
    numbers = pd.to_numeric(raw, errors="coerce")
    numeric = bool(numbers.notna().all()) and not pd.api.types.is_bool_dtype(raw)
    text = pd.Series([f"{n:g}" for n in numbers], raw.index) if numeric else raw.astype(str)
    levels = sorted(text.unique())
    binary = spec.kind == "binary" or spec.classes is not None or (spec.kind == "auto" and len(levels) == 2)
    if binary and spec.transform == "none":
        classes = _classes(spec, levels)
        codes = text.map({classes[0]: 0.0, classes[1]: 1.0})
        return "binary", classes, np.asarray(codes, dtype=np.float64)
    if len(levels) == 1:
        raise ResultsError(f"target {spec.name!r}: all scans have the value {levels[0]!r}; there is nothing to predict")
    if not numeric:
        raise ResultsError(
            f"target {spec.name!r}: column {spec.column!r} holds text of {len(levels)} values "
            f"({few_of(levels, N_NAMED)}), neither numbers nor two classes; name two with classes: [A, B]"
        )
    values = numbers.to_numpy(dtype=np.float64)
    if spec.transform == "log":
        if (values <= 0).any():
            raise ResultsError(
                f"target {spec.name!r}: {int((values <= 0).sum())} values of {spec.column!r} are 0 or less "
                f"(least: {values.min():g}) and have no logarithm; use transform: none"
            )
        values = np.log(values)
    if not np.isfinite(values).all():
        raise ResultsError(f"target {spec.name!r}: {int((~np.isfinite(values)).sum())} values are not finite")
    return "continuous", None, values


def _classes(spec: TargetSpec, levels: list[str]) -> tuple[str, str]:
    if spec.classes is not None:
        if lost := [name for name in spec.classes if name not in levels]:
            raise ResultsError(
                f"target {spec.name!r}: no scan has the value {lost[0]!r} in column {spec.column!r} "
                f"(there: {few_of(levels, N_NAMED)})"
            )
        return spec.classes
    if len(levels) == 1:
        raise ResultsError(f"target {spec.name!r}: all scans are of one class, {levels[0]!r}; there is nothing to tell")
    if len(levels) > 2:
        raise ResultsError(
            f"target {spec.name!r}: column {spec.column!r} has {len(levels)} values ({few_of(levels, N_NAMED)}), not "
            "two classes; name two with classes: [A, B], or use kind: continuous"
        )
    return levels[0], levels[1]


def _people(scans: pd.DataFrame, folds: FoldSpec) -> pd.DataFrame:
    people = pd.DataFrame({"scan": scans.index.to_numpy(), "subject": scans["subject"].to_numpy()})
    if "site" in scans and scans["site"].notna().any():
        people["site"] = scans["site"].to_numpy()
    if folds.family is not None:
        people["family"] = scans[folds.family].to_numpy()
    return people


def _check_enough(
    spec: TargetSpec, kind: TargetKind, y: NDArray[np.float64], people: pd.DataFrame, folds: FoldSpec
) -> None:
    """Refuse fewer subjects (of each class) than folds, inner ones included, can hold one each of."""
    least = 2 * folds.n_inner if folds.scheme == "leave_site_out" else folds.n_folds * 2
    groups = {"subjects": people["subject"]}
    if kind == "binary":
        groups = {f"subjects of class {code}": people["subject"][y == code] for code in (0, 1)}
        least = folds.n_inner if folds.scheme == "leave_site_out" else max(folds.n_folds, folds.n_inner + 1)
    for what, subjects in groups.items():
        if (count := subjects.nunique()) < least:
            raise ResultsError(
                f"target {spec.name!r}: {count} {what} with a value are too few for {folds.n_folds} folds with "
                f"{folds.n_inner} inner ones (at least {least}); take fewer folds, or more scans"
            )

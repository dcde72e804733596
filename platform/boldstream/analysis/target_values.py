"""What the values of a column are as a target: numbers, or the codes of classes."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from boldstream.analysis.nested import TargetKind
from boldstream.analysis.targets import TargetSpec
from boldstream.errors import few_of

N_NAMED = 6


def has_value(raw: pd.Series) -> NDArray[np.bool_]:
    """Say which values of a column are there: neither null nor blank."""
    return np.asarray(raw.notna() & (raw.astype(str).str.strip() != ""))


def type_values(spec: TargetSpec, raw: pd.Series) -> tuple[TargetKind, tuple[str, ...] | None, NDArray[np.float64]]:
    """Return kind, classes, and values: of classes 0, 1, … in their order, NaN for those that are not asked for.

    Parameters
    ----------
    spec : TargetSpec
    raw : Series
        Of scans that have a value.

    Raises
    ------
    ValueError
        If the values are no such target.
    """
    numbers = pd.to_numeric(raw, errors="coerce")
    numeric = bool(numbers.notna().all()) and not pd.api.types.is_bool_dtype(raw)
    text = pd.Series([f"{n:g}" for n in numbers], raw.index) if numeric else raw.astype(str)
    levels = sorted(text.unique())
    told = spec.kind in ("binary", "multiclass") or spec.classes is not None
    typed = len(levels) == 2 or (len(levels) > 2 and not numeric)
    if spec.transform == "none" and (told or (spec.kind == "auto" and typed)):
        classes = _classes(spec, levels)
        codes = text.map({name: float(code) for code, name in enumerate(classes)})
        return "binary" if len(classes) == 2 else "multiclass", classes, np.asarray(codes, dtype=np.float64)
    if len(levels) == 1:
        raise ValueError(f"target {spec.name!r}: all scans have the value {levels[0]!r}; there is nothing to predict")
    if not numeric:
        raise ValueError(
            f"target {spec.name!r}: column {spec.column!r} holds text of {len(levels)} values "
            f"({few_of(levels, N_NAMED)}), no numbers; use kind: auto without a transform, or another column"
        )
    values = numbers.to_numpy(dtype=np.float64)
    if spec.transform == "log":
        if (values <= 0).any():
            raise ValueError(
                f"target {spec.name!r}: {int((values <= 0).sum())} values of {spec.column!r} are 0 or less "
                f"(least: {values.min():g}) and have no logarithm; use transform: none"
            )
        values = np.log(values)
    if not np.isfinite(values).all():
        raise ValueError(f"target {spec.name!r}: {int((~np.isfinite(values)).sum())} values are not finite")
    return "continuous", None, values


def _classes(spec: TargetSpec, levels: list[str]) -> tuple[str, ...]:
    if spec.classes is not None:
        if lost := [name for name in spec.classes if name not in levels]:
            raise ValueError(
                f"target {spec.name!r}: no scan has the value {lost[0]!r} in column {spec.column!r} "
                f"(there: {few_of(levels, N_NAMED)})"
            )
        return spec.classes
    if len(levels) == 1:
        raise ValueError(f"target {spec.name!r}: all scans are of one class, {levels[0]!r}; there is nothing to tell")
    there = f"target {spec.name!r}: column {spec.column!r} has {len(levels)} values ({few_of(levels, N_NAMED)})"
    if len(levels) > 2 and spec.kind == "binary":
        raise ValueError(
            f"{there}, not two classes; name two with classes: [A, B], or use kind: multiclass or continuous"
        )
    if len(levels) == 2 and spec.kind == "multiclass":
        raise ValueError(f"{there}, not three and more; use kind: binary")
    return tuple(levels)

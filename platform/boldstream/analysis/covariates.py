"""Covariates as columns of a linear model: learnt from training rows, applied to any row."""

from collections.abc import Sequence
from typing import Any, Protocol, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from boldstream.analysis.steps import SITE
from boldstream.errors import few_of

NUMBERS = frozenset({"age", "mean_fd"})
"""Covariates that are numbers; the others are categories."""
OUTER_KNOT = 0.05
"""Share of training rows below the first knot of a spline, and above the last (Harrell 2015, table 2.3)."""
N_NAMED = 5


class Covariates(Protocol):
    """Columns by name: a data frame, or a mapping of arrays of one length."""

    def __getitem__(self, name: str, /) -> Any:
        """Return a column."""


def column(covariates: Covariates | None, name: str, n_rows: int) -> NDArray:
    """Return a covariate, shape (n_rows,): numbers as float64 with NaN, categories as text with ``""`` for missing.

    Raises
    ------
    ValueError
        If there is no such covariate, it is of other length, or a number is none.
    """
    try:
        if covariates is None:
            raise KeyError(name)
        raw = np.asarray(covariates[name])
    except KeyError:
        raise ValueError(f"covariate {name!r} is not there") from None
    if raw.shape != (n_rows,):
        raise ValueError(f"covariate {name!r} has shape {raw.shape}, there are {n_rows} rows")
    if name in NUMBERS:
        values = np.asarray(pd.to_numeric(raw), dtype=np.float64)
        return np.where(np.isfinite(values), values, np.nan)
    if raw.dtype.kind == "U":
        return raw
    text = [f"{value:g}" if isinstance(value, (float, np.floating)) else str(value) for value in raw]
    return np.where(pd.isna(raw), "", np.array(text, dtype=str))


def missing(values: NDArray) -> NDArray[np.bool_]:
    """Say which values of a `column` are missing."""
    return np.isnan(values) if values.dtype.kind == "f" else values == ""


def natural_spline(x: NDArray[np.float64], knots: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a natural cubic spline's terms beside the line itself, shape (n, n_knots - 2); linear outside the knots.

    References
    ----------
    Harrell (2015), Regression Modeling Strategies, section 2.4.5.
    """
    last, before = knots[-1], knots[-2]

    def cube(knot: float) -> NDArray[np.float64]:
        return np.clip(x - knot, 0, None) ** 3

    terms = [
        cube(knot) - cube(before) * (last - knot) / (last - before) + cube(last) * (before - knot) / (last - before)
        for knot in knots[:-2]
    ]
    return np.stack(terms, axis=1) / (last - knots[0]) ** 2


class Design(BaseEstimator):
    """Turn covariates into columns with mean 0 over the training rows.

    Numbers are divided by their standard deviation. A category has a column a level but the first. So a row of zeros
    is the mean training row, and zeros in a category's columns mean a level's average.

    Parameters
    ----------
    names : sequence of str
    age_knots : int
        0: age is a line.

    Attributes
    ----------
    columns_ : list of dict
        What was learnt of each covariate, in JSON's types: ``name``, and ``center``, ``scale``, ``knots`` of a number,
        or ``levels`` and ``shares`` of a category.
    """

    def __init__(self, names: Sequence[str] = (), age_knots: int = 0) -> None:
        self.names = names
        self.age_knots = age_knots

    def fit(self, covariates: Covariates | None, n_rows: int) -> Self:
        """Learn levels, means and knots.

        Raises
        ------
        ValueError
            If a covariate is not there or has missing values, or knots fall together.
        """
        self.columns_ = [self._learn(name, column(covariates, name, n_rows)) for name in self.names]
        return self

    def _learn(self, name: str, values: NDArray) -> dict[str, Any]:
        _refuse_missing(name, values)
        if name not in NUMBERS:
            levels, counts = np.unique(values, return_counts=True)
            return {"name": name, "levels": levels.tolist(), "shares": (counts / len(values)).tolist()}
        knots: list[float] = []
        if name == "age" and self.age_knots:
            knots = np.quantile(values, np.linspace(OUTER_KNOT, 1 - OUTER_KNOT, self.age_knots)).tolist()
            if len(set(knots)) < len(knots):
                raise ValueError(f"age has too few different values for {self.age_knots} knots; take fewer, or 0")
        terms = _terms(values, knots)
        scale = terms.std(axis=0)
        return {
            "name": name,
            "knots": knots,
            "center": terms.mean(axis=0).tolist(),
            "scale": np.where(scale > 0, scale, 1.0).tolist(),
        }

    def transform(self, covariates: Covariates | None, n_rows: int, stand_in: str | None = None) -> NDArray[np.float64]:
        """Return the columns, shape (n_rows, k).

        Parameters
        ----------
        covariates : Covariates
        n_rows : int
        stand_in : str, optional
            Site that rows of unknown sites are taken for; ``""``: the average over sites; None: they are refused.

        Raises
        ------
        ValueError
            If a covariate is not there, has missing values or a level that training rows have not.
        """
        check_is_fitted(self)
        found = [self._columns(known, column(covariates, known["name"], n_rows), stand_in) for known in self.columns_]
        return np.concatenate([np.empty((n_rows, 0)), *found], axis=1)

    def _columns(self, known: dict[str, Any], values: NDArray, stand_in: str | None) -> NDArray[np.float64]:
        name = known["name"]
        _refuse_missing(name, values)
        if "levels" not in known:
            return (_terms(values, known["knots"]) - known["center"]) / known["scale"]
        levels, shares = np.array(known["levels"]), np.array(known["shares"])
        at = places(name, values, levels, stand_in if name == SITE else None)
        dummies = (at[:, None] == np.arange(1, len(levels))) - shares[1:]
        dummies[at < 0] = 0.0
        return dummies


def places(name: str, values: NDArray, levels: NDArray, stand_in: str | None) -> NDArray[np.int64]:
    """Return which level each value is; what is no level: the stand-in's, -1 for the stand-in ``""``.

    Raises
    ------
    ValueError
        If there is no stand-in, or it is no level.
    """
    at = np.searchsorted(levels, values).clip(max=len(levels) - 1)
    unknown = levels[at] != values
    if unknown.any():
        if stand_in is None:
            new = np.unique(values[unknown]).tolist()
            raise ValueError(
                f"{name} {few_of(new, N_NAMED)} does not occur in training (there: {few_of(levels.tolist(), N_NAMED)})"
            )
        at[unknown] = -1 if stand_in == "" else places(name, np.array([stand_in]), levels, None)[0]
    return at


def _terms(values: NDArray[np.float64], knots: list[float]) -> NDArray[np.float64]:
    line = values[:, None]
    return np.concatenate([line, natural_spline(values, np.array(knots))], axis=1) if knots else line


def _refuse_missing(name: str, values: NDArray) -> None:
    if n := int(missing(values).sum()):
        raise ValueError(f"covariate {name!r} is missing in {n} of {len(values)} rows")

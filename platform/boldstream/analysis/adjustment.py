"""An adjustment: a strategy's steps in their order, learnt from training rows and applied to any."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from boldstream.analysis.covariates import NUMBERS, Covariates, column, missing
from boldstream.analysis.fitted import FLOATS, FittedStep, Zscore
from boldstream.analysis.harmonize import ComBat, UnseenSite, stand_in_of
from boldstream.analysis.project import Projection
from boldstream.analysis.residualize import Residualizer
from boldstream.analysis.steps import SITE, Covariate, Impute, ProjectStep, VectorStep, needed

FEW_SHARE = 0.5
"""More dimensions than this share of the training rows: the last ones hold noise."""


@dataclass(frozen=True)
class Refusal:
    """Rows that an adjustment cannot be applied to.

    Attributes
    ----------
    reason : str
        ``missing_covariate``, ``unseen_site`` or ``unseen_level``.
    message : str
    rows : array of bool, shape (n,)
    """

    reason: str
    message: str
    rows: NDArray[np.bool_]


class Adjustment(TransformerMixin, BaseEstimator):
    """The steps of a recipe that take vectors, one after the other; each learns from what the ones before it have made.

    Everything that is learnt comes from the rows given to `fit`: inside a fold, its training rows.

    Parameters
    ----------
    steps : sequence of VectorStep
    impute : Impute, optional
        How missing covariates are filled in; None: they are refused.
    unseen_site : {"refuse", "reference", "pooled"}
        Rows of a site that training rows have not.
    reference_site : str, optional
        For ``reference``: a site of the training rows.

    Attributes
    ----------
    fitted_ : list of FittedStep
    filled_ : dict
        What stands in for a missing covariate.
    levels_ : dict of str to list of str
        Of covariates that are categories.
    n_train_ : int
    """

    def __init__(
        self,
        steps: Sequence[VectorStep] = (),
        impute: Impute | None = None,
        unseen_site: UnseenSite = "refuse",
        reference_site: str | None = None,
    ) -> None:
        self.steps = steps
        self.impute = impute
        self.unseen_site = unseen_site
        self.reference_site = reference_site

    def fit(self, X: ArrayLike, y: object = None, covariates: Covariates | None = None) -> Self:
        """Learn from training rows; y is never looked at.

        Raises
        ------
        ValueError
            If values are not finite, a covariate is missing, or a step cannot be learnt from these rows.
        """
        self._fit(X, covariates)
        return self

    def fit_transform(self, X: ArrayLike, y: object = None, covariates: Covariates | None = None) -> NDArray:
        """Learn from rows and return them adjusted."""
        return self._fit(X, covariates)

    def _fit(self, X: ArrayLike, covariates: Covariates | None) -> NDArray:
        x = validate_data(self, X, dtype=FLOATS)
        self.n_train_ = len(x)
        known: dict[str, NDArray] = {name: column(covariates, name, len(x)) for name in self.needs}
        self.filled_ = {name: self._filler(name, values) for name, values in known.items() if self._is_filled(name)}
        known = self._complete(known)
        self.levels_ = {name: np.unique(values).tolist() for name, values in known.items() if name not in NUMBERS}
        self._check_reference()
        self.fitted_: list[FittedStep] = []
        for step in self.steps:
            x = self._add(step).fit_transform(x, covariates=known)
        return x

    def _check_reference(self) -> None:
        stand_in = stand_in_of(self.unseen_site, self.reference_site)
        if stand_in and SITE in self.levels_ and stand_in not in self.levels_[SITE]:
            there = ", ".join(self.levels_[SITE])
            raise ValueError(f"reference_site {stand_in!r} has no training rows (there: {there})")

    def transform(self, X: ArrayLike, covariates: Covariates | None = None) -> NDArray:
        """Return rows adjusted; nothing is learnt from them.

        Raises
        ------
        ValueError
            If values are not finite, or a covariate is missing or not one of training.
        """
        check_is_fitted(self)
        x = validate_data(self, X, dtype=FLOATS, reset=False)
        known = self._complete({name: column(covariates, name, len(x)) for name in self.needs})
        for step in self.fitted_:
            x = step.transform(x, covariates=known)
        return x

    @property
    def needs(self) -> tuple[Covariate, ...]:
        """Covariates that the steps read."""
        return needed(self.steps)

    def lacking(self, covariates: Covariates | None, n_rows: int) -> list[Refusal]:
        """Return the rows that lack a covariate which nothing fills in."""
        found = []
        for name in self.needs:
            if not self._is_filled(name) and (rows := missing(column(covariates, name, n_rows))).any():
                found.append(Refusal("missing_covariate", f"{name} is missing", rows))
        return found

    def foreign(self, covariates: Covariates | None, n_rows: int) -> list[Refusal]:
        """Return the rows with a site, or another category, that no training row has."""
        check_is_fitted(self)
        found = []
        for name, levels in self.levels_.items():
            if name == SITE and self.unseen_site != "refuse":
                continue
            values = column(covariates, name, n_rows)
            unknown = ~np.isin(values, levels) & ~missing(values)
            reason = "unseen_site" if name == SITE else "unseen_level"
            for value in np.unique(values[unknown]):
                found.append(Refusal(reason, f"{name} {str(value)!r} has no training rows", values == value))
        return found

    def n_unseen(self, covariates: Covariates | None, n_rows: int) -> int:
        """Return how many rows are of sites that no training row has."""
        if SITE not in self.levels_:
            return 0
        values = column(covariates, SITE, n_rows)
        return int((~np.isin(values, self.levels_[SITE]) & ~missing(values)).sum())

    def n_filled(self, covariates: Covariates | None, n_rows: int) -> dict[str, int]:
        """Return how many rows have each covariate filled in."""
        return {name: int(missing(column(covariates, name, n_rows)).sum()) for name in self.filled_}

    def _is_filled(self, name: str) -> bool:
        return self.impute is not None and getattr(self.impute, name, None) is not None

    def _filler(self, name: str, values: NDArray) -> Any:
        there = values[~missing(values)]
        if not len(there):
            raise ValueError(f"covariate {name!r} is missing in all training rows, so nothing can stand in for it")
        how = getattr(self.impute, name)
        if how == "most_frequent":
            levels, counts = np.unique(there, return_counts=True)
            return str(levels[counts.argmax()])
        return float(np.mean(there) if how == "mean" else np.median(there))

    def _complete(self, known: dict[str, NDArray]) -> dict[str, NDArray]:
        return known | {
            name: np.where(missing(known[name]), value, known[name]) for name, value in self.filled_.items()
        }

    def _add(self, step: VectorStep) -> FittedStep:
        """Add the estimator of a step."""
        if step.step == "zscore":
            self.fitted_.append(Zscore())
        elif step.step == "harmonize":
            self.fitted_.append(ComBat(step.keep, step.min_per_site, self.unseen_site, self.reference_site))
        elif step.step == "project":
            self.fitted_.append(Projection(step.dim, step.method, step.seed))
        else:
            self.fitted_.append(Residualizer(step.covariates, step.age_knots, self.unseen_site, self.reference_site))
        return self.fitted_[-1]

    def state(self) -> tuple[dict[str, NDArray[np.float64]], dict[str, Any]]:
        """Return what was learnt, for storing: arrays by ``<step>.<name>``, and values that JSON holds exactly."""
        check_is_fitted(self)
        arrays: dict[str, NDArray[np.float64]] = {}
        values = []
        for i, step in enumerate(self.fitted_):
            its, told = step.state()
            arrays |= {f"{i}.{name}": array for name, array in its.items()}
            values.append(told)
        own = {"filled_": self.filled_, "levels_": self.levels_, "n_train_": self.n_train_}
        return arrays, own | {"n_features_in_": self.n_features_in_, "steps": values}

    def restore(self, arrays: Mapping[str, NDArray], values: Mapping[str, Any]) -> Self:
        """Take up a `state`.

        Raises
        ------
        ValueError
            Naming what is missing, or what does not belong here.
        """
        names = {"filled_", "levels_", "n_train_", "n_features_in_"}
        if values.keys() != {*names, "steps"} or len(values["steps"]) != len(self.steps):
            raise ValueError(f"the values {sorted(values)} are not those of {len(self.steps)} steps")
        for name in names:
            setattr(self, name, values[name])
        self._check_reference()
        self.fitted_ = []
        left = set(arrays)
        for i, (step, told) in enumerate(zip(self.steps, values["steps"], strict=True)):
            its = {name.partition(".")[2]: array for name, array in arrays.items() if name.partition(".")[0] == str(i)}
            self._add(step).restore(its, told)
            left -= {f"{i}.{name}" for name in its}
        if left:
            raise ValueError(f"arrays {sorted(left)} belong to no step")
        return self

    def dims(self) -> dict[str, Any]:
        """Return the dimensions that the recipe names and that there are, why, and the variance they explain.

        Empty where nothing is projected; else of the last projection.
        """
        check_is_fitted(self)
        pairs = [(a, b) for a, b in zip(self.steps, self.fitted_, strict=True) if isinstance(a, ProjectStep)]
        if not pairs:
            return {}
        step, fitted = pairs[-1]
        assert isinstance(fitted, Projection)
        return {
            "dim_nominal": step.dim,
            "dim_effective": fitted.dim_effective_,
            "dim_input": int(fitted.n_features_in_),
            "variance_explained": float(fitted.variance_ratio_.sum()),
        }

    def notes(self) -> list[str]:
        """Return what has to be said of the dimensions."""
        told = self.dims()
        if not told:
            return []
        effective, notes = told["dim_effective"], []
        if effective < told["dim_nominal"]:
            notes.append(
                f"{effective} dimensions instead of {told['dim_nominal']}: vectors have {told['dim_input']}, "
                f"{self.n_train_} training rows vary in at most {self.n_train_ - 1}, less what steps before took out"
            )
        if effective > FEW_SHARE * self.n_train_:
            notes.append(f"{effective} dimensions from {self.n_train_} training rows: the last of them hold noise")
        return notes

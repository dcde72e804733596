"""Residuals: vectors without what covariates tell of them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from boldstream.analysis.covariates import Covariates, Design
from boldstream.analysis.fitted import FittedStep, product
from boldstream.analysis.harmonize import UnseenSite, stand_in_of


class Residualizer(FittedStep):
    """Subtract a linear model of covariates from every dimension; the mean over the training rows stays.

    Parameters
    ----------
    covariates : sequence of str
    age_knots : int
        Knots of a natural cubic spline for age; 0: a line.
    unseen_site : {"refuse", "reference", "pooled"}
        Rows of a site that training rows have not: an error; taken for `reference_site`; or for the average of all
        sites, weighted by their rows.
    reference_site : str, optional

    Attributes
    ----------
    design_ : list of dict
        What `Design` learnt.
    coef_ : array, shape (k, p)
    rank_ : int
        Of the design's columns; less than k where covariates tell the same.
    """

    arrays = ("coef_",)
    values = ("design_", "rank_")

    def __init__(
        self,
        covariates: Sequence[str] = (),
        age_knots: int = 0,
        unseen_site: UnseenSite = "refuse",
        reference_site: str | None = None,
    ) -> None:
        self.covariates = covariates
        self.age_knots = age_knots
        self.unseen_site = unseen_site
        self.reference_site = reference_site

    def _learn(self, x: NDArray, covariates: Covariates | None) -> None:
        design = Design(self.covariates, self.age_knots).fit(covariates, len(x))
        columns = design.transform(covariates, len(x))
        self.design_, self.rank_ = design.columns_, int(np.linalg.matrix_rank(columns)) if columns.size else 0
        if self.rank_ >= len(x) - 1:
            raise ValueError(
                f"{self.rank_} columns of covariates ({', '.join(self.covariates)}) leave nothing of {len(x)} training "
                "rows; take fewer covariates, or more rows"
            )
        # columns have mean 0, so the intercept is the mean and need not be fitted
        self.coef_ = product(np.asarray(np.linalg.pinv(columns), dtype=np.float64), x)

    def _beside(self, covariates: Covariates | None, n_rows: int) -> tuple[NDArray, ...]:
        design = Design(self.covariates, self.age_knots)
        design.columns_ = self.design_
        return (design.transform(covariates, n_rows, stand_in_of(self.unseen_site, self.reference_site)),)

    def _apply(self, x: NDArray[np.float64], *beside: NDArray) -> NDArray[np.float64]:
        return x - beside[0] @ self.coef_

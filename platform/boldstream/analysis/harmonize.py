"""ComBat: what sites add to vectors and how they scale them, estimated with empirical Bayes and removed."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from boldstream.analysis.covariates import Covariates, Design, column, missing, places
from boldstream.analysis.fitted import FittedStep, blocks, moments, product
from boldstream.analysis.steps import SITE
from boldstream.errors import few_of

UnseenSite = Literal["refuse", "reference", "pooled"]
CONVERGED = 1e-10
MOST_ROUNDS = 10_000
N_NAMED = 5


def stand_in_of(unseen_site: UnseenSite, reference_site: str | None) -> str | None:
    """Return what `Design.transform` takes for unknown sites."""
    if unseen_site == "reference" and not reference_site:
        raise ValueError("unseen_site: reference needs reference_site, a site of the training rows")
    return {"refuse": None, "pooled": "", "reference": reference_site}[unseen_site]


class ComBat(FittedStep):
    """Remove site effects: x = mean + covariates + scale * (shift of the site + spread of the site * noise).

    Shift and spread are drawn towards what the site's dimensions have in common, as published: a normal prior for
    shifts, an inverse gamma prior for variances, both by moments over dimensions. What is harmonised lies around the
    mean over sites, weighted by their rows.

    Parameters
    ----------
    keep : sequence of str
        Covariates whose effects stay. Never the target: labels would leak into test rows through their sites.
    min_per_site : int
        Training rows that every site needs.
    unseen_site : {"refuse", "reference", "pooled"}
        Rows of a site that training rows have not: an error; taken for `reference_site`; or for the average of all
        sites, weighted by their rows.
    reference_site : str, optional

    Attributes
    ----------
    sites_ : list of str
    counts_ : list of int
        Training rows of each site.
    design_ : list of dict
        What `Design` learnt of the kept covariates.
    mean_, scale_ : array, shape (p,)
    coef_ : array, shape (k, p)
        Of the kept covariates.
    shift_, spread_ : array, shape (n_sites, p)

    References
    ----------
    Johnson, Li & Rabinovic (2007), Biostatistics 8:118; Fortin et al. (2018), NeuroImage 167:104.
    """

    arrays = ("mean_", "scale_", "coef_", "shift_", "spread_")
    values = ("sites_", "counts_", "design_")

    def __init__(
        self,
        keep: Sequence[str] = (),
        min_per_site: int = 2,
        unseen_site: UnseenSite = "refuse",
        reference_site: str | None = None,
    ) -> None:
        self.keep = keep
        self.min_per_site = min_per_site
        self.unseen_site = unseen_site
        self.reference_site = reference_site

    def _learn(self, x: NDArray, covariates: Covariates | None) -> None:
        if x.shape[1] < 2:
            raise ValueError("ComBat draws on what dimensions have in common, so it needs at least 2 of them")
        site = column(covariates, SITE, len(x))
        if n := int(missing(site).sum()):
            raise ValueError(f"covariate 'site' is missing in {n} of {len(site)} rows")
        sites, at, counts = np.unique(site, return_inverse=True, return_counts=True)
        self._check(sites, counts)
        kept = Design(self.keep).fit(covariates, len(x))
        columns = kept.transform(covariates, len(x))
        member = (at[:, None] == np.arange(len(sites))).astype(np.float64)
        fitted = product(np.linalg.pinv(np.concatenate([member, columns], axis=1)), x)
        self.sites_, self.counts_, self.design_ = sites.tolist(), counts.tolist(), kept.columns_
        self.coef_ = fitted[len(sites) :]
        self.mean_ = counts / len(x) @ fitted[: len(sites)]
        square = np.zeros(x.shape[1])
        for rows in blocks(len(x)):
            square += np.square(x[rows] - member[rows] @ fitted[: len(sites)] - columns[rows] @ self.coef_).sum(axis=0)
        varies = moments(x)[1] > 0
        self.scale_ = np.sqrt(np.where(varies & (square > 0), square / len(x), 1.0))
        mean, variance = self._by_site(x, member, columns, counts)
        self.shift_, self.spread_ = np.zeros_like(mean), np.ones_like(mean)
        for i, n in enumerate(counts):
            alive = varies & (variance[i] > 0)
            if alive.sum() > 1:
                self.shift_[i, alive], shrunk = shrink(mean[i, alive], variance[i, alive], int(n))
                self.spread_[i, alive] = np.sqrt(shrunk)

    def _check(self, sites: NDArray, counts: NDArray[np.int64]) -> None:
        few = [f"{name} ({count})" for name, count in zip(sites, counts, strict=True) if count < self.min_per_site]
        if few:
            raise ValueError(
                f"{len(few)} of {len(sites)} sites have less than {self.min_per_site} training rows: "
                f"{few_of(few, N_NAMED)}; ComBat cannot learn a site's scale from these"
            )

    def _by_site(
        self, x: NDArray, member: NDArray[np.float64], columns: NDArray[np.float64], counts: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return mean and variance (n - 1) of the standardised rows of every site, (n_sites, p) each."""
        total, square = np.zeros((len(counts), x.shape[1])), np.zeros((len(counts), x.shape[1]))
        for rows in blocks(len(x)):
            total += member[rows].T @ self._standardised(x[rows], columns[rows])
        mean = total / counts[:, None]
        for rows in blocks(len(x)):
            away = self._standardised(x[rows], columns[rows]) - member[rows] @ mean
            square += member[rows].T @ np.square(away)
        return mean, square / (counts[:, None] - 1)

    def _standardised(self, x: NDArray, columns: NDArray[np.float64]) -> NDArray[np.float64]:
        return (x - self.mean_ - columns @ self.coef_) / self.scale_

    def _beside(self, covariates: Covariates | None, n_rows: int) -> tuple[NDArray, ...]:
        kept = Design(self.keep)
        kept.columns_ = self.design_
        stand_in = stand_in_of(self.unseen_site, self.reference_site)
        at = places(SITE, column(covariates, SITE, n_rows), np.array(self.sites_), stand_in)
        return at, kept.transform(covariates, n_rows)

    def _apply(self, x: NDArray[np.float64], *beside: NDArray) -> NDArray[np.float64]:
        at, columns = beside
        weights = np.array(self.counts_) / np.sum(self.counts_)
        # the last entry is the average over sites: where `at` is -1
        shift = np.concatenate([self.shift_, [weights @ self.shift_]])[at]
        spread = np.concatenate([self.spread_, [np.sqrt(weights @ np.square(self.spread_))]])[at]
        around = self.mean_ + columns @ self.coef_
        return (((x - around) / self.scale_) - shift) / spread * self.scale_ + around


def shrink(
    mean: NDArray[np.float64], variance: NDArray[np.float64], n: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the posterior means of a site's shift and variance in every dimension.

    Parameters
    ----------
    mean, variance : array, shape (p,)
        Of the site's n standardised rows.
    n : int

    References
    ----------
    Johnson, Li & Rabinovic (2007), section 3.2.
    """
    center, between = mean.mean(), mean.var(ddof=1)
    typical, apart = variance.mean(), variance.var(ddof=1)
    shift, spread = mean, variance
    for _ in range(MOST_ROUNDS):
        before = shift, spread
        shift = (n * between * mean + spread * center) / (n * between + spread)
        square = (n - 1) * variance + n * np.square(mean - shift)
        if apart > 0:
            shape = typical**2 / apart + 2
            spread = (square / 2 + typical * (shape - 1)) / (n / 2 + shape - 1)
        else:
            spread = np.full_like(variance, typical)
        moved = max(np.abs(shift - before[0]).max(), np.abs(spread / before[1] - 1).max())
        if moved < CONVERGED:
            break
    return shift, spread

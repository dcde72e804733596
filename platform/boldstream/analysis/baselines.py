"""What every embedding has to beat: simple features of the same scans, as transformers with a row a scan."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from boldstream.analysis.heads.inner import target_columns
from boldstream.parcellation.gradients import HIGHEST_R, functional_connectivity

Scans = Sequence[NDArray[np.floating]]
"""Time series, (n_timepoints, n_rois) each, with the same regions."""


class MeanHead(BaseEstimator):
    """Predict the training mean, of 0 and 1 the share: what knowing nothing gives; the majority's class at 0.5."""

    def fit(self, X: Any, y: ArrayLike, folds: ArrayLike | None = None) -> Self:
        """Take the mean of y, shape (n,) or (n, n_columns); X and folds are not looked at."""
        self.mean_ = target_columns(y, len(np.asarray(y))).mean(axis=0)
        return self

    def predict(self, X: Any) -> NDArray[np.float64]:
        """Return the mean once a row."""
        return np.broadcast_to(self.mean_, (len(X), *self.mean_.shape)).copy()


class Connectivity(TransformerMixin, BaseEstimator):
    """Fisher's z of the correlations of all pairs of regions, shape (n, n_rois (n_rois - 1) / 2).

    A pair with a constant region has 0. Nothing is fitted, so it may be computed once for all folds.
    """

    def fit(self, X: Scans, y: ArrayLike | None = None) -> Self:
        """Take note of the regions' number."""
        self.n_rois_ = _n_rois(X)
        return self

    def transform(self, X: Scans) -> NDArray[np.float64]:
        """Return one row a scan; ValueError for other numbers of regions."""
        _n_rois(X, self.n_rois_)
        upper = np.triu_indices(self.n_rois_, 1)
        r = np.stack([functional_connectivity(scan)[upper] for scan in X])
        return np.arctanh(np.clip(r, -HIGHEST_R, HIGHEST_R))


class RegionMoments(TransformerMixin, BaseEstimator):
    """Every region's mean and log variance over time, shape (n, 2 n_rois), for an embedding may be no more.

    The log, because amplitudes differ by factors; a constant region has the least log variance of the training scans.
    """

    def fit(self, X: Scans, y: ArrayLike | None = None) -> Self:
        """Find what stands for a variance of 0."""
        self.n_rois_ = _n_rois(X)
        variance = self._variance(X)
        self.least_ = float(variance[variance > 0].min()) if (variance > 0).any() else 1.0
        return self

    def transform(self, X: Scans) -> NDArray[np.float64]:
        """Return one row a scan; ValueError for other numbers of regions."""
        _n_rois(X, self.n_rois_)
        mean = np.stack([np.asarray(scan, dtype=np.float64).mean(axis=0) for scan in X])
        return np.concatenate([mean, np.log(np.maximum(self._variance(X), self.least_))], axis=1)

    @staticmethod
    def _variance(scans: Scans) -> NDArray[np.float64]:
        return np.stack([np.asarray(scan, dtype=np.float64).var(axis=0) for scan in scans])


class TangentConnectivity(TransformerMixin, BaseEstimator):
    """Covariances in the tangent space at the training scans' geometric mean, by nilearn (Ledoit-Wolf).

    Regions that are constant in a scan are filled with noise of the training regions' least deviation, from a seed:
    covariances have to be positive definite.

    Attributes
    ----------
    measure_ : nilearn.connectome.ConnectivityMeasure

    References
    ----------
    Varoquaux et al. (2010), MICCAI. Pervaiz et al. (2020), NeuroImage 211:116604.
    """

    def fit(self, X: Scans, y: ArrayLike | None = None) -> Self:
        """Find the mean covariance; at least two scans."""
        from nilearn.connectome import ConnectivityMeasure

        self.n_rois_ = _n_rois(X)
        self.measure_ = ConnectivityMeasure(kind="tangent", vectorize=True, standardize=False)
        self.measure_.fit([_filled(scan) for scan in X])
        return self

    def transform(self, X: Scans) -> NDArray[np.float64]:
        """Return one row a scan, shape (n, n_rois (n_rois + 1) / 2); ValueError for other numbers of regions."""
        _n_rois(X, self.n_rois_)
        return np.asarray(self.measure_.transform([_filled(scan) for scan in X]))


def reduced_connectivity(n_dims: int, n_train: int) -> Pipeline:
    """Return connectivity on its first principal components, as many as an embedding has dimensions.

    Parameters
    ----------
    n_dims : int
        Of the embedding.
    n_train : int
        Scans in the smallest training fold, for there are no more than n_train - 1 components.
    """
    return make_pipeline(Connectivity(), first_components(n_dims, n_train))


def first_components(n_dims: int, n_train: int) -> PCA:
    """Return the reduction of connectivity that is computed already; parameters as `reduced_connectivity` has them."""
    if n_dims < 1 or n_train < 2:
        raise ValueError(f"{n_dims} components of {n_train} training scans; at least 1 of 2")
    return PCA(min(n_dims, n_train - 1), svd_solver="full")


def confounds_only(covariates: pd.DataFrame, *, fill: bool = False) -> Pipeline:
    """Return a front for covariates: numbers standardised, names one column each; a name not seen in training has none.

    Parameters
    ----------
    covariates : DataFrame
        Age, sex, site, mean FD, without what is to be predicted; only its columns' kinds are looked at.
    fill : bool
        Take the training rows' median for a missing number, and a missing name for a name of its own.

    Raises
    ------
    ValueError
        If a value is missing, for rows would be lost in silence.
    """
    lacking = [str(name) for name in covariates if covariates[name].isna().any()]
    if lacking and not fill:
        raise ValueError(f"covariates are missing in {', '.join(lacking)}; leave these rows out or impute them first")
    numbers = [name for name in covariates if pd.api.types.is_numeric_dtype(covariates[name])]
    names = [name for name in covariates if name not in numbers]
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    scaler = make_pipeline(SimpleImputer(strategy="median"), StandardScaler()) if fill else StandardScaler()
    return make_pipeline(make_column_transformer((scaler, numbers), (encoder, names)))


def _n_rois(scans: Scans, expected: int | None = None) -> int:
    found = sorted({np.shape(scan)[1] if np.ndim(scan) == 2 else -1 for scan in scans})
    if len(found) != 1 or found[0] < 1 or found[0] != (expected or found[0]):
        raise ValueError(f"scans are (n_timepoints, n_rois) with {expected or 'the same'} regions, got {found}")
    return found[0]


def _filled(scan: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return a standardised scan, its constant regions replaced by noise."""
    x = np.asarray(scan, dtype=np.float64)
    spread = x.std(axis=0)
    flat = spread <= 1e-6 * np.abs(x).max(axis=0)
    x = (x - x.mean(axis=0)) / np.where(flat, 1.0, spread)
    if flat.any():
        x[:, flat] = np.random.default_rng(0).normal(size=(len(x), int(flat.sum())))
    return x

"""Features and an adjustment of them as one front, fitted in one training fold."""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin, clone

from boldstream.analysis.adjustment import Adjustment
from boldstream.analysis.covariates import Covariates


class AdjustedFeatures(TransformerMixin, BaseEstimator):
    """Compute features, then adjust them; scikit-learn's pipelines would not pass covariates on.

    Parameters
    ----------
    features : transformer
    adjustment : Adjustment

    Attributes
    ----------
    features_, adjustment_ : estimator
        Fitted.
    """

    def __init__(self, features: Any, adjustment: Adjustment) -> None:
        self.features = features
        self.adjustment = adjustment

    def fit(self, X: Any, y: object = None, covariates: Covariates | None = None) -> Self:
        """Fit both to training rows; y is never looked at."""
        self.features_ = clone(self.features).fit(X)
        self.adjustment_ = clone(self.adjustment).fit(self._features(X), covariates=covariates)
        return self

    def transform(self, X: Any, covariates: Covariates | None = None) -> NDArray:
        """Return adjusted features, a row each."""
        return self.adjustment_.transform(self._features(X), covariates=covariates)

    def _features(self, X: Any) -> NDArray[np.float64]:
        return np.asarray(self.features_.transform(X), dtype=np.float64)

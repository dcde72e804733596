"""Features and an adjustment of them as one front, fitted in one training fold."""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin, clone

from boldstream.analysis.adjustment import Adjustment, Refusal
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

    @property
    def reads_target(self) -> bool:
        """Whether the features are fitted with the target, as attention pooling is."""
        return bool(getattr(self.features, "reads_target", False))

    def fit(
        self, X: Any, y: Any = None, covariates: Covariates | None = None, folds: NDArray[np.int64] | None = None
    ) -> Self:
        """Fit both to training rows; y and folds go to features that read the target, and nowhere else."""
        told = {"y": y, "folds": folds} if self.reads_target else {}
        self.features_ = clone(self.features).fit(X, **told)
        self.adjustment_ = clone(self.adjustment).fit(self._features(X), covariates=covariates)
        return self

    def transform(self, X: Any, covariates: Covariates | None = None) -> NDArray:
        """Return adjusted features, a row each."""
        return self.adjustment_.transform(self._features(X), covariates=covariates)

    def foreign(self, covariates: Covariates | None, n_rows: int) -> list[Refusal]:
        """Return the rows with a site, or another category, that no training row has."""
        return self.adjustment_.foreign(covariates, n_rows)

    def _features(self, X: Any) -> NDArray[np.float64]:
        return np.asarray(self.features_.transform(X), dtype=np.float64)

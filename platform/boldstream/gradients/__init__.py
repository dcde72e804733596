"""Room: the functional gradient of a cohort, which gives the encoder its positions."""

from boldstream.gradients.config import GradientConfig
from boldstream.gradients.run import fit_gradient

__all__ = ["GradientConfig", "fit_gradient"]

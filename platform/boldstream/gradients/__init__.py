"""Room: the functional gradient of a cohort, which gives the encoder its positions."""

from typing import TYPE_CHECKING

from boldstream.doors import lazy_door

if TYPE_CHECKING:
    from boldstream.gradients.config import GradientConfig
    from boldstream.gradients.run import fit_gradient

__all__ = ["GradientConfig", "fit_gradient"]

__getattr__ = lazy_door(__name__, {"GradientConfig": "config", "fit_gradient": "run"})

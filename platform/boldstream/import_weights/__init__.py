"""Room: weights from elsewhere and their gradient in, a registered model version out."""

from typing import TYPE_CHECKING

from boldstream.doors import lazy_door

if TYPE_CHECKING:
    from boldstream.import_weights.config import ImportWeightsConfig
    from boldstream.import_weights.run import import_weights

__all__ = ["ImportWeightsConfig", "import_weights"]

__getattr__ = lazy_door(__name__, {"ImportWeightsConfig": "config", "import_weights": "run"})

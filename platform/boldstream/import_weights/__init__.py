"""Room: weights from elsewhere and their gradient in, a registered model version out."""

from boldstream.import_weights.config import ImportWeightsConfig
from boldstream.import_weights.run import import_weights

__all__ = ["ImportWeightsConfig", "import_weights"]

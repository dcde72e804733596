"""Room: a cohort and a gradient in, a registered model version out."""

from boldstream.pretrain.config import PretrainConfig
from boldstream.pretrain.run import pretrain

__all__ = ["PretrainConfig", "pretrain"]

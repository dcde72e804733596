"""Room: a cohort and a gradient in, a registered model version out."""

from typing import TYPE_CHECKING

from boldstream.doors import lazy_door

if TYPE_CHECKING:
    from boldstream.pretrain.config import PretrainConfig
    from boldstream.pretrain.run import pretrain

__all__ = ["PretrainConfig", "pretrain"]

__getattr__ = lazy_door(__name__, {"PretrainConfig": "config", "pretrain": "run"})

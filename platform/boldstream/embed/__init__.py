"""Room: a cohort and a model version in, an embedding table version out."""

from typing import TYPE_CHECKING

from boldstream.doors import lazy_door

if TYPE_CHECKING:
    from boldstream.embed.config import EmbedConfig
    from boldstream.embed.run import embed_cohort

__all__ = ["EmbedConfig", "embed_cohort"]

__getattr__ = lazy_door(__name__, {"EmbedConfig": "config", "embed_cohort": "run"})

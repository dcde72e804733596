"""Room: a cohort and a model version in, an embedding table version out."""

from typing import TYPE_CHECKING

from boldstream.doors import lazy_door

if TYPE_CHECKING:
    from boldstream.embed.config import EmbedConfig, Strategy
    from boldstream.embed.run import embed_cohort

__all__ = ["EmbedConfig", "Strategy", "embed_cohort"]

__getattr__ = lazy_door(__name__, {"EmbedConfig": "config", "Strategy": "config", "embed_cohort": "run"})

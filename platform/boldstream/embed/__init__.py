"""Room: a cohort and a model version in, an embedding table version out."""

from boldstream.embed.config import EmbedConfig, Strategy
from boldstream.embed.run import embed_cohort

__all__ = ["EmbedConfig", "Strategy", "embed_cohort"]

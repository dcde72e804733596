"""Room: an embedding table in, a table of adjusted vectors and the fitted adjustment out."""

from typing import TYPE_CHECKING

from boldstream.doors import lazy_door

if TYPE_CHECKING:
    from boldstream.adjust.config import AdjustConfig
    from boldstream.adjust.run import adjust_table

__all__ = ["AdjustConfig", "adjust_table"]

__getattr__ = lazy_door(__name__, {"AdjustConfig": "config", "adjust_table": "run"})

"""Room: every night, what is new is ingested and embedded, and promoted if it passes the quality gate."""

from typing import TYPE_CHECKING

from boldstream.doors import lazy_door

if TYPE_CHECKING:
    from boldstream.nightly.config import NightlyConfig
    from boldstream.nightly.run import run_nightly

__all__ = ["NightlyConfig", "run_nightly"]

__getattr__ = lazy_door(__name__, {"NightlyConfig": "config", "run_nightly": "run"})

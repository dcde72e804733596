"""Room: embedding tables and targets in, probe results beside baselines out."""

from typing import TYPE_CHECKING

from boldstream.doors import lazy_door

if TYPE_CHECKING:
    from boldstream.probe.config import ProbeConfig
    from boldstream.probe.run import probe_table

__all__ = ["ProbeConfig", "probe_table"]

__getattr__ = lazy_door(__name__, {"ProbeConfig": "config", "probe_table": "run"})

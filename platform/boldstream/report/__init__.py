"""Room: a cohort and the embedding tables made of it in, one HTML report out."""

from typing import TYPE_CHECKING

from boldstream.doors import lazy_door

if TYPE_CHECKING:
    from boldstream.report.config import ReportConfig
    from boldstream.report.run import write_report

__all__ = ["ReportConfig", "write_report"]

__getattr__ = lazy_door(__name__, {"ReportConfig": "config", "write_report": "run"})

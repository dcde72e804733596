"""Room: a cohort and the embedding tables made of it in, one HTML report out."""

from boldstream.report.config import ReportConfig
from boldstream.report.run import write_report

__all__ = ["ReportConfig", "write_report"]

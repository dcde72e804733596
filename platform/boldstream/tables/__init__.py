"""Tables: look at versions of embedding tables and cohorts, compare them, and say which one counts."""

from boldstream.tables.commands import run_tables

__all__ = ["run_tables"]

"""Submission: rooms as jobs on a Ray cluster, one of a name a night; list, follow and stop them."""

from boldstream.submission.commands import run_jobs, run_submit

__all__ = ["run_jobs", "run_submit"]

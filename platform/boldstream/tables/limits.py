"""Defaults of the commands, apart from the code that needs them, so that ``--help`` is quick."""

MAX_SCANS = 2000
"""Rows of two tables that are compared: neighbours take the square of it."""

GRACE_HOURS = 24.0
"""So long, files that nothing refers to stay: a worker may have written them for a commit to come."""

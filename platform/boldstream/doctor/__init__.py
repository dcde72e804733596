"""Doctor: look at everything that jobs stand on, here or on every node of a cluster, and say how to mend it."""

from boldstream.doctor.commands import run_doctor

__all__ = ["run_doctor"]

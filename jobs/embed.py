"""Embed a cohort with a registered model version.

    python jobs/embed.py --config configs/embed/abide.yaml
    ray job submit -- python jobs/embed.py --config configs/embed/abide.yaml

Writes an embedding table version and a quarantine table of the scans that have no vector.
"""

from boldstream.cli import run_job

if __name__ == "__main__":
    run_job("embed")

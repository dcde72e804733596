"""Read parcellated scans and a participants table into a cohort.

    python jobs/ingest.py --config configs/ingest/abide.yaml
    ray job submit -- python jobs/ingest.py --config configs/ingest/abide.yaml

Writes a cohort version and a quarantine table of the scans that cannot be used.
"""

from boldstream.cli import run_job

if __name__ == "__main__":
    run_job("ingest")

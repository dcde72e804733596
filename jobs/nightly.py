"""Ingest and embed what is new, and promote the new version of the table if it passes the quality gate.

    python jobs/nightly.py --config configs/nightly/demo.yaml
    python jobs/nightly.py --config configs/nightly/demo.yaml --dry-run
    ray job submit -- python jobs/nightly.py --config configs/nightly/demo.yaml

Exit codes: 0 promoted, or nothing was new; 2 no version was made; 3 promoted without scans that failed; 4 held.
"""

from boldstream.cli import run_job

if __name__ == "__main__":
    run_job("nightly")

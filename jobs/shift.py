"""Tell how far a cohort is from the scans that a model was trained on.

    python jobs/shift.py --config configs/shift/abide.yaml
    ray job submit -- python jobs/shift.py --config configs/shift/abide.yaml

Writes a page (index.html) with the scans and regions that are off, and the numbers beside it.
"""

from boldstream.cli import run_job

if __name__ == "__main__":
    run_job("shift")

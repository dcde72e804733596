"""Compute the functional gradient of a cohort.

    python jobs/gradients.py --config configs/gradients/abide.yaml
    ray job submit -- python jobs/gradients.py --config configs/gradients/abide.yaml

Writes a gradient with the cohort's region names; pretraining takes it as the encoder's positions.
"""

from boldstream.cli import run_job

if __name__ == "__main__":
    run_job("gradients")

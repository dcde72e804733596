"""Harmonize, project and residualize an embedding table, fitted on its training subjects.

    python jobs/adjust.py --config configs/adjust/demo.yaml
    ray job submit -- python jobs/adjust.py --config configs/adjust/demo.yaml

Writes a table of adjusted vectors and the fitted adjustment; with --adjustment, a fitted one is applied as it is.
"""

from boldstream.cli import run_job

if __name__ == "__main__":
    run_job("adjust")

"""Ask frozen embeddings for phenotypes, beside baselines from the same scans and folds.

    python jobs/probe.py --config configs/probe/abide.yaml
    ray job submit -- python jobs/probe.py --config configs/probe/abide.yaml

Writes a version of results: scores with intervals, comparisons, predictions, and what they mean in words.
"""

from boldstream.cli import run_job

if __name__ == "__main__":
    run_job("probe")

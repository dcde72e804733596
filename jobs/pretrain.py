"""Pretrain Brain-JEPA on a cohort and register the model version.

    python jobs/pretrain.py --config configs/pretrain/abide.yaml
    ray job submit -- python jobs/pretrain.py --config configs/pretrain/abide.yaml

Writes a model version (weights, gradient, scaling) into the MLflow registry.
"""

from boldstream.cli import run_job

if __name__ == "__main__":
    run_job("pretrain")

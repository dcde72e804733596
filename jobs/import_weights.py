"""Check weights from elsewhere and register them as a model version.

    python jobs/import_weights.py --config configs/import_weights/brainjepa.yaml

Takes the released checkpoint, its gradient and the names of its regions; says aloud what it cannot vouch for.
"""

from boldstream.cli import run_job

if __name__ == "__main__":
    run_job("import_weights")

"""Write the report of embedding tables: what they hold, and how well they tell subjects apart.

    python jobs/report.py --config configs/report/demo.yaml
    ray job submit -- python jobs/report.py --config configs/report/demo.yaml

Writes a folder with index.html, its figures, numbers.json and methods.md.
"""

from boldstream.cli import run_job

if __name__ == "__main__":
    run_job("report")

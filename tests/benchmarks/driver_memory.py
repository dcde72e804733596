"""What the driver of an embed run holds: peak memory with 1,000 and with 100,000 rows.

    python tests/benchmarks/driver_memory.py [--quick]

The driver plans a run over a cohort that is embedded already and settles and counts the table, as every run does before
its first scan and after its last; that is all that grows with the rows (scans and vectors pass by on the workers).
Baseline: the same with 1,000 rows. Each in a process of its own; what Python and its libraries take is in both.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
from plan_unchanged import IDENTITY, make

from boldstream.artifacts.cohort import NOT_CARRIED, open_cohort
from boldstream.artifacts.embeddings import embedding_schema
from boldstream.embed.outputs import Outputs
from boldstream.embed.plan import plan_rows

FEW, MANY, QUICK = 1_000, 100_000, 20_000
TARGET = 1.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK:,} rows instead of {MANY:,}")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        drive(options.child)
        return
    many = QUICK if options.quick else MANY
    peaks = {}
    for n_rows in (FEW, many):
        with tempfile.TemporaryDirectory() as scratch:
            warehouse = str(Path(scratch) / "warehouse")
            make(warehouse, n_rows)
            started = time.perf_counter()
            command = [sys.executable, __file__, "--child", warehouse]
            found = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            peaks[n_rows] = int(found.stdout) / 1000
            print(f"{n_rows:7d} rows: peak {peaks[n_rows]:.0f} MB ({time.perf_counter() - started:.1f} s)")
    ours, baseline = peaks[many], peaks[FEW]
    print(f"{1000 * (ours - baseline) / (many - FEW):.2f} kB a row, of keys and digests")
    result = {"name": f"driver_memory ({many:,} rows)", "ratio": ours / baseline, "target": f"<= {TARGET}"}
    print(json.dumps(result | {"met": ours <= TARGET * baseline, "ours": ours, "baseline": baseline, "unit": "MB"}))


def drive(warehouse: str) -> None:
    """Do the driver's part of a run, and print the peak of resident memory in kB."""
    cohort = open_cohort("many", warehouse)
    carried = pa.schema([field for field in cohort.table.schema if field.name not in NOT_CARRIED])
    outputs = Outputs.open(warehouse, "table", cohort, embedding_schema(carried), IDENTITY)
    plan = plan_rows(cohort, outputs, 1, 3)
    outputs.settle(plan.expected)
    rows = outputs.vectors.index.rows.sort_by("row_key")
    assert not plan.units and rows.num_rows == plan.expected.num_rows
    # not getrusage, whose peak a process takes over from the one that started it
    lines = Path("/proc/self/status").read_text().splitlines()
    print(next(line.split()[1] for line in lines if line.startswith("VmHWM:")))


if __name__ == "__main__":
    main()

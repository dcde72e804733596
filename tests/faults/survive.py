"""Let every fault loose on a run of `embed`, many times at random moments, and write what came of it to docs/faults.md.

`make faults SEEDS=20`; every row is printed as it is measured, and kept in `--state`, from where it goes on.
"""

import argparse
import datetime
import json
import logging
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from faults.injections import DISK, DISK_TOLD, FAULTS, Survival, can_mount, suffer
from faults.lab import N_SCANS, ROOT, Lab

PAGE = ROOT / "docs" / "faults.md"
MARK = "<!-- written by tests/faults/survive.py -->"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="runs of each fault")
    parser.add_argument("--only", nargs="*", default=[*FAULTS, DISK], help="faults")
    parser.add_argument("--state", type=Path, default=ROOT / "build" / "faults.jsonl", help="rows so far")
    parser.add_argument("--dry", action="store_true", help="leave docs/faults.md as it is")
    told = parser.parse_args()
    logging.getLogger("ray").setLevel(logging.ERROR)
    if DISK in told.only and not can_mount():
        print(f"{DISK}: left out, this needs the right to mount a disk")
        told.only.remove(DISK)
    rows = read_rows(told.state)
    done = {(row.fault, row.seed) for row in rows}
    todo = [(name, seed) for seed in range(told.seeds) for name in told.only if (name, seed) not in done]
    if todo:
        told.state.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="boldstream-faults-") as folder, Lab(folder) as lab:
            print(f"uninterrupted: {N_SCANS} scans in {lab.seconds:.1f} s, digest {lab.digest[:12]}", flush=True)
            for name, seed in todo:
                row = suffer(lab, name, seed)
                rows.append(row)
                with told.state.open("a") as file:
                    file.write(json.dumps(asdict(row)) + "\n")
                print(line_of(row), flush=True)
                if row.problems:
                    print((lab.folder / "logs" / f"{lab.number:03d}-{name}-{seed}.txt").read_text()[-3000:])
    table = table_of(rows)
    print(table)
    if not told.dry:
        write_page(table)
    sys.exit(any(row.problems for row in rows))


def read_rows(state):
    return [Survival(**json.loads(line)) for line in state.read_text().splitlines()] if state.is_file() else []


def line_of(row):
    how = "by itself" if row.alone else "by the same command again"
    return f"{row.fault} {row.seed}: {row.problems or how}, {row.seconds:.1f} s"


def table_of(rows):
    """Return the table of faults survived."""
    lines = ["| fault | runs | whole by itself | whole by the same command again | not whole | longest |"]
    lines += ["|-|-|-|-|-|-|"]
    for name, told in [*((name, fault.told) for name, fault in FAULTS.items()), (DISK, DISK_TOLD)]:
        if own := [row for row in rows if row.fault == name]:
            good = [row for row in own if not row.problems]
            alone = sum(row.alone for row in good)
            longest = max(row.seconds for row in own)
            lines.append(
                f"| {told} | {len(own)} | {alone} | {len(good) - alone} | {len(own) - len(good)} | {longest:.0f} s |"
            )
    return "\n".join(lines)


def write_page(table):
    """Put the table between its marks on the page."""
    before, _, rest = PAGE.read_text().partition(MARK)
    after = rest.partition(MARK)[2]
    today = datetime.datetime.now(datetime.UTC).date()
    PAGE.write_text(f"{before}{MARK}\n\nMeasured on {today} by `make faults`.\n\n{table}\n\n{MARK}{after}")


if __name__ == "__main__":
    main()

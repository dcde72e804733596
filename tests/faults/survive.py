"""Let every fault loose on a run of `embed`, many times at random moments, and write what came of it to docs/faults.md.

`make faults SEEDS=20`; every run is printed as it ends and kept in `--state`, from where the next call goes on.
"""

import argparse
import datetime
import json
import logging
import signal
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from boldstream.artifacts.manifest import git_sha
from faults.injections import DISK, DISK_TOLD, FAULTS, Survival, can_mount, suffer
from faults.lab import N_SCANS, ROOT, Lab

PAGE = ROOT / "docs" / "faults.md"
MARK = "<!-- written by tests/faults/survive.py -->"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="runs of each fault")
    parser.add_argument("--only", nargs="*", default=[*FAULTS, DISK], help="faults")
    parser.add_argument("--state", type=Path, help="runs so far (build/faults-<commit>.jsonl)")
    parser.add_argument("--minutes", type=float, default=600, help="begin no run after so long; call again to go on")
    parser.add_argument("--dry", action="store_true", help="leave docs/faults.md as it is")
    told = parser.parse_args()
    state = told.state or ROOT / "build" / f"faults-{git_sha()}.jsonl"
    logging.getLogger("ray").setLevel(logging.ERROR)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))  # so that servers and nodes are ended too
    if DISK in told.only and not can_mount():
        print(f"{DISK}: left out, this needs the right to mount a disk")
        told.only.remove(DISK)
    rows = read_rows(state)
    done = {(row.fault, row.seed) for row in rows}
    todo = [(name, seed) for seed in range(told.seeds) for name in told.only if (name, seed) not in done]
    if todo:
        state.parent.mkdir(parents=True, exist_ok=True)
        with state.open("a") as file:
            for row in measure(todo, time.monotonic() + 60 * told.minutes):
                rows.append(row)
                print(json.dumps(asdict(row)), file=file, flush=True)
    table = table_of(rows)
    print(table)
    if not told.dry:
        write_page(table)
    sys.exit(any(row.problems for row in rows))


def measure(todo, end):
    """Yield how each run came through, until it is too late to begin another one."""
    with tempfile.TemporaryDirectory(prefix="boldstream-faults-") as folder, Lab(folder) as lab:
        print(f"uninterrupted: {N_SCANS} scans in {lab.seconds:.1f} s, digest {lab.digest[:12]}", flush=True)
        for name, seed in todo:
            if time.monotonic() > end:
                print("time is up: the same command goes on from here")
                return
            row = suffer(lab, name, seed)
            print(line_of(row), flush=True)
            if row.problems:
                print(lab.logs(f"{name}-{seed}"), flush=True)
            yield row


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
    measured = (
        f"Measured on {datetime.datetime.now(datetime.UTC).date()} by `make faults` at {git_sha() or 'no commit'}."
    )
    PAGE.write_text(f"{before}{MARK}\n\n{measured}\n\n{table}\n\n{MARK}{after}")


if __name__ == "__main__":
    main()

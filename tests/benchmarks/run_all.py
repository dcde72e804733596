"""Run every benchmark of this folder and write docs/benchmarks.md from their last lines.

python tests/benchmarks/run_all.py [--quick]
"""

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parent.parent / "docs" / "benchmarks.md"
NO_CLAIM = {"run_all.py", "random_cohort.py", "untrained_model.py"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller inputs, fewer repeats")
    flags = ["--quick"] if parser.parse_args().quick else []
    sections, results, failed = [], [], []
    for script in sorted(HERE.glob("*.py")):
        if script.name in NO_CLAIM:
            continue
        print(f"== {script.name}", flush=True)
        command = [sys.executable, str(script), *flags]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        print(done.stdout, flush=True)
        if done.returncode:
            failed.append(script.name)
            continue
        *text, last = done.stdout.strip().splitlines()
        results.append(json.loads(last))
        sections.append(f"## {script.name}\n\n```\n" + "\n".join(text).strip() + "\n```\n")
    rows = [
        f"| {r['name']} | {r['ours']:.3g} | {r['baseline']:.3g} | {r['unit']} | {r['ratio']:.2f} "
        f"| {'-' if r['target'] is None else r['target']} | {'-' if r['met'] is None else r['met']} |"
        for r in results
    ]
    head = (
        "# Benchmarks\n\n"
        f"Written by `python {' '.join(['tests/benchmarks/run_all.py', *flags])}` on {datetime.date.today()}: "
        f"{os.cpu_count()} cores, {platform.machine()}, Python "
        f"{platform.python_version()}. The machine is shared: trust ratios, not seconds.\n\n"
        "| benchmark | ours | baseline | unit | ratio | target | met |\n|---|---|---|---|---|---|---|\n"
    )
    PAGE.write_text(head + "\n".join(rows) + "\n\n" + "\n".join(sections))
    print(f"written: {PAGE}")
    if failed:
        sys.exit(f"failed, and not in it: {', '.join(failed)}")


if __name__ == "__main__":
    main()

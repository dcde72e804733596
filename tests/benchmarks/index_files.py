"""Index an fMRIPrep tree of 20,000 files, against os.walk and one bare regular expression.

    python tests/benchmarks/index_files.py [--quick]

5,000 subjects on local disk, four (empty) files each: volume, sidecar, confounds, their sidecar. Ours lists the tree
once through boldstream.listing, as on S3, and finds every scan with what lies beside it; the baseline only takes the
names apart. Both are timed in turns. The claim beside the ratio is less than 1 s on a machine of its own; as this one
may be shared, it is held against the CPU seconds of all threads.
"""

import argparse
import json
import os
import re
import statistics
import tempfile
import time
from pathlib import Path

from boldstream.ingest.config import SourceConfig
from boldstream.ingest.find import find_scans
from boldstream.listing import list_files
from boldstream.storage import absolute_uri

N_SUBJECTS, TARGET = 5000, 3.0
MADE = "space-MNI152NLin6Asym_res-2_desc-preproc_bold"
FILES = (f"{MADE}.nii.gz", f"{MADE}.json", "desc-confounds_timeseries.tsv", "desc-confounds_timeseries.json")
BARE = re.compile(
    r"sub-(?P<sub>[^_/]+)(?:_ses-(?P<ses>[^_/]+))?_task-(?P<task>[^_/]+)(?:_run-(?P<run>[^_/]+))?"
    r"(?:_space-(?P<space>[^_/]+))?(?:_res-(?P<res>[^_/]+))?(?:_desc-(?P<desc>[^_/]+))?_(?P<suffix>\w+)(?P<ext>\..+)"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer repeats")
    repeats = 5 if parser.parse_args().quick else 20
    times: dict[str, list[float]] = {"list": [], "find": [], "ours": [], "baseline": [], "cpu": []}
    with tempfile.TemporaryDirectory() as folder:
        write_tree(Path(folder))
        for repeat in range(-1, repeats):
            cpu, started = time.process_time(), time.perf_counter()
            paths = list_files(folder).paths
            between = time.perf_counter()
            scans = find_scans(SourceConfig(kind="fmriprep", root=folder), paths, absolute_uri(folder))
            ended, cpu = time.perf_counter(), time.process_time() - cpu
            n_bare = walk(folder)
            walked = time.perf_counter()
            assert len(scans) == N_SUBJECTS and all(len(scan.files) == len(FILES) for scan in scans)
            assert n_bare == len(paths) == N_SUBJECTS * len(FILES)
            if repeat >= 0:
                steps = (between - started, ended - between, ended - started, walked - ended, cpu)
                for name, seconds in zip(times, steps, strict=True):
                    times[name].append(seconds)
    median = {name: statistics.median(values) for name, values in times.items()}
    print(f"{N_SUBJECTS * len(FILES)} files of {N_SUBJECTS} subjects, local disk, median of {repeats}")
    for name, text in (
        ("list", "list_files"),
        ("find", "find_scans"),
        ("ours", "both"),
        ("cpu", "both, CPU seconds"),
        ("baseline", "os.walk + regular expression"),
    ):
        print(f"  {text:30s} {median[name]:.3f} s   {min(times[name]):.3f} to {max(times[name]):.3f}")
    ratio = median["ours"] / median["baseline"]
    print(f"  ours / baseline {ratio:.2f} (at most {TARGET:g}); CPU under 1 s: {median['cpu'] < 1}")
    print(
        json.dumps(
            {
                "name": "index_files (20,000 files; ours / os.walk)", "ratio": ratio, "target": TARGET,
                "met": ratio <= TARGET and median["cpu"] < 1, "ours": median["ours"],
                "baseline": median["baseline"], "unit": "s",
            }
        )
    )  # fmt: skip


def write_tree(root: Path) -> None:
    """Write the empty files of all subjects."""
    for i in range(N_SUBJECTS):
        folder = root / f"sub-{i:05d}" / "func"
        folder.mkdir(parents=True)
        for name in FILES:
            (folder / f"sub-{i:05d}_task-rest_{name}").touch()


def walk(folder: str) -> int:
    """Count the files whose names a bare regular expression takes apart."""
    found = [match.groupdict() for _, _, names in os.walk(folder) for name in names if (match := BARE.fullmatch(name))]
    return len(found)


if __name__ == "__main__":
    main()

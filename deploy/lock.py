"""Pin what the image holds, by version and sha256: writes requirements.txt and requirements-cuda.txt beside itself.

    make lock

Versions follow constraints.txt. One hash a package, of the wheel that Linux on x86-64 with Python 3.11 takes: that is
what the Dockerfile builds. torch's own CUDA wheels are apart, because the CPU image takes torch from elsewhere.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
PACKAGE = ".[s3,gpu,postgres,server]"
BUILD = "hatchling"
"""Builds our own wheel in the image, where nothing may be fetched that is not pinned."""
CUDA = ("torch", "triton", "nvidia-", "cuda-")
KEPT = {"nvidia-ml-py"}
HEAD = "# Written by deploy/lock.py (make lock): Linux, x86-64, Python 3.11. Versions are those of constraints.txt.\n"


def resolve():
    """Ask pip what it would install from the index into an empty environment, and return (name, version, sha256)."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--isolated"]
        command += ["--constraint", "constraints.txt", "--report", str(report), PACKAGE, BUILD]
        subprocess.run(command, check=True, cwd=HERE.parent)
        found = json.loads(report.read_text())["install"]
    for item in found:
        url, info = item["download_info"]["url"], item["metadata"]
        if url.startswith("https://"):
            yield info["name"].lower(), info["version"], item["download_info"]["archive_info"]["hashes"]["sha256"]
        elif info["name"] != "boldstream":
            sys.exit(
                f"{info['name']}: pip takes it from {url}, so its hash is not the index's; run without --find-links"
            )


def main():
    """Write both files."""
    locked = sorted(resolve())
    cuda = [row for row in locked if row[0].startswith(CUDA) and row[0] not in KEPT]
    for name, rows in (
        ("requirements.txt", [row for row in locked if row not in cuda]),
        ("requirements-cuda.txt", cuda),
    ):
        lines = [f"{package}=={version} --hash=sha256:{digest}\n" for package, version, digest in rows]
        (HERE / name).write_text(HEAD + "".join(lines))


if __name__ == "__main__":
    main()

"""One machine: its Python and packages, GPUs, disks. Imports nothing that may be missing there."""

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from boldstream.doctor.finding import NOTE, OK, WRONG, Finding

PACKAGES = ("ray", "torch", "numpy", "scipy", "pyarrow", "pyiceberg", "mlflow", "pydantic", "tyro", "nilearn")
MISSING = "missing"
GPU_S = 120
GB = 1e9
FULL_SHARE = 0.95
"""Ray stops writing to a disk that is fuller."""
DEVICE = Path("/dev/nvidia0")
LOOK = "import json, torch; print(json.dumps([torch.cuda.device_count(), torch.__version__]))"


def read_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that results depend on; builds (``+cpu``) are left out."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name).partition("+")[0]
        except importlib.metadata.PackageNotFoundError:
            found[name] = MISSING
    return found


def judge_versions(versions: Mapping[str, str], where: str, head: Mapping[str, str] | None = None) -> Finding:
    """Judge one machine's versions by themselves, or beside those of the head."""
    missing = [name for name, version in versions.items() if version == MISSING]
    if missing:
        mend = f"install boldstream there: {sys.executable} -m pip install boldstream -c constraints.txt"
        return Finding("versions", where, WRONG, f"{', '.join(missing)} not installed", mend)
    if head is None:
        return Finding("versions", where, OK, ", ".join(f"{name} {version}" for name, version in versions.items()))
    other = [f"{name} {version} (head: {head[name]})" for name, version in versions.items() if version != head[name]]
    if not other:
        return Finding("versions", where, OK, f"python {versions['python']}, ray {versions['ray']}, all as the head's")
    return Finding(
        "versions",
        where,
        WRONG,
        ", ".join(other),
        "install the same versions everywhere: pip install -c constraints.txt, or the same image",
    )


def check_python(where: str) -> Finding:
    """Check that the command ``python`` is the Python that runs here: jobs are started by it."""
    found = shutil.which("python")
    if found and Path(found).parent.resolve() == Path(sys.executable).parent.resolve():
        return Finding("python", where, OK, f"python is {found}")
    return Finding(
        "python",
        where,
        WRONG,
        f"the command python is {found or 'not there'}, Ray runs on {sys.executable}: jobs find other packages",
        f"start Ray with its folder first in PATH: PATH={Path(sys.executable).parent}:$PATH ray start …",
    )


def check_gpu(where: str, promised: int) -> Finding:
    """Check that torch sees the GPUs that Ray promises on this machine, in a process without Ray's restrictions."""
    variables = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    try:
        told = subprocess.run(
            [sys.executable, "-c", LOOK], env=variables, capture_output=True, text=True, timeout=GPU_S, check=True
        )
        seen, torch = json.loads(told.stdout.splitlines()[-1])
    except (subprocess.SubprocessError, ValueError, IndexError) as error:
        return Finding("gpu", where, WRONG, f"torch cannot be asked: {error}", "reinstall torch there")
    return judge_gpus(where, promised, seen, torch, has_device=DEVICE.exists())


def judge_gpus(where: str, promised: int, seen: int, torch: str, *, has_device: bool) -> Finding:
    """Judge how many GPUs Ray promises, torch sees, and whether the machine has one at all."""
    if seen < promised or (has_device and not seen):
        has = f"Ray promises {promised}" if promised else "the machine has one"
        mend = "install torch's CUDA build and a driver that fits it (nvidia-smi tells), or ray start --num-gpus 0"
        return Finding("gpu", where, WRONG, f"{has}, torch {torch} sees {seen}", mend)
    if seen > promised:
        mend = f"start the node with ray start --num-gpus {seen}"
        return Finding("gpu", where, NOTE, f"torch sees {seen}, Ray promises {promised}: the others stay idle", mend)
    return Finding("gpu", where, OK, f"{seen} GPUs" if seen else "none; encoders run on CPUs")


def check_disk(where: str, path: Path, what: str, least_gb: float) -> Finding:
    """Check that the disk of a folder (or of the nearest that is there) has room."""
    while not path.exists():
        path = path.parent
    usage = shutil.disk_usage(path)
    found = f"{usage.free / GB:.1f} of {usage.total / GB:.1f} GB free at {path} ({what})"
    full = usage.used / max(usage.used + usage.free, 1) > FULL_SHARE
    if usage.free >= least_gb * GB and not full:
        return Finding("disk", where, OK, found)
    wanted = f"{least_gb:g} GB are wanted, and at most {FULL_SHARE:.0%} in use"
    return Finding("disk", where, WRONG, f"{found}; {wanted}", f"make room: du -xh -d 2 {path} | sort -h")

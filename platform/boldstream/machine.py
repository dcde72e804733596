"""What the machine that this process runs on can still give: memory, as its container allows."""

import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def available_memory(cgroup: Path = CGROUP, meminfo: Path = Path("/proc/meminfo")) -> int:
    """Return the bytes that new work may take without swapping, or being killed for it.

    On Linux the kernel's estimate (``MemAvailable``), or what is left of the container's limit (cgroup v2 or v1) where
    that is less; the page cache counts as free. Elsewhere, where the system tells only what it has: half of its memory.
    """
    if not meminfo.is_file():
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    free = int(fields["MemAvailable"].split()[0]) * 1024
    return max(0, min([free, *_left_in_container(cgroup)]))


def _left_in_container(cgroup: Path) -> list[int]:
    """Return what is left of the container's limit, or nothing where there is none."""
    for folder, limit, used, cache in (
        (cgroup, "memory.max", "memory.current", "inactive_file"),
        (cgroup / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        if not (folder / limit).is_file() or (text := (folder / limit).read_text().strip()) == "max":
            continue
        kinds = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return [int(text) - int((folder / used).read_text()) + int(kinds.get(cache, 0))]
    return []

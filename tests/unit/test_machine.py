from boldstream.machine import available_memory

MEMINFO = "MemTotal:       24000000 kB\nMemFree:         1000000 kB\nMemAvailable:    8000000 kB\n"


def write(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def available(tmp_path, files):
    write(tmp_path, files | {"meminfo": MEMINFO})
    return available_memory(tmp_path / "cgroup", tmp_path / "meminfo")


def test_memory__outside_containers_is_the_kernels_estimate(tmp_path):
    assert available(tmp_path, {}) == 8_192_000_000
    assert available(tmp_path, {"cgroup/memory.max": "max\n"}) == 8_192_000_000


def test_memory__in_a_container_is_what_its_limit_leaves(tmp_path):
    v2 = {
        "cgroup/memory.max": "4000000000\n",
        "cgroup/memory.current": "3000000000\n",
        "cgroup/memory.stat": "anon 1000000000\ninactive_file 1500000000\n",
    }
    assert available(tmp_path, v2) == 2_500_000_000


def test_memory__in_a_container_of_cgroup_1(tmp_path):
    v1 = {
        "cgroup/memory/memory.limit_in_bytes": "2000000000\n",
        "cgroup/memory/memory.usage_in_bytes": "2500000000\n",
        "cgroup/memory/memory.stat": "cache 1\ntotal_inactive_file 100000000\n",
    }
    assert available(tmp_path, v1) == 0
    v1["cgroup/memory/memory.limit_in_bytes"] = "9223372036854771712\n"  # what no limit looks like there
    assert available(tmp_path, v1) == 8_192_000_000


def test_memory__of_this_machine():
    assert available_memory() > 50_000_000

"""Run all tests in two lanes side by side, and fail where one of them fails.

python tests/side_by_side.py [pytest's options]

Tests that start Ray mostly wait for processes to start, the others compute on one core. The others run with the lowest
priority, so they do not slow down Ray's, which take longer; the walks through whole jobs, which start a Ray of their
own, follow them. Two clusters at once is what two cores can carry. The second lane tells what it found when it ends.
"""

import signal
import subprocess
import sys
import threading

POLITE = ["nice", "-n", "19"]
INTERRUPTED, NOTHING_CHOSEN = 2, 5  # of pytest's statuses; the second where no test has the marks


def pytest_command(marks: str, options: list[str]) -> list[str]:
    """Return the command that runs the tests with these marks, with a cache of its own."""
    cache = f"cache_dir=.pytest_cache/{marks.replace(' ', '-')}"
    return [sys.executable, "-m", "pytest", "-m", marks, "-o", cache, *options]


def run_beside(options: list[str], ends: list[int]) -> None:
    """Run the tests without Ray and then the walks, print what they say in one piece each, and note how they end."""
    for name, command in {
        "without Ray": [*POLITE, *pytest_command("not ray and not walk", options)],
        "walks through whole jobs": pytest_command("walk", options),
    }.items():
        found = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        print(f"\n\n==== {name} ====\n{found.stdout}\n==== with Ray, going on ====", flush=True)
        ends.append(found.returncode)
        if found.returncode == INTERRUPTED:
            break


def main(options: list[str]) -> int:
    """Run both; return 0 where all tests passed."""
    signal.signal(signal.SIGINT, lambda number, frame: None)  # Ctrl-C reaches both as well: they end, and are heard
    ends: list[int] = []
    beside = threading.Thread(target=run_beside, args=(options, ends))
    beside.start()
    ends.append(subprocess.run(pytest_command("ray and not walk", options), check=False).returncode)
    beside.join()
    failed = [end for end in ends if end not in (0, NOTHING_CHOSEN)]
    return failed[0] if failed else min(ends)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

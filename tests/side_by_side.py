"""Run the tests that start Ray and those that do not side by side, and fail where either fails.

python tests/side_by_side.py [pytest's options]

Ray's tests mostly wait for processes to start, the others compute on one core. The others run with the lowest priority
and tell what they found when they end, so they do not slow down Ray's, which take longer. Only one of the two has Ray:
several clusters at once are more than two cores can carry.
"""

import signal
import subprocess
import sys
import threading

POLITE = ["nice", "-n", "19"]


def pytest_command(marks: str, options: list[str]) -> list[str]:
    """Return the command that runs the tests with these marks, with a cache of its own."""
    cache = f"cache_dir=.pytest_cache/{marks.replace(' ', '-')}"
    return [sys.executable, "-m", "pytest", "-m", marks, "-o", cache, *options]


def tell(beside: subprocess.Popen[str]) -> None:
    """Print what the tests without Ray say, in one piece."""
    said, _ = beside.communicate()
    print(f"\n\n==== without Ray ====\n{said}\n==== with Ray, going on ====", flush=True)


def main(options: list[str]) -> int:
    """Run both; return 0 where all tests passed."""
    signal.signal(signal.SIGINT, lambda number, frame: None)  # Ctrl-C reaches both as well: they end, and are heard
    command = [*POLITE, *pytest_command("not ray", options)]
    beside = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    telling = threading.Thread(target=tell, args=(beside,))
    telling.start()
    with_ray = subprocess.Popen(pytest_command("ray", options)).wait()
    telling.join()
    return with_ray or beside.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

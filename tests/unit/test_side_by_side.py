"""The runner of `make test`: no test twice, none left out, and no failure unheard."""

import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]


@pytest.fixture
def suite(tmp_path, monkeypatch):
    """Return a function that writes a suite of three tests, two of them with marks, and runs it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    ray: starts Ray\n    walk: a whole job\n")

    def run(of_ray, other, walk, *options):
        (tmp_path / "test_it.py").write_text(
            f"import pytest\n@pytest.mark.ray\ndef test_of_ray():\n    {of_ray}\ndef test_other():\n    {other}\n"
            f"@pytest.mark.ray\n@pytest.mark.walk\ndef test_walk():\n    {walk}\n"
        )
        command = [sys.executable, str(TESTS / "side_by_side.py"), "-v", *options]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return run


def test_lanes__pass_and_run_every_test_once(suite):
    found = suite("pass", "pass", "pass")
    assert found.returncode == 0, found.stdout
    for name in ("test_of_ray", "test_other", "test_walk"):
        assert found.stdout.count(f"test_it.py::{name} PASSED") == 1


@pytest.mark.parametrize(
    "tests", [("assert 0", "pass", "pass"), ("pass", "assert 0", "pass"), ("pass", "pass", "assert 0")]
)
def test_lane__that_fails_is_told(suite, tests):
    found = suite(*tests)
    assert found.returncode == 1
    assert "1 failed" in found.stdout


def test_interrupted_lane__starts_nothing_more(suite):
    found = suite("pass", "raise KeyboardInterrupt", "pass")
    assert found.returncode == 2
    assert "test_walk PASSED" not in found.stdout


def test_nothing_to_run__is_no_success(suite):
    found = suite("pass", "pass", "pass", "-k", "nothing")
    assert found.returncode == 5

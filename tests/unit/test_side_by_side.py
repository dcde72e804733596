"""The runner of `make test`: no test twice, none left out, and no failure unheard."""

import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]


@pytest.fixture
def suite(tmp_path, monkeypatch):
    """Return a function that writes a suite of two tests, one with the mark, and runs it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = ray: starts Ray\n")

    def run(of_ray, other):
        (tmp_path / "test_it.py").write_text(
            f"import pytest\n@pytest.mark.ray\ndef test_of_ray():\n    {of_ray}\ndef test_other():\n    {other}\n"
        )
        command = [sys.executable, str(TESTS / "side_by_side.py"), "-v"]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return run


def test_both__pass(suite):
    found = suite("pass", "pass")
    assert found.returncode == 0, found.stdout
    assert found.stdout.count("test_it.py::test_of_ray PASSED") == 1
    assert found.stdout.count("test_it.py::test_other PASSED") == 1


@pytest.mark.parametrize(("of_ray", "other"), [("assert 0", "pass"), ("pass", "assert 0")])
def test_either__that_fails_is_told(suite, of_ray, other):
    found = suite(of_ray, other)
    assert found.returncode == 1
    assert "1 failed" in found.stdout

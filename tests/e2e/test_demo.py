"""The demo as a newcomer runs it: interrupted, started again, and started once more when all is done."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from boldstream.artifacts.embeddings import open_table

ROOT = Path(__file__).parents[2]


def start_demo(folder: Path) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    return subprocess.Popen(
        [sys.executable, str(ROOT / "jobs" / "demo.py")],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def interrupt_at(demo: subprocess.Popen[str], mark: str) -> str:
    """Read until a line holds the mark, then press Ctrl-C; returns the rest of what the demo says."""
    assert demo.stdout is not None
    for line in demo.stdout:
        if mark in line:
            demo.send_signal(signal.SIGINT)
            break
    return demo.communicate(timeout=120)[0]


@pytest.mark.ray
@pytest.mark.walk
@pytest.mark.timeout(1500)
def test_demo__interrupted_then_again_then_once_more(tmp_path: Path) -> None:
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    first = start_demo(tmp_path)
    said = interrupt_at(first, "pretrain: step")
    assert first.returncode == 130, said
    assert "the same command again goes on" in said
    assert not (tmp_path / "boldstream-demo" / "report").exists()

    second = start_demo(tmp_path)
    said = second.communicate(timeout=900)[0]
    assert second.returncode == 0, said
    assert "nothing is new; cohort demo@1 stands" in said
    numbers = json.loads((tmp_path / "boldstream-demo" / "report" / "numbers.json").read_text())
    assert numbers["headline"] in said
    assert (tmp_path / "boldstream-demo" / "report" / "index.html").stat().st_size > 100_000
    warehouse = str(tmp_path / "boldstream-demo" / "warehouse")
    trained, untrained = (open_table(name, warehouse) for name in ("demo-trained", "demo-untrained"))
    assert trained.vectors().shape == untrained.vectors().shape == (14, 64)
    assert abs(trained.vectors() - untrained.vectors()).max() > 0.01
    adjusted = open_table("demo-adjusted", warehouse)
    assert adjusted.manifest.content["table"] == trained.ref.uri
    assert adjusted.manifest.content["pending"] == ["residualize: age, sex, site, mean_fd"]
    assert set(numbers["representations"]) == {"trained", "untrained", "adjusted", "functional_connectivity"}

    third = start_demo(tmp_path)
    said = third.communicate(timeout=400)[0]
    assert third.returncode == 0, said
    assert "pretrain: models:/brainjepa-demo/1 was made by the same run" in said
    assert open_table("demo-trained", warehouse).ref == trained.ref

"""What Ray's workers import: each pays for it, in every process that starts, so it is no more than their task needs."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("modules", "unneeded"),
    [
        ("boldstream.pretrain.windows, boldstream.embed.embedder, boldstream.embed.write", ["scipy", "torch"]),
        ("boldstream.ingest.shard", ["scipy.signal", "torch", "sklearn"]),
        ("boldstream.pretrain.worker", ["scipy.signal", "scipy.stats", "sklearn", "matplotlib"]),
    ],
)
def test_worker__imports_no_more_than_it_needs(modules, unneeded):
    code = f"import sys, {modules}; print([name for name in {unneeded} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"

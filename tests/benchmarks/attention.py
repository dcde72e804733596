"""Fused attention (SDPA, what the encoder calls) against explicit attention: time and peak memory.

    python tests/benchmarks/attention.py [--quick]

Heads of ViT-S (6 x 64) and ViT-B (12 x 64), batch 1. `forward` is what embedding and the target encoder do with all
4500 tokens of a window (450 regions x 10 patches; 1200 with --quick); `train` is forward and backward over a
context's 1200 tokens. Explicit attention holds the N x N scores of every head, as the reference's `normal` attention
does. float32 on the CPU, and bfloat16 on the GPU where there is one. Both must agree before they are timed.
"""

import argparse
import ctypes
import json
import os
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

HEADS = {"ViT-S": 6, "ViT-B": 12}
HEAD_SIZE, N_WINDOW, N_QUICK, N_CONTEXT = 64, 4500, 1200, 1200


def explicit(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attend by way of the whole matrix of scores."""
    scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
    return scores.softmax(dim=-1) @ v


WAYS = {"sdpa": F.scaled_dot_product_attention, "explicit": explicit}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer tokens and repeats")
    quick = parser.parse_args().quick
    n_window, repeats = (N_QUICK, 3) if quick else (N_WINDOW, 5)
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, medians of {repeats}")
    print("  device size   pass     tokens      sdpa  explicit  faster       sdpa   explicit  smaller")
    found: dict[tuple[str, str, str], tuple[float, float]] = {}
    for device in devices:
        for size, heads in HEADS.items():
            for what, n_tokens in (("forward", n_window), ("train", N_CONTEXT)):
                time_s, memory = compare(device, heads, n_tokens, train=what == "train", repeats=repeats)
                found[device, size, what] = time_s["sdpa"], time_s["explicit"]
                print(
                    f"  {device:6s} {size}  {what:8s} {n_tokens:6d}"
                    f"  {1e3 * time_s['sdpa']:6.1f} ms {1e3 * time_s['explicit']:6.1f} ms"
                    f"  {time_s['explicit'] / time_s['sdpa']:5.1f} x"
                    f"  {memory['sdpa']:6.1f} MB  {memory['explicit']:6.1f} MB"
                    f"  {memory['explicit'] / memory['sdpa']:5.1f} x"
                )
    ours, baseline = found[devices[-1], "ViT-B", "forward"]
    print(
        json.dumps(
            {
                "name": f"attention (ViT-B, forward, {n_window} tokens, {devices[-1]}, time)", "ratio": baseline / ours,
                "target": None, "met": None, "ours": 1e3 * ours, "baseline": 1e3 * baseline, "unit": "ms",
            }
        )
    )  # fmt: skip


def compare(
    device: str, heads: int, n_tokens: int, *, train: bool, repeats: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Return both ways' median seconds and their peak memory beyond the inputs in MB."""
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    generator = torch.Generator().manual_seed(0)
    qkv = [
        torch.randn(1, heads, n_tokens, HEAD_SIZE, generator=generator).to(device, dtype).requires_grad_(train)
        for _ in range(3)
    ]
    with torch.no_grad():
        torch.testing.assert_close(
            WAYS["sdpa"](*qkv), explicit(*qkv), rtol=2e-2, atol=1e-5 if device == "cpu" else 1e-2
        )

    def run(way: str) -> None:
        mixed = WAYS[way](*qkv)
        if train:
            torch.autograd.grad(mixed.sum(), qkv)
        if device == "cuda":
            torch.cuda.synchronize()

    times: dict[str, list[float]] = {way: [] for way in WAYS}
    memory = {}
    for way in WAYS:
        memory[way] = peak_memory(device, lambda way=way: run(way))
    for _ in range(repeats):
        for way, seconds in times.items():
            started = time.perf_counter()
            run(way)
            seconds.append(time.perf_counter() - started)
    return {way: statistics.median(seconds) for way, seconds in times.items()}, memory


def peak_memory(device: str, work: Callable[[], None]) -> float:
    """Return the MB that the work takes at its peak, at least 0.1 (on the CPU resident memory, sampled)."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        start = torch.cuda.memory_allocated()
        work()
        return max((torch.cuda.max_memory_allocated() - start) / 1e6, 0.1)

    def resident() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    work()  # what is taken once and kept (threads, kernels) is not the work's
    ctypes.CDLL(None).malloc_trim(0)  # what glibc holds free would be taken again unseen
    start = peak = resident()
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.0005):
            peak = max(peak, resident())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        work()
    finally:
        done.set()
        thread.join()
    return max(peak - start, 0.1)


if __name__ == "__main__":
    main()

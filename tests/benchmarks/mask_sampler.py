"""Masks of a batch, vectorised, against a plain loop over the scans with the reference's semantics.

    python tests/benchmarks/mask_sampler.py [--quick]

450 regions x 10 patches, batch 16, one thread. The loop is written from the facts that are published of the
reference's sampler (blocks as Python sets of tokens, torch's random numbers, lists cut to the shortest); it is our
code, and much faster than the original, which was measured at 0.28 s a batch on one core of a quiet machine. Blocks
of batches in a row are timed in turns.
"""

import argparse
import json
import statistics
import time

import torch

from boldstream.encoders.brainjepa.masks import sample_masks
from boldstream.encoders.brainjepa.specs import MaskSpec

N_ROIS, N_PATCHES, BATCH, BLOCK, TARGET = 450, 10, 16, 10, 25.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer repeats")
    repeats = 30 if parser.parse_args().quick else 150
    torch.set_num_threads(1)
    generator, keys = torch.Generator().manual_seed(0), torch.Generator().manual_seed(1)
    specs = {policy: MaskSpec(policy=policy) for policy in ("paper", "reference")}

    def ours(policy: str, step: int) -> None:
        drawn = torch.randint(-(2**63), 2**63 - 1, (BATCH,), generator=keys)
        sample_masks(N_ROIS, N_PATCHES, drawn, specs[policy], seed=0, step=step)

    ways = {
        "loop": lambda step: loop(BATCH, generator),
        "paper": lambda step: ours("paper", step),
        "reference": lambda step: ours("reference", step),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(-1, repeats):
        for name, way in ways.items():
            started = time.perf_counter()
            for i in range(BLOCK):
                way((repeat + 1) * BLOCK + i)
            if repeat >= 0:
                times[name].append(1000 * (time.perf_counter() - started) / BLOCK)
    median = {name: statistics.median(values) for name, values in times.items()}
    print(f"{N_ROIS} x {N_PATCHES}, batch {BATCH}, one thread, median of {repeats} blocks of {BLOCK} batches")
    for name, text in (("loop", "loop over the scans"), ("paper", "policy paper"), ("reference", "policy reference")):
        low, _, high = statistics.quantiles(times[name], n=4)
        ratio = median["loop"] / median[name]
        print(f"  {text:20s} {median[name]:8.2f} ms   quartiles {low:.2f} to {high:.2f}   {ratio:.1f} times as fast")
    print("  tokens a window, mean of 600 steps: context, targets, of these Cross-ROI and the other two kinds")
    for policy, batch in (("paper", BATCH), ("reference", 1), ("reference", BATCH)):
        context, target, cross_roi = tokens(specs[policy], batch)
        print(
            f"  {policy:9s} batch {batch:2d}   {context:6.0f} {target:6.0f} {cross_roi:6.0f} {target - cross_roi:6.0f}"
        )
    ratio = median["loop"] / median["paper"]
    print(
        json.dumps(
            {
                "name": "mask_sampler (policy paper)", "ratio": ratio, "target": TARGET, "met": ratio >= TARGET,
                "ours": median["paper"], "baseline": median["loop"], "unit": "ms/batch",
            }
        )
    )  # fmt: skip


def tokens(spec: MaskSpec, batch: int) -> list[float]:
    """Return mean context, target and Cross-ROI tokens of a window."""
    generator, rows = torch.Generator().manual_seed(2), []
    for step in range(600):
        keys = torch.randint(-(2**63), 2**63 - 1, (batch,), generator=generator)
        found = sample_masks(N_ROIS, N_PATCHES, keys, spec, seed=0, step=step).metrics()
        rows.append(
            (found["context_tokens"], found["target_tokens"], found["target_tokens"] * found["cross_roi_share"])
        )
    return [statistics.fmean(column) for column in zip(*rows, strict=True)]


def loop(batch: int, sizes: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw masks scan by scan: sizes from `sizes`, places from torch's global state."""

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * torch.rand((), generator=sizes).item()

    n_hidden, n_run = int(N_ROIS * uniform(0.45, 0.6)), int(N_PATCHES * uniform(0.2, 0.6))
    n_observed, n_window = int(N_ROIS * uniform(0.84, 1.0)), int(N_PATCHES * uniform(0.84, 1.0))
    contexts, targets = [], []
    for _ in range(batch):
        observed = torch.randperm(N_ROIS)[:n_observed].tolist()
        seen = set(observed)
        start = int(torch.randint(0, N_PATCHES - n_window, ()))
        observation = {roi * N_PATCHES + patch for roi in observed for patch in range(start, start + n_window)}
        hidden = set(torch.randperm(N_ROIS)[:n_hidden].tolist())
        run = start + int(torch.randint(0, n_window - n_run, ()))
        target = sorted(roi * N_PATCHES + patch for roi in hidden for patch in range(run, run + n_run))
        observation = {token for token in observation if token // N_PATCHES not in hidden}
        group = [roi for roi in range(N_ROIS) if roi in hidden and roi in seen]
        others = sorted(set(range(N_ROIS)) - set(group))
        for side in ((7, 8, 9), (0, 1, 2)):
            scale, count = uniform(0.15, 0.3), int(N_PATCHES * uniform(0.0, 0.4))
            rois = [
                stratum[i]
                for stratum in (group, others)
                for i in torch.randperm(len(stratum))[: int(scale * len(stratum))].tolist()
            ]
            columns = [side[i] for i in torch.randperm(3)[:count].tolist()]
            target += sorted(roi * N_PATCHES + patch for roi in rois for patch in columns)
            observation = {token for token in observation if token % N_PATCHES not in columns}
        contexts.append(sorted(observation))
        targets.append(target)
    n_context, n_target = min(map(len, contexts)), min(map(len, targets))
    return torch.tensor([c[:n_context] for c in contexts]), torch.tensor([t[:n_target] for t in targets])


if __name__ == "__main__":
    main()

"""A null distribution of nested ridge probes: permuted targets as columns of one fit, against a refit each.

    python tests/benchmarks/permutations.py [--quick]

10,000 subjects x 768 dimensions, 5 outer and 5 inner folds, 20 penalties, 1,000 permutations within sites that
exchange families as wholes. The refits are ours too, each as fast as tests/benchmarks/ridge_sweep.py has it: a few are
measured, compared with the columns' scores, and scaled up to all; so is --quick, which has 2,000 subjects x 256 and
200 permutations.
"""

import argparse
import json
import time

import numpy as np
import pandas as pd
from sklearn.preprocessing import StandardScaler

from boldstream.analysis.folds import nested_folds
from boldstream.analysis.heads.ridge import RidgeHead
from boldstream.analysis.nested import METRICS, predict_nested
from boldstream.analysis.null_scores import permutation_null, permutation_test
from boldstream.analysis.permutations import exchange, permuted_targets

HEAD = RidgeHead(tuple(np.logspace(-2, 4, 20).tolist()))
AIM, AGREE, N_REFITS = 10.0, 1e-6, 3
R2 = METRICS["continuous"]["r2"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2,000 subjects x 256, 200 permutations")
    n, d, n_permutations = (2_000, 256, 200) if parser.parse_args().quick else (10_000, 768, 1_000)
    rng = np.random.default_rng(0)
    scans = pd.DataFrame(
        {
            "scan": np.arange(n),
            "subject": np.arange(n),
            "family": np.arange(n) // 2,
            "site": rng.integers(0, 10, n // 2)[np.arange(n) // 2],
        }
    )
    x = rng.normal(size=(n, d))
    y = x @ rng.normal(size=d) / np.sqrt(d) * 0.5 + rng.normal(size=n)
    folds = nested_folds(scans, y)

    started = time.perf_counter()
    drawn = permuted_targets(
        y, exchange(scans["subject"], n_permutations, families=scans["family"], blocks=scans["site"])
    )
    drawing = time.perf_counter() - started
    started = time.perf_counter()
    null = permutation_null(x, drawn, folds, HEAD, kind="continuous", front=StandardScaler())
    ours = time.perf_counter() - started
    refitted, each = [], []
    for column in drawn.T[:N_REFITS]:
        started = time.perf_counter()
        found = predict_nested(x, column, folds, HEAD, kind="continuous", front=StandardScaler())
        refitted.append(R2(*found.arrays))
        each.append(time.perf_counter() - started)
    baseline = float(np.median(each)) * n_permutations
    away = float(np.abs(null[:N_REFITS] - refitted).max())
    found = predict_nested(x, y, folds, HEAD, kind="continuous", front=StandardScaler())
    print(f"{n:,} subjects x {d}, 5 x 5 nested folds, 20 penalties, {n_permutations:,} permutations")
    print(f"  as columns   {ours:9.2f} s   (drawing them {drawing:.2f} s)")
    print(f"  refitted     {baseline:9.2f} s   {N_REFITS} measured ({np.median(each):.2f} s each), scaled up")
    p = permutation_test(found, null, "continuous")
    print(f"  R² of permuted targets {null.mean():.4f} on average, 95 % are below {np.quantile(null, 0.95):.4f}")
    print(f"  R² of the target {R2(*found.arrays):.4f}, p {p:.4g}; scores of columns and refits agree to {away:.1e}")
    ratio = baseline / ours
    print(
        json.dumps(
            {
                "name": "permutations", "ratio": ratio, "target": f">= {AIM:g}, scores to {AGREE:g}",
                "met": bool(ratio >= AIM and away <= AGREE), "ours": ours, "baseline": baseline, "unit": "s",
            }
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()

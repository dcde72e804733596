"""What pretraining has taught: a trained table against an untrained one and functional connectivity, same scans.

    python tests/science/compare_tables.py --warehouse W --cohort abide --trained NAME --untrained NAME [--quick]

Both tables are of the cohort, embedded with `parts: 2`. One scan a subject is taken, among those with both halves in
both tables. For every representation: age (years) by ridge, R2 and Pearson's r, both against the training folds'
mean; sex by logistic regression, area under the ROC curve inside folds; both from the mean of the halves' vectors,
each site predicted by what the others taught, as the probe room does it. Split-half identification: each half's vectors
without their mean over subjects, correlation, both directions. Intervals are 95 %, BCa bootstrap over subjects;
differences are paired. Connectivity is Fisher's z of Pearson's correlations, over the halves that were embedded; it is
read file by file.

It needs a warehouse, so it is neither a test nor one of tests/benchmarks. The last line is one JSON object.
"""

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler

from boldstream.analysis.folds import leave_site_out
from boldstream.analysis.heads.catalog import HeadName, make_head
from boldstream.analysis.intervals import Estimate, bootstrap_ci, paired_difference_ci
from boldstream.analysis.nested import METRICS, TargetKind, predict_nested
from boldstream.analysis.quality import found_again
from boldstream.artifacts.cohort import open_cohort
from boldstream.artifacts.embeddings import open_table
from boldstream.report.material import Selection, check_tables, read_connectivity, read_vectors, select_scans

PROBES: tuple[tuple[str, TargetKind, HeadName, dict[str, str]], ...] = (
    ("age", "continuous", "ridge", {"age R2": "r2", "age r": "r"}),
    ("sex", "binary", "logistic", {"sex AUC": "auroc"}),
)
"""Target, kind, head, and the metrics by what they are called here."""
TRAINED, UNTRAINED, FC = "trained", "untrained", "FC"
N_RESAMPLES, QUICK_RESAMPLES, QUICK_SCANS = 2000, 300, 150


@dataclass(frozen=True)
class Measure:
    """One number of every representation, and the trained one's advantage over the others (by the other's name)."""

    name: str
    n_subjects: int
    estimates: dict[str, Estimate]
    advantages: dict[str, Estimate]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("warehouse", "cohort", TRAINED, UNTRAINED):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_SCANS} subjects, {QUICK_RESAMPLES} resamples")
    args = parser.parse_args()
    print_measures(compare_tables(args.warehouse, args.cohort, args.trained, args.untrained, quick=args.quick))


def compare_tables(warehouse: str, cohort_name: str, trained: str, untrained: str, *, quick: bool) -> list[Measure]:
    """Read the tables and the cohort, say what is compared, and measure."""
    cohort = open_cohort(cohort_name, warehouse)
    tables = {TRAINED: open_table(trained, warehouse), UNTRAINED: open_table(untrained, warehouse)}
    if (parts := check_tables(tables, cohort)) != 2:
        raise SystemExit(f"the tables' scans are in {parts} part(s); embed them with parts: 2")
    keys = {key for _, found in cohort.keys_by_file() for key in found}
    rows = {name: table.rows() for name, table in tables.items()}
    selection = select_scans(rows, keys, n_parts=2, max_scans=QUICK_SCANS if quick else len(keys), seed=0)
    print_selection(selection, len(keys), {FC: cohort.label} | {name: table.label for name, table in tables.items()})
    models = {name: read_vectors(table, selection) for name, table in tables.items()}
    models[FC] = read_connectivity(cohort, selection).vectors
    return compare(models, selection.rows, n=QUICK_RESAMPLES if quick else N_RESAMPLES)


def compare(models: Mapping[str, NDArray], people: pd.DataFrame, *, n: int, seed: int = 0) -> list[Measure]:
    """Measure every representation.

    Parameters
    ----------
    models : mapping of str to array, shape (2, n_subjects, n_dims)
        Vectors of both halves; one is called ``trained``.
    people : DataFrame, n_subjects rows
        ``age``, ``sex`` and ``site``; subjects without one are left out of its probe, those without site of both.
    n, seed : int
        Resamples of the bootstraps; seed of folds and resamples.
    """
    measures = []
    for target, kind, head, asked in PROBES:
        known = (people[target].notna() & people["site"].notna()).to_numpy()
        y, rows = people.loc[known, target].to_numpy(), np.flatnonzero(known)
        folds = leave_site_out(pd.DataFrame({"scan": rows, "subject": rows, "site": people["site"][known]}), seed=seed)
        arrays = {}
        for name, halves in models.items():
            x = halves.mean(axis=0, dtype=np.float64)[known]
            found = predict_nested(x, y, folds, make_head(head, kind), kind=kind, front=StandardScaler())
            arrays[name] = found.arrays
        measures += [_measure(title, METRICS[kind][metric], arrays, n, seed) for title, metric in asked.items()]
    found = {name: (identified(halves),) for name, halves in models.items()}
    return [*measures, _measure("identification", lambda share: float(share.mean()), found, n, seed)]


def identified(halves: NDArray) -> NDArray[np.float64]:
    """Return by subject the share of the two directions that find the other half; 0 for all if a vector is the mean.

    Parameters
    ----------
    halves : array, shape (2, n_subjects, n_dims)
    """
    centred = halves - halves.mean(axis=1, keepdims=True, dtype=np.float64)
    if (np.ptp(centred, axis=2) == 0).any():
        return np.zeros(halves.shape[1])
    return found_again(centred[0], centred[1], "correlation").mean(axis=1)


def _measure(
    name: str, statistic: Callable[..., float], arrays: dict[str, tuple[NDArray, ...]], n: int, seed: int
) -> Measure:
    how = {"n": n, "seed": seed, "method": "bca"}
    estimates = {model: bootstrap_ci(statistic, *values, **how) for model, values in arrays.items()}
    advantages = {
        model: paired_difference_ci(statistic, arrays[TRAINED], values, **how)
        for model, values in arrays.items()
        if model != TRAINED
    }
    return Measure(name, len(arrays[TRAINED][0]), estimates, advantages)


def print_selection(selection: Selection, n_scans: int, labels: Mapping[str, str]) -> None:
    """Say what is compared, and what is left out."""
    print(", ".join(f"{name}: {label}" for name, label in labels.items()))
    print(
        f"{len(selection.scans)} scans of {n_scans} in the cohort: one each of {len(selection.scans)} of the "
        f"{selection.n_subjects} subjects with both halves in both tables ({selection.n_further_scans} further scans "
        "of theirs)"
    )
    for name, count in selection.n_left_out.items():
        print(f"  {name}: {count} scans of the table lack a half, or are not in the other table or the cohort")


def print_measures(measures: list[Measure]) -> None:
    """Print every number with its interval, every difference with whether it excludes 0, and the JSON line."""
    for measure in measures:
        print(f"{measure.name} ({measure.n_subjects} subjects)")
        for model, estimate in measure.estimates.items():
            print(f"  {model:20s} {_text(estimate)}")
        for model, estimate in measure.advantages.items():
            verdict = "excludes 0" if estimate.excludes_zero else "includes 0"
            print(f"  {f'{TRAINED} - {model}':20s} {_text(estimate, '+')}  {verdict}")
    ours, baseline = (measures[0].estimates[name].value for name in (TRAINED, UNTRAINED))
    print(
        json.dumps(
            {
                "name": f"compare_tables ({measures[0].name}, trained against untrained)",
                "ratio": ours / baseline if baseline > 0 else None,
                "target": "trained - untrained above 0 in every measure",
                "met": all(measure.advantages[UNTRAINED].low > 0 for measure in measures),
                "ours": ours, "baseline": baseline, "unit": measures[0].name,
                "estimates": {measure.name: measure.estimates for measure in measures},
                "advantages": {measure.name: measure.advantages for measure in measures},
            }
        )
    )  # fmt: skip


def _text(estimate: Estimate, sign: str = "") -> str:
    return f"{estimate.value:{sign}.3f}  [{estimate.low:{sign}.3f}, {estimate.high:{sign}.3f}]"


if __name__ == "__main__":
    main()

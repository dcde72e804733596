"""What linear probes recover of what is planted in made-up people, from connectivity and from dynamics.

    python tests/science/planted_ceiling.py [--subjects 2000] [--rois 200] [--connectivity fc.npy] [--picture out.png]

Prints R2 (AUC of sex and diagnosis, balanced accuracy of sites) out of fold, 95 % intervals over subjects, for three
sets of features of a scan: connectivity (all pairs, Pearson), every region's autocorrelation at lag 1, and the
antisymmetric part of the lag-1 correlations between the 20 strongest modes of the group.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.preprocessing import StandardScaler

from boldstream.analysis.folds import nested_folds
from boldstream.analysis.heads.catalog import make_head
from boldstream.analysis.intervals import bootstrap_ci
from boldstream.analysis.nested import METRICS, predict_nested
from boldstream.parcellation.gradients import functional_connectivity
from boldstream.synthesis import SyntheticSpec, draw_person, draw_scan, make_brain, scan_mean_fd
from boldstream.synthesis.connectivity import model_connectivity, read_connectivity
from boldstream.synthesis.people import TRAITS

N_DIRECTED = 20
T_R = 2.0
FEATURES = {
    "connectivity": "functional connectivity",
    "autocorrelation": "lag-1 autocorrelation",
    "directed": "antisymmetric lag-1",
}
TARGETS = ("age", "sex", "diagnosis", "log_fd", *TRAITS)
CLASSES = ("sex", "diagnosis")
_ARE_AUC = np.isin(TARGETS, CLASSES)


@dataclass
class MadeUp:
    """Features of the first session by name, (n_subjects, d); targets by name; connectivity of the second session."""

    features: dict[str, np.ndarray]
    targets: dict[str, np.ndarray]
    again: np.ndarray


def make_up(spec, connectivity, n_again=0):
    """Draw a study; families are left out, so that every subject may be a fold's."""
    spec = spec.model_copy(update={"family_size": 1})
    brain = make_brain(connectivity, spec)
    upper = np.triu_indices(brain.n_rois, 1)
    # the strongest modes of the mean connectivity, which anybody could estimate from the scans themselves
    axes = np.linalg.pinv(brain.modes[:, :N_DIRECTED]).T
    odd = np.triu_indices(axes.shape[1], 1)
    features = {name: [] for name in FEATURES}
    people = [draw_person(number, spec, brain.n_modes) for number in range(1, spec.n_subjects + 1)]
    for person in people:
        values = draw_scan(person, 1, brain, spec, T_R).astype(np.float64)
        features["connectivity"].append(functional_connectivity(values)[upper].astype(np.float32))
        features["autocorrelation"].append(_lag_1(values).diagonal())
        lag = _lag_1(values @ axes)
        features["directed"].append((lag - lag.T)[odd])
    again = [functional_connectivity(draw_scan(person, 2, brain, spec, T_R))[upper] for person in people[:n_again]]
    targets = {
        "age": [person.age for person in people],
        "sex": [person.sex for person in people],
        "diagnosis": [person.diagnosis for person in people],
        "log_fd": [np.log(scan_mean_fd(person, 1, spec)) for person in people],
        "site": [person.site for person in people],
        **{name: [person.traits[name] for person in people] for name in TRAITS},
    }
    return MadeUp(
        {name: np.array(found) for name, found in features.items()},
        {name: np.array(found) for name, found in targets.items()},
        np.array(again),
    )


def _lag_1(values):
    """Correlate every column with every column one timepoint before."""
    scored = (values - values.mean(axis=0)) / values.std(axis=0)
    return scored[1:].T @ scored[:-1] / len(scored)


def predict(study, features, y, kind):
    """Predict a target out of fold, every subject by what others taught."""
    rows = np.arange(len(y))
    folds = nested_folds(pd.DataFrame({"scan": rows, "subject": rows}), y)
    head = make_head("logistic" if kind == "binary" else "ridge", kind)
    return predict_nested(study.features[features], y, folds, head, kind=kind, front=StandardScaler())


def recovered(study, features, target, n=1000):
    """Return R2 (or AUC) of a target with its interval."""
    kind = "binary" if target in CLASSES else "continuous"
    found = predict(study, features, study.targets[target], kind)
    return bootstrap_ci(next(iter(METRICS[kind].values())), *found.arrays, n=n)


def site_accuracy(study, features):
    """Return the balanced accuracy of sites: of one ridge probe a site, the highest wins."""
    sites = study.targets["site"]
    names = np.unique(sites)
    votes = [predict(study, features, (sites == site).astype(float), "continuous").predicted[:, 0] for site in names]
    guess = names[np.argmax(votes, axis=0)]
    return float(np.mean([(guess[sites == site] == site).mean() for site in names]))


def identified(study):
    """Return the share of subjects whose second scan is most like their own first one, in connectivity."""
    first, second = study.features["connectivity"][: len(study.again)], study.again
    centre = first.mean(axis=0)
    first, second = ((x - centre) / np.linalg.norm(x - centre, axis=1, keepdims=True) for x in (first, second))
    return float(((second @ first.T).argmax(axis=1) == np.arange(len(first))).mean())


def draw_picture(table, path):
    """Draw what is recovered as bars with their intervals, a group of bars a target."""
    import matplotlib
    from matplotlib.figure import Figure

    from boldstream.drawing import COLOURS, DPI, OPEN_AXES, STYLE

    with matplotlib.rc_context(STYLE | OPEN_AXES):
        figure = Figure(figsize=(8.4, 3.1), layout="constrained")
        axis = figure.subplots()
        for i, (features, title) in enumerate(FEATURES.items()):
            # an AUC of 0.5 is chance, as an R2 of 0 is
            found = np.array([table[features, target] for target in TARGETS])
            found[_ARE_AUC] = 2 * found[_ARE_AUC] - 1
            value, low, high = found.T
            at = np.arange(len(TARGETS)) + 0.27 * (i - 1)
            axis.bar(at, value, width=0.25, color=COLOURS[i], label=title)
            axis.vlines(at, low, high, color="black", linewidth=0.8)
        axis.axhline(0, color="black", linewidth=0.6)
        labels = [target.replace("_", "\n", 1) for target in TARGETS]
        axis.set_xticks(np.arange(len(TARGETS)), labels)
        axis.set_ylabel("R2 (of two classes: 2 AUC - 1)")
        axis.set_ylim(-0.1, 1)
        axis.legend(loc="upper center", ncols=3)
        figure.savefig(path, dpi=DPI, facecolor="white", metadata={"Software": None})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", type=int, default=2000)
    parser.add_argument("--rois", type=int, default=200)
    parser.add_argument("--connectivity")
    parser.add_argument("--picture")
    arguments = parser.parse_args()
    names = [f"R{i}" for i in range(arguments.rois)]
    connectivity = model_connectivity(names)
    if arguments.connectivity:
        connectivity = read_connectivity(Path(arguments.connectivity).read_bytes(), arguments.connectivity)
    n_again = min(200, arguments.subjects)
    study = make_up(SyntheticSpec(n_subjects=arguments.subjects), connectivity, n_again)
    table = {}
    print(f"{arguments.subjects} subjects, {len(connectivity)} regions, 160 timepoints at {T_R} s")
    print("| | " + " | ".join(FEATURES.values()) + " |\n|---|" + "---|" * len(FEATURES))
    for target in TARGETS:
        for features in FEATURES:
            table[features, target] = recovered(study, features, target)
        cells = [f"{e.value:.3f} [{e.low:.3f}, {e.high:.3f}]" for e in (table[f, target] for f in FEATURES)]
        print(f"| {target} | " + " | ".join(cells) + " |", flush=True)
    print("| site | " + " | ".join(f"{site_accuracy(study, features):.3f}" for features in FEATURES) + " |")
    print(f"fingerprint: {identified(study):.3f} of {n_again} identified by another session")
    if arguments.picture:
        draw_picture(table, arguments.picture)


if __name__ == "__main__":
    main()

"""What was done, for manifests and reports: where everything was fitted, and what a reader has to know of the scans."""

from collections.abc import Iterable, Sequence
from typing import Any

from boldstream.analysis.steps import Step
from boldstream.probe.config import ProbeConfig
from boldstream.probe.material import Material
from boldstream.probe.spec import TrialSpec
from boldstream.probe.targets import Target

POOLED = "attention: regions pooled by a query trained for the target itself"


def describe_methods(
    config: ProbeConfig, material: Material, specs: Sequence[TrialSpec], steps: Sequence[Step]
) -> dict[str, Any]:
    """Return what was fitted where, in sentences by topic."""
    within = "within sites where everybody has one"
    by_family = ", families as wholes" if config.folds.family else ""
    permuted = f"{config.permutations} permutations of subjects {within}{by_family}"
    return {
        "folds": f"{config.folds.scheme}; heads choose in {config.folds.n_inner} inner folds of each training fold",
        "fronts": {f"{one.target}/{one.representation}/{one.head}": one.front for one in specs},
        "adjust": [POOLED if step.step == "attention" else step.describe() for step in steps],
        "fitted": "scaling, adjustment, features that are fitted, and heads: in every training fold, and nowhere else",
        "rows": "one vector a scan: parts of a scan are averaged, all scans of a subject are in one fold",
        "intervals": f"BCa, {config.bootstrap} resamples of subjects with all their scans (Efron 1987)",
        "comparisons": f"paired bootstrap of the same subjects, first head of each{_delong(specs)}",
        "p": permuted if config.permutations else "not tested",
        "p_adjusted": "Benjamini-Hochberg over targets, a representation and head at a time",
        "parts": material.parts,
    }


def _delong(specs: Sequence[TrialSpec]) -> str:
    kinds = {spec.kind for spec in specs}
    return f"; DeLong's test for AUROC{' of two classes' * ('multiclass' in kinds)}"


def target_notes(config: ProbeConfig, targets: Iterable[Target]) -> list[str]:
    """Return what a reader has to know of scores of three classes and more, and of targets that belong to sites."""
    notes = []
    for one in targets:
        if config.permutations and one.is_of_sites:
            notes.append(f"{one.name} does not vary within sites, so subjects are permuted across them.")
        if one.kind == "multiclass" and one.classes:
            told = [f"{name} ({share:.0%})" for name, share in zip(one.classes, one.shares, strict=True)]
            notes.append(
                f"{one.name}: AUROC and AUPRC are means over {len(told)} classes ({', '.join(told)}), each against the "
                "rest and counted alike; an AUROC of 0.5 is chance."
            )
    return notes


def notes_of(config: ProbeConfig, material: Material) -> list[str]:
    """Return sentences on the scans and tables."""
    notes = []
    for name, table in material.tables.items():
        if material.left_out[name]:
            notes.append(f"{material.left_out[name]} scans of {name} lack a part, or are not in all tables.")
        if material.parts[name] > 1:
            notes.append(f"{name}: the {material.parts[name]} parts of every scan are averaged.")
        if pooled := table.manifest.content.get("pooling"):
            column = pooled["target"]["column"]
            notes.append(
                f"{name} was pooled before the folds were dealt, by a query trained for {column} in "
                f"{pooled['n_train_subjects']} subjects, so whatever goes with {column} is flattered; name the table "
                "that it was made from, with adjust, to train the query in the folds."
            )
        elif "adjustment" in table.manifest.content:
            notes.append(
                f"{name} was adjusted before the folds were dealt, so its steps know of test scans' vectors (of no "
                "target); name the table that it was made from, with adjust, to fit them in the folds."
            )
    if material.n_sampled_from > len(material.keys):
        notes.append(f"{len(material.keys)} of {material.n_sampled_from} scans were taken, those of random subjects.")
    if config.permutations == 0 and not config.transfer.is_asked:
        notes.append("Nothing was permuted, so there are no p values.")
    return notes

"""The methods paragraph of a report, written from the configurations that the artifacts carry."""

from collections.abc import Mapping, Sequence
from typing import Any

from boldstream.analysis.nuisance import N_FOLDS
from boldstream.artifacts.cohort import Cohort
from boldstream.report.brains import Brains
from boldstream.report.changes import Change
from boldstream.report.confounds import Confounds
from boldstream.report.material import Selection
from boldstream.report.measure import HALVES
from boldstream.report.occlusion import Occlusion
from boldstream.report.probes import Probes, title_of_representation
from boldstream.report.provenance import TableFacts, trained_on
from boldstream.report.sources import CITATIONS, SOURCE_OF_BASELINE, SOURCES, TOPICS

HARMONIZE = "harmonize"
NOT_TESTED = "not tested"
"""What results tell of p values where nothing was permuted."""


def methods_paragraphs(
    cohort: Cohort, data: Mapping[str, Any], facts: Mapping[str, TableFacts], selection: Selection
) -> list[str]:
    """Return the paragraphs on scans and vectors, and on how they are compared."""
    return [
        " ".join([*_cohort_sentences(cohort, data), *_embedding_sentences(facts)]),
        " ".join(
            [
                *_selection_sentences(selection),
                *_measure_sentences(selection),
                *_caution_sentences(cohort, facts, selection),
            ]
        ),
    ]


def pending_steps(facts: Mapping[str, TableFacts]) -> dict[str, list[str]]:
    """Return, by table, the steps of its recipe that nothing has applied to the measured vectors."""
    return {name: table.pending for name, table in facts.items() if table.pending}


def methods_markdown(paragraph: str, pending: Mapping[str, Sequence[str]], references: Sequence[str]) -> str:
    """Return the content of methods.md."""
    lines = ["# Methods", "", paragraph, ""]
    for table, steps in pending.items():
        lines += [f"Not applied to the vectors of table {table}, though its recipe names it: {'; '.join(steps)}.", ""]
    lines += ["## References", "", *(f"- {reference}" for reference in references)]
    return "\n".join(lines) + "\n"


def further_paragraphs(
    probes: Sequence[Probes],
    confounds: Confounds,
    brains: Brains,
    changes: Sequence[Change],
    occlusion: Occlusion | None,
) -> list[str]:
    """Return the paragraphs on probes, and on confounds, brain maps and drift, for those that there are."""
    paragraphs = [" ".join(probe_sentences(one)) for one in probes]
    found = []
    if any(one.found for one in confounds.told):
        found.append(
            f"Site was looked for by a linear discriminant and mean framewise displacement by ridge regression, along "
            f"whitened components, cross-validated over subjects in {N_FOLDS} folds, in the mean of each scan's parts."
        )
    if any(one.found for one in confounds.changes):
        found.append(
            "Before and after an adjustment the same was done in subjects that the adjustment was not learnt "
            "from: each "
            "half of the training subjects was adjusted by what the other half taught."
        )
    if brains.maps:
        found.append(
            "For the brain maps a ridge probe of the table's standardised dimensions was fitted to all subjects "
            "shown; a "
            "vector being the mean of its regions' latents, its prediction is a sum over regions, and a region's share "
            "is the covariance of its term with the prediction by the prediction's variance. A target is only shown if "
            "the probe's score out of fold excludes chance (95 % bootstrap interval over subjects)."
        )
    if any(one.drift is not None for one in changes):
        found.append(
            "Drift is a permutation test over subjects of the largest difference in level or spread over all "
            "dimensions "
            "and the vectors' length (Westfall & Young 1993; Phipson & Smyth 2010)."
        )
    if occlusion is not None:
        found.append(
            f"One window of {occlusion.scan_key} was embedded with each region in turn held at its mean for one patch "
            "(occlusion; Zeiler & Fergus 2014); distances are in median distances between two scans' vectors."
        )
    return [*paragraphs, " ".join(found)] if found else paragraphs


def references_of(
    probes: Sequence[Probes],
    facts: Mapping[str, TableFacts],
    changes: Sequence[Change],
    occlusion: Occlusion | None,
) -> list[str]:
    """Return the sources of what was done, in alphabetical order."""
    keys = {"amico", "dong", "finn", "garrido"}
    for one in probes:
        named = {line.representation for target in one.targets for line in target.lines}
        keys |= {key for name, key in SOURCE_OF_BASELINE.items() if name in named}
        told = {topic for topic, value in _topics_of(one).items() if value != NOT_TESTED}
        keys |= {key for topic in told for key in TOPICS[topic][2]}
    if any(table.adjusted and HARMONIZE in table.adjusted for table in facts.values()):
        keys |= {"johnson", "fortin"}
    in_folds = any("attention:" in _topics_of(one).get("adjust", "") for one in probes)
    if in_folds or any(table.pooling for table in facts.values()):
        keys.add("ilse")
    if any(one.drift is not None for one in changes):
        keys |= {"westfall", "phipson"}
    if occlusion is not None:
        keys.add("zeiler")
    return sorted(SOURCES[key] for key in keys)


def probe_sentences(probes: Probes) -> list[str]:
    """Say what was predicted of whom in which folds; what the results tell of how they were made is taken over."""
    found = []
    for target in probes.targets:
        heads = ", ".join(dict.fromkeys(line.head for line in target.lines if line.head != "mean"))
        missing = f"; {target.n_missing} scans lack it" if target.n_missing else ""
        classes = ""
        if named := probes.classes_of(target):
            classes = f" (classes {', '.join(named)}; AUROC and AUPRC are means over classes, each against the rest)"
        found.append(
            f"Target {target.name}{classes} was predicted in {target.n_scans} scans of {target.n_subjects} subjects "
            f"by {heads} ({target.scheme}{missing})."
        )
    lines = [line for target in probes.targets for line in target.lines]
    baselines = dict.fromkeys(line.representation for line in lines if not line.is_embedding)
    if baselines:
        cited = [title_of_representation(name) + CITATIONS.get(name, "") for name in baselines]
        found.append(f"Baselines from the same scans and folds: {'; '.join(cited)}.")
    for topic, value in _topics_of(probes).items():
        title, citation, _ = TOPICS[topic]
        found.append(f"{title}: {value if value == NOT_TESTED else value + citation}.")
    return found


def _topics_of(probes: Probes) -> dict[str, str]:
    """Return what the results tell of how they were made, by topic, in the order in which the page tells it."""
    told = probes.results.manifest.content.get("methods", {})
    found = {}
    for topic in TOPICS:
        value = told.get(topic) or ""
        if text := "; ".join(value) if isinstance(value, list) else str(value):
            found[topic] = text
    if found.get("p") == NOT_TESTED:
        found.pop("p_adjusted", None)
    return found


def _cohort_sentences(cohort: Cohort, data: Mapping[str, Any]) -> list[str]:
    times = " or ".join(f"{t_r} s" if t_r != "not known" else t_r for t_r in data["t_r_seconds"])
    length = data["n_timepoints"]
    span = f"{length['min']}" if length["min"] == length["max"] else f"{length['min']} to {length['max']}"
    text = (
        f"Cohort {cohort.label} holds {data['scans']} scans of {data['subjects']} subjects, parcellated "
        f"with {cohort.atlas} ({data['n_rois']} regions); scans have {span} timepoints at a repetition time of "
        f"{times}."
    )
    out = sum(data["quarantined"].values())
    return [text, f"{out} scans were set aside when the cohort was read."] if out else [text]


def _embedding_sentences(facts: Mapping[str, TableFacts]) -> list[str]:
    found = []
    recipes = {}
    for table in facts.values():
        recipes[table.strategy["id"]] = table.strategy
        found.append(f"Table {table.name!r} was made with model version {table.model.pointer}, {table.model.training}.")
        if table.adjusted:
            combat = (
                " Harmonising is ComBat (Johnson et al. 2007; Fortin et al. 2018)."
                if HARMONIZE in table.adjusted
                else ""
            )
            found.append(f"Its vectors were adjusted in this order: {table.adjusted}.{combat}")
        if table.pooling:
            found.append(_pooling_sentence(table.pooling))
    for name, recipe in recipes.items():
        window = recipe["window"]
        sampled = f" after resampling to {window['target_t_r']:g} s" if window["target_t_r"] else ""
        short = (
            "a scan or part shorter than one window was mirrored at its end"
            if window["short_scans"] == "pad"
            else "a scan or part shorter than one window was not embedded"
        )
        found.append(
            f"Recipe {name} cuts windows of {window['length']} timepoints every {window['stride']} timepoints"
            f"{sampled}; {short}. A vector is the {recipe['pool']} of the target encoder's tokens over regions, "
            "patches and windows."
        )
    return found


def _pooling_sentence(pooling: Mapping[str, Any]) -> str:
    """Say whom and what a query was trained on, and what must therefore not be asked of these vectors."""
    column = pooling["target"]["column"]
    return (
        f"Instead of averaging regions, they were pooled by attention (Ilse et al. 2018) with a query trained for "
        f"{column} (seed {pooling['seed']}, {pooling['epochs']} epochs) on {pooling['n_train']} vectors of "
        f"{pooling['n_train_subjects']} training subjects; {pooling['n_subjects_without_value']} have no value of it. "
        f"The vectors of these subjects know of {column}, so probes of it and of what goes with it are flattered."
    )


def _selection_sentences(selection: Selection) -> list[str]:
    n = len(selection.rows)
    found = [f"One scan of each of {n} subjects was measured."]
    if selection.n_further_scans:
        found.append(f"{selection.n_further_scans} further scans of the same subjects were not used.")
    if selection.is_subset:
        found[0] = f"One scan of each of {n} subjects, drawn at random from {selection.n_subjects}, was measured."
    if selection.n_parts > 1:
        cut = "two halves" if selection.n_parts == HALVES else f"{selection.n_parts} parts"
        found.append(f"Each scan was cut into {cut} of consecutive timepoints, and each was embedded by itself.")
    return found


def _measure_sentences(selection: Selection) -> list[str]:
    found = [
        "Functional connectivity is Fisher's z of Pearson's correlation between all pairs of regions, over all "
        "timepoints of the same scans and parts at their own repetition time."
    ]
    if selection.n_parts == HALVES:
        found.append(
            "A subject counts as identified when the most similar vector (Pearson's correlation over dimensions) "
            "among all subjects' other halves is their own (Finn et al. 2015); ties count as errors; accuracy is the "
            "mean of both directions, its interval is Clopper and Pearson's with one trial a subject. I_diff is 100 "
            "times the difference between the mean correlation of a subject's two halves and that of two subjects "
            "(Amico & Goñi 2018)."
        )
    found.append(
        "Effective rank is RankMe (Garrido et al. 2023). The similarity matrix shows correlations after subtracting "
        "the mean of all shown vectors; identification is given both without and with that subtraction."
        if selection.n_parts == HALVES
        else "Effective rank is RankMe (Garrido et al. 2023). The similarity matrix shows correlations after "
        "subtracting the mean of all shown vectors."
    )
    return found


def _caution_sentences(cohort: Cohort, facts: Mapping[str, TableFacts], selection: Selection) -> list[str]:
    found = []
    if selection.n_parts == HALVES:
        found.append(
            "Both halves come from one run, so everything constant within a run helps to identify: the scanner, the "
            "position of the head, preprocessing. Connectivity sees every timepoint of a half; the encoder sees those "
            "that its windows cover."
        )
    if seen := trained_on(facts, cohort):
        which = " and ".join(repr(name) for name in seen)
        found.append(f"The model behind {which} was pretrained on this cohort, so it has seen these scans.")
    return found

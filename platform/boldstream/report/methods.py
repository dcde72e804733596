"""The methods paragraph of a report, written from the configurations that the artifacts carry."""

from collections.abc import Mapping, Sequence
from typing import Any

from boldstream.artifacts.cohort import Cohort
from boldstream.report.material import Selection
from boldstream.report.measure import HALVES
from boldstream.report.provenance import TableFacts, trained_on

REFERENCES = (
    "Amico & Goñi (2018). The quest for identifiability in human functional connectomes. Scientific Reports 8:8254.",
    "Dong et al. (2024). Brain-JEPA: Brain dynamics foundation model with gradient positioning and spatiotemporal "
    "masking. NeurIPS; arXiv 2409.19407.",
    "Finn et al. (2015). Functional connectome fingerprinting: identifying individuals using patterns of brain "
    "connectivity. Nature Neuroscience 18:1664–1671.",
    "Garrido et al. (2023). RankMe: assessing the downstream performance of pretrained self-supervised "
    "representations by their rank. ICML.",
)


def methods_paragraph(
    cohort: Cohort, data: Mapping[str, Any], facts: Mapping[str, TableFacts], selection: Selection
) -> str:
    """Return the paragraph."""
    return " ".join(
        [
            *_cohort_sentences(cohort, data),
            *_embedding_sentences(facts),
            *_selection_sentences(selection),
            *_measure_sentences(selection),
            *_caution_sentences(cohort, facts, selection),
        ]
    )


def pending_steps(facts: Mapping[str, TableFacts]) -> dict[str, list[str]]:
    """Return, by strategy, the steps of the recipe that nothing has applied to the measured vectors."""
    return {str(table.strategy["id"]): table.pending for table in facts.values() if table.pending}


def methods_markdown(paragraph: str, pending: Mapping[str, Sequence[str]]) -> str:
    """Return the content of methods.md."""
    lines = ["# Methods", "", paragraph, ""]
    for strategy, steps in pending.items():
        lines += [f"Not applied to these vectors, though recipe `{strategy}` names it: {'; '.join(steps)}.", ""]
    lines += ["## References", "", *(f"- {reference}" for reference in REFERENCES)]
    return "\n".join(lines) + "\n"


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
            found.append(f"Its vectors were adjusted in this order: {table.adjusted}.")
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

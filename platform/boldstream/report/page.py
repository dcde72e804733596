"""From measured numbers to files: the page, its figures, numbers.json and methods.md."""

import base64
import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

import boldstream
from boldstream.artifacts.cohort import Cohort
from boldstream.artifacts.embeddings import EmbeddingTable
from boldstream.artifacts.manifest import git_sha
from boldstream.artifacts.results import Results
from boldstream.pages import render_page
from boldstream.report import figures, methods, wording
from boldstream.report.brain_figures import Place, draw_brains, draw_viewers
from boldstream.report.brains import Brains, numbers_of_brains
from boldstream.report.changes import Change, draw_changes, numbers_of_changes
from boldstream.report.colouring import FEW, Colouring
from boldstream.report.confounds import Confounds, draw_confounds, numbers_of_confounds
from boldstream.report.forest import draw_forest
from boldstream.report.maps import draw_covariates, draw_map
from boldstream.report.material import Carpet, Selection
from boldstream.report.measure import Measured, accuracy_interval
from boldstream.report.occlusion import Occlusion, draw_occlusion, numbers_of_occlusion
from boldstream.report.people import draw_people
from boldstream.report.probe_numbers import numbers_of_probes, tally
from boldstream.report.probes import Probes, title_of_metric, title_of_representation, told_here
from boldstream.report.provenance import ModelCard, TableFacts


@dataclass(frozen=True)
class Report:
    """Everything that the page shows.

    Attributes
    ----------
    cohort : Cohort
    people : DataFrame
        `people.read_people` of it.
    data : dict
        `provenance.data_summary` of it.
    tables : dict of str to EmbeddingTable
    facts : dict of str to TableFacts
    selection : Selection
    carpets : list of Carpet
    measured : list of Measured
        The tables in the configuration's order, functional connectivity last.
    colouring : Colouring
        Of the embedding map.
    probes : list of Probes
    confounds : Confounds
    changes : list of Change
        Of the tables that have an earlier version.
    brains : Brains
    place : Place
        Where the regions are.
    occlusion : Occlusion or None
    run_id : str
        MLflow run of the report.
    """

    cohort: Cohort
    people: pd.DataFrame
    data: Mapping[str, Any]
    tables: Mapping[str, EmbeddingTable]
    facts: Mapping[str, TableFacts]
    selection: Selection
    carpets: Sequence[Carpet]
    measured: Sequence[Measured]
    colouring: Colouring
    probes: Sequence[Probes]
    confounds: Confounds
    changes: list[Change]
    brains: Brains
    place: Place
    occlusion: Occlusion | None
    run_id: str

    @property
    def is_identified(self) -> bool:
        """Whether identification was measured."""
        return self.measured[0].identified is not None

    @property
    def models(self) -> list[ModelCard]:
        """The model versions behind the tables, each once."""
        return list({facts.model.pointer: facts.model for facts in self.facts.values()}.values())

    @property
    def stages(self) -> list[list[str]]:
        """Names of the tables as embedded, and of those that are adjusted."""
        groups = [[name for name, one in self.facts.items() if bool(one.adjusted) == late] for late in (False, True)]
        return [group for group in groups if group]

    @property
    def covariates(self) -> list[str]:
        """What of site, age and sex is known and differs in the scans that are measured."""
        return [name for name in ("site", "age", "sex") if self.selection.rows[name].nunique() > 1]

    @property
    def drifted(self) -> list[Change]:
        """The changes whose new vectors could be tested."""
        return [one for one in self.changes if one.drift is not None]


def write_page(report: Report, folder: Path) -> dict[str, Any]:
    """Write all files of a report but its manifest; return the numbers."""
    numbers = numbers_of(report)
    drawn = draw_all(report)
    (folder / "figures").mkdir()
    for name, data in drawn.items():
        (folder / "figures" / f"{name}.png").write_bytes(data)
    (folder / "numbers.json").write_text(json.dumps(numbers, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    pending = methods.pending_steps(report.facts)
    (folder / "methods.md").write_text(
        methods.methods_markdown(numbers["methods"], pending, numbers["references"]), encoding="utf-8"
    )
    (folder / "index.html").write_text(render(report, numbers, drawn), encoding="utf-8")
    return numbers


def draw_all(report: Report) -> dict[str, bytes]:
    """Draw every figure, as PNG by name."""
    n_parts = report.selection.n_parts
    numbered = len(report.selection.rows) <= FEW
    vectors = {name: (sum(facts.status.values()), facts.quarantined) for name, facts in report.facts.items()}
    drawn = {
        "people": draw_people(report.people, sum(report.data["quarantined"].values()), vectors),
        "carpet": figures.draw_carpets(report.carpets, report.cohort.roi_names, n_parts),
        "map": draw_map(report.measured, report.colouring, numbered),
        "similarity": figures.draw_similarity(report.measured, n_parts),
    }
    if report.is_identified:
        drawn["identification"] = figures.draw_accuracy(report.measured)
    for i, one in enumerate(report.probes):
        drawn[f"probes-{i + 1}"] = draw_forest(one.targets)
    if report.confounds.is_drawn:
        drawn["confounds"] = draw_confounds(report.confounds.told, report.confounds.changes)
    if report.covariates:
        # the table in question, and what it has to beat
        shown = [report.measured[0], report.measured[-1]]
        drawn["covariates"] = draw_covariates(shown, report.selection.rows, report.covariates)
    if report.drifted:
        drawn["changes"] = draw_changes(report.drifted)
    if report.occlusion is not None:
        drawn["occlusion"] = draw_occlusion(report.occlusion, report.cohort.roi_names)
    return drawn | draw_brains(report.brains, report.place, report.cohort.roi_names)


def numbers_of(report: Report) -> dict[str, Any]:
    """Return every number of the page as JSON types."""
    selection = report.selection
    n = len(selection.rows)
    headlines = wording.headlines([one.headline for one in report.probes], report.measured)
    paragraphs = methods.methods_paragraphs(report.cohort, report.data, report.facts, selection)
    further = methods.further_paragraphs(
        report.probes, report.confounds, report.brains, report.changes, report.occlusion
    )
    return {
        "headline": " ".join(headlines),
        "verdicts": [line for one in report.probes for line in tally(one)] + wording.verdicts(report.measured),
        "cohort": {"pointer": report.cohort.ref.pointer, "digest": report.cohort.ref.digest, **report.data},
        "tables": {name: _table_numbers(report.tables[name], facts) for name, facts in report.facts.items()},
        "artifacts": _artifacts(report),
        "subjects": {
            "measured": n,
            "available": selection.n_subjects,
            "parts": selection.n_parts,
            "further_scans": selection.n_further_scans,
            "scans_left_out": selection.n_left_out,
            "scan_keys": selection.scans,
        },
        "probes": [
            numbers_of_probes(one, [table.ref.pointer for table in report.tables.values()]) for one in report.probes
        ],
        "confounds": numbers_of_confounds(report.confounds),
        "brain": numbers_of_brains(report.brains, report.cohort.roi_names),
        "occlusion": numbers_of_occlusion(report.occlusion, report.cohort.roi_names),
        "changes": numbers_of_changes(report.changes),
        "representations": {one.name: _measured_numbers(one) for one in report.measured},
        "no_identification": None if report.is_identified else wording.no_identification(selection.n_parts, n),
        "methods": "\n\n".join([*paragraphs, *further]),
        "references": methods.references_of(report.probes, report.facts, report.changes, report.occlusion),
        "pending": methods.pending_steps(report.facts),
        "mlflow_run_id": report.run_id,
        "git_sha": git_sha(),
        "package_version": boldstream.__version__,
    }


def render(report: Report, numbers: Mapping[str, Any], drawn: Mapping[str, bytes]) -> str:
    """Return the page: one HTML file that needs nothing else."""
    return render_page(
        "boldstream.report",
        "page.html.j2",
        report=report,
        numbers=numbers,
        images={name: base64.b64encode(data).decode() for name, data in drawn.items()},
        interval=wording.interval_text,
        headlines=wording.headlines([one.headline for one in report.probes], report.measured),
        numbered=len(report.selection.rows) <= FEW,
        artifacts=numbers["artifacts"],
        viewers=draw_viewers(report.brains, report.place),
        title_of_metric=title_of_metric,
        plain=wording.plain,
        told_value=wording.told_value,
        told_here=functools.partial(told_here, report.probes, next(iter(report.tables.values())).ref.uri),
        title_of_representation=title_of_representation,
    )


def _table_numbers(table: EmbeddingTable, facts: TableFacts) -> dict[str, Any]:
    return {"pointer": table.ref.pointer, "digest": table.ref.digest, **dataclasses.asdict(facts)}


def _measured_numbers(one: Measured) -> dict[str, Any]:
    found: dict[str, Any] = {
        "n_dims": one.n_dims,
        "rankme": one.rankme,
        "mean_pairwise_cosine": one.mean_cosine,
        "explained_variance": list(one.explained),
        "coordinates": one.coordinates.round(5).tolist(),
        "similarity_centred": one.similarity.round(4).tolist(),
    }
    for name, identified in (("identification", one.identified), ("identification_centred", one.identified_centred)):
        if identified is not None:
            found[name] = dataclasses.asdict(identified) | {"accuracy_95": list(accuracy_interval(identified))}
    return found


def _artifacts(report: Report) -> list[dict[str, Any]]:
    """Return one line for every artifact version behind the report, for the provenance table."""
    lines = [_line("cohort", report.cohort)]
    for card in report.models:
        lines.append(
            {
                "kind": "model",
                "name": card.pointer.removeprefix("models:/").replace("/", "@"),
                "uri": card.pointer,
                "digest": card.digest,
                "rows": None,
                "run": card.mlflow_run_id,
                "git_sha": card.git_sha,
                "package": card.package_version,
            }
        )
    lines += [_line("table", table) for table in report.tables.values()]
    return lines + [_line("results", one.results) for one in report.probes]


def _line(kind: str, artifact: Cohort | EmbeddingTable | Results) -> dict[str, Any]:
    manifest = artifact.manifest
    return {
        "kind": kind,
        "name": artifact.label,
        "uri": artifact.ref.pointer,
        "digest": artifact.ref.digest,
        "rows": manifest.rows,
        "run": manifest.mlflow_run_id,
        "git_sha": manifest.git_sha,
        "package": manifest.package_version,
    }

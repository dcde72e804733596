"""From measured numbers to files: the page, its figures, numbers.json and methods.md."""

import base64
import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boldstream
from boldstream.artifacts.cohort import Cohort
from boldstream.artifacts.embeddings import EmbeddingTable
from boldstream.artifacts.manifest import git_sha
from boldstream.pages import render_page
from boldstream.report import figures, methods, wording
from boldstream.report.material import Carpet, Selection
from boldstream.report.measure import Measured, accuracy_interval
from boldstream.report.provenance import TableFacts


@dataclass(frozen=True)
class Report:
    """Everything that the page shows.

    Attributes
    ----------
    cohort : Cohort
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
    run_id : str
        MLflow run of the report.
    """

    cohort: Cohort
    data: Mapping[str, Any]
    tables: Mapping[str, EmbeddingTable]
    facts: Mapping[str, TableFacts]
    selection: Selection
    carpets: Sequence[Carpet]
    measured: Sequence[Measured]
    colouring: figures.Colouring
    run_id: str

    @property
    def is_identified(self) -> bool:
        """Whether identification was measured."""
        return self.measured[0].identified is not None


def write_page(report: Report, folder: Path) -> dict[str, Any]:
    """Write all files of a report but its manifest; return the numbers."""
    numbers = numbers_of(report)
    drawn = draw_all(report)
    (folder / "figures").mkdir()
    for name, data in drawn.items():
        (folder / "figures" / f"{name}.png").write_bytes(data)
    (folder / "numbers.json").write_text(json.dumps(numbers, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    pending = methods.pending_steps(report.facts)
    (folder / "methods.md").write_text(methods.methods_markdown(numbers["methods"], pending), encoding="utf-8")
    (folder / "index.html").write_text(render(report, numbers, drawn), encoding="utf-8")
    return numbers


def draw_all(report: Report) -> dict[str, bytes]:
    """Draw every figure, as PNG by name."""
    n_parts = report.selection.n_parts
    numbered = len(report.selection.rows) <= figures.FEW
    drawn = {
        "carpet": figures.draw_carpets(report.carpets, report.cohort.roi_names, n_parts),
        "map": figures.draw_map(report.measured, report.colouring, numbered),
        "similarity": figures.draw_similarity(report.measured, n_parts),
    }
    if report.is_identified:
        drawn["identification"] = figures.draw_accuracy(report.measured)
    return drawn


def numbers_of(report: Report) -> dict[str, Any]:
    """Return every number of the page as JSON types."""
    selection = report.selection
    n = len(selection.rows)
    return {
        "headline": wording.headline(report.measured),
        "verdicts": wording.verdicts(report.measured),
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
        "representations": {one.name: _measured_numbers(one) for one in report.measured},
        "no_identification": None if report.is_identified else wording.no_identification(selection.n_parts, n),
        "methods": methods.methods_paragraph(report.cohort, report.data, report.facts, selection),
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
        references=methods.REFERENCES,
        numbered=len(report.selection.rows) <= figures.FEW,
        artifacts=numbers["artifacts"],
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
    for card in {facts.model.pointer: facts.model for facts in report.facts.values()}.values():
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
    return lines + [_line("table", table) for table in report.tables.values()]


def _line(kind: str, artifact: Cohort | EmbeddingTable) -> dict[str, Any]:
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

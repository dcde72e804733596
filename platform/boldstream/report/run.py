"""The report room: read a cohort and its embedding tables, measure, draw, publish one folder."""

import contextlib
import logging
from collections.abc import Sequence
from pathlib import Path

from boldstream.artifacts.cohort import Cohort, open_cohort
from boldstream.artifacts.embeddings import EmbeddingTable, open_table
from boldstream.artifacts.manifest import Manifest, Parent
from boldstream.errors import ArtifactError, ConfigError, OutputExistsError
from boldstream.refs import ReportRef
from boldstream.report.brain_figures import place_of
from boldstream.report.brains import Brains, map_targets
from boldstream.report.changes import find_changes
from boldstream.report.colouring import FEW, Colouring, colouring_of
from boldstream.report.config import FC_NAME, ReportConfig
from boldstream.report.confounds import Confounds, before_after, tell
from boldstream.report.material import Selection, check_tables, read_connectivity, read_vectors, select_scans
from boldstream.report.measure import Measured, measure
from boldstream.report.occlusion import occlude
from boldstream.report.page import Report, write_page
from boldstream.report.people import read_people
from boldstream.report.probes import Probes, read_probes, unread_targets
from boldstream.report.provenance import data_summary, table_facts
from boldstream.report.wording import title_of
from boldstream.storage import local_path, publish_folder, sha256_of_folder
from boldstream.table_diff import FEWEST
from boldstream.tracking import JobRun, job_run

KIND = "report"
MANIFEST = "manifest.json"
VERSION = "1"
"""A report is replaced as a whole, so it has one version; its digest tells two of them apart."""

logger = logging.getLogger(__name__)


def write_report(config: ReportConfig) -> ReportRef:
    """Write the report of a cohort and of embedding tables made of it: index.html, figures, numbers, methods.

    Each table and plain functional connectivity are measured alike, on the same scans: a map, a similarity matrix,
    effective rank, what they tell of site and motion and, where scans were embedded in halves, test-retest
    identification. With probe results the page begins with who is better at which target; with latents of single
    regions it shows where a probe looks. An older report in the output folder is replaced.

    Raises
    ------
    CohortError, EmbeddingsError
        If the cohort or a table is not there or not whole, or the tables have no scan in common.
    ConfigError
        If a table or results were made of another cohort, tables are cut in different parts, or a column is not there.
    ResultsError, AtlasError
        If results, or the image that is named for the atlas, are not there or cannot be used.
    ModelError
        If the encoder that is to be looked at is not in the registry any more.
    OutputExistsError
        If the output folder holds something that is no report.
    """
    target = local_path(config.output)
    check_output(target)
    cohort = open_cohort(config.cohort, config.warehouse)
    tables = {name: open_table(pointer, config.warehouse) for name, pointer in config.tables.items()}
    n_parts = check_tables(tables, cohort)
    with job_run("report", target.name, config) as run:
        run.log_parent(cohort.ref, cohort.manifest.rows)
        for name, table in tables.items():
            run.log_parent(table.ref, table.manifest.rows)
            run.set_tags({f"parent.table.{name}": table.ref.pointer})
        report = measure_all(config, cohort, tables, n_parts, run)
        for one in report.probes:
            run.log_parent(one.results.ref, one.results.manifest.rows)
        ref = publish_report(config, report, target)
        run.log_metrics(metrics_of(report.measured))
        run.log_file(target, "report")
        run.log_output(ref)
    return ref


def measure_all(
    config: ReportConfig, cohort: Cohort, tables: dict[str, EmbeddingTable], n_parts: int, run: JobRun
) -> Report:
    """Choose the scans, read them once, and measure every representation of them."""
    probes = read_probes(config.results, cohort, config.warehouse)
    place = place_of(cohort, config)
    rows = {name: table.rows() for name, table in tables.items()}
    keys = {key for _, found in cohort.keys_by_file() for key in found}
    selection = select_scans(rows, keys, n_parts=n_parts, max_scans=config.max_scans, seed=config.seed)
    colouring = choose_colouring(selection, config.color_by)
    logger.info("report: measuring %d subjects of cohort %s", len(selection.rows), cohort.label)
    measured, told, brains, occlusion = [], [], Brains([], []), None
    adjusted = before_after(tables)
    for name, table in tables.items():
        is_adjusted = name in {one.name for one in adjusted}
        title, vectors = title_of(name, is_adjusted), read_vectors(table, selection)
        measured.append(measure(name, title, vectors))
        # an adjustment's own training rows tell less than nothing of site; the adjust room has measured others
        if not is_adjusted:
            told.append(tell(name, title, vectors, selection.rows, config.seed))
        if name == next(iter(tables)):
            unread = unread_targets(probes, table.ref.uri)
            targets = brain_targets(config, probes)
            brains = map_targets(table, name, selection, vectors, [one for one in targets if one not in unread])
            brains = Brains(brains.maps, [unread[one] for one in targets if one in unread] + brains.missing)
            if config.occlude is not None:
                occlusion = occlude(config.occlude, name, table, cohort, selection, vectors)
    connectivity = read_connectivity(cohort, selection)
    measured.append(measure(FC_NAME, title_of(FC_NAME), connectivity.vectors))
    told.append(tell(FC_NAME, title_of(FC_NAME), connectivity.vectors, selection.rows, config.seed))
    people = read_people(cohort)
    return Report(
        cohort=cohort,
        people=people,
        data=data_summary(cohort, people),
        tables=tables,
        facts={name: table_facts(name, table, rows[name]) for name, table in tables.items()},
        selection=selection,
        carpets=connectivity.carpets,
        measured=measured,
        colouring=colouring,
        probes=probes,
        confounds=Confounds(told, adjusted),
        changes=find_changes(
            tables, config.earlier, config.warehouse, max_scans=max(config.max_scans, FEWEST), seed=config.seed
        ),
        brains=brains,
        place=place,
        occlusion=occlusion,
        run_id=run.run_id,
    )


def brain_targets(config: ReportConfig, probes: Sequence[Probes]) -> list[str]:
    """Return the columns whose probe is followed back to regions: those that are named, or the results' targets."""
    if config.brain_targets is not None:
        return list(config.brain_targets)
    return list(dict.fromkeys(column for one in probes for column in one.columns))


def choose_colouring(selection: Selection, color_by: str | None) -> Colouring:
    """Return what colours the map: the named column, else the subject while there are few, else the site.

    Raises
    ------
    ConfigError
        If the tables have no such column.
    """
    if color_by is None:
        color_by = "subject" if len(selection.rows) <= FEW else "site"
    if color_by not in selection.rows.columns:
        known = ", ".join(sorted(set(selection.rows.columns) - {"row_key", "part"}))
        raise ConfigError(f"color_by: the tables have no column {color_by!r} (there: {known})")
    return colouring_of(selection.rows, color_by)


def check_output(target: Path) -> None:
    """Refuse to write where something is that no report job made.

    Raises
    ------
    OutputExistsError
    """
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    manifest = target / MANIFEST
    with contextlib.suppress(FileNotFoundError, NotADirectoryError, ArtifactError):
        if Manifest.from_json(manifest.read_bytes(), where=str(manifest)).kind == KIND:
            return
    raise OutputExistsError(f"output: {target} exists and is no report; choose another output folder")


def publish_report(config: ReportConfig, report: Report, target: Path) -> ReportRef:
    """Write the folder, its manifest last, and let it appear in one step."""
    results = [one.results.ref for one in report.probes]
    refs = [report.cohort.ref, *(table.ref for table in report.tables.values()), *results]
    with publish_folder(target) as draft:
        numbers = write_page(report, draft)
        digest = sha256_of_folder(draft)
        manifest = Manifest.create(
            kind=KIND,
            name=target.name,
            version=VERSION,
            config=config.model_dump(mode="json"),
            config_hash=config.config_hash(),
            parents=[Parent.of(ref) for ref in refs],
            rows=len(report.selection.rows),
            digest=digest,
            mlflow_run_id=report.run_id,
            content={"headline": numbers["headline"]},
        )
        (draft / MANIFEST).write_text(manifest.model_dump_json(indent=1), encoding="utf-8")
    logger.info("report: %s", numbers["headline"])
    return ReportRef((target / "index.html").as_uri(), VERSION, digest)


def metrics_of(measured: Sequence[Measured]) -> dict[str, float]:
    """Return the metrics of the MLflow run, ``<measure>/<representation>``."""
    metrics: dict[str, float] = {}
    for one in measured:
        metrics |= {f"rankme/{one.name}": one.rankme, f"mean_pairwise_cosine/{one.name}": one.mean_cosine}
        if one.identified is not None:
            metrics[f"identification/{one.name}/accuracy"] = one.identified.accuracy
            metrics[f"identification/{one.name}/i_diff"] = one.identified.i_diff
    return metrics

"""The ingest room: plan on the driver, read and write in Ray Data tasks, publish one cohort version."""

import hashlib
import json
import logging
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from boldstream.artifacts.cohort import (
    COHORT_QUARANTINE_SCHEMA,
    cohort_schema,
    cohort_tables,
    set_aside_table,
)
from boldstream.artifacts.manifest import Manifest, Parent
from boldstream.artifacts.receipts import Receipts, begin_run, list_reasons
from boldstream.artifacts.tables import VersionedTable
from boldstream.cluster import connect
from boldstream.cohort_statistics import measure_cohort
from boldstream.config import digest_json
from boldstream.errors import SourceError
from boldstream.ingest.again import Held, changes_of, count_changes, set_aside, tell_changes
from boldstream.ingest.cohort_quality import CohortQuality, judge_cohort, material_of
from boldstream.ingest.config import IngestConfig
from boldstream.ingest.plan import CohortPlan, ScanPlan, plan_scans
from boldstream.ingest.qc_material import QcMaterial
from boldstream.ingest.regions import Regions, load_regions
from boldstream.ingest.shard import IngestTask, ingest_shard
from boldstream.progress import Progress
from boldstream.pseudonyms import pseudonym, read_salt
from boldstream.refs import CohortRef
from boldstream.storage import Warehouse, exists, publish_bytes, read_bytes
from boldstream.tracking import JobRun, job_run

QC_PAGE = "qc.html"

logger = logging.getLogger(__name__)


def ingest_cohort(config: IngestConfig) -> CohortRef:
    """Read what a lab holds (images, other people's time series, tables) into a cohort version.

    Every scan of the source ends in exactly one of two tables: the cohort (``cohorts/<output>``), or its quarantine
    (``cohorts_quarantine/<output>``) with the reason. A quality page shows both. The same command again goes on where
    a killed run stopped, reads scans that are new or whose files or covariates have changed since, and lets go those
    whose files are gone; where nothing has changed it reads nothing and returns the newest version.

    Raises
    ------
    SourceError
        If the source or a table is missing, empty or ambiguous, if no scan can be used, or if more scans are gone than
        `max_removed` allows.
    AtlasError
        If the atlas is not known, cannot be fetched, or does not fit the source.
    OutputExistsError
        If the cohort exists and was made with other settings.
    """
    plan = plan_scans(config)
    regions = load_regions(config, plan.scans)
    cohort, quarantine = cohort_tables(Warehouse.at(config.warehouse), config.output)
    schema = cohort_schema(plan.phenotypes)
    with job_run("ingest", config.output, config) as run:
        identity = config.identity() | {"roi_names_sha256": digest_json(regions.atlas.roi_names)}
        if config.subject_ids == "hash":
            identity["subject_salt"] = pseudonym("which salt", read_salt())  # another one would give everybody anew
        if regions.digest:
            identity["atlas_sha256"] = regions.digest
        if regions.brain and config.synthetic.connectivity:
            identity["connectivity_sha256"] = regions.brain.connectivity_sha256
        if regions.parent:
            run.log_parent(regions.parent)
        aside = set_aside_table(cohort.warehouse, config.output)
        begin_run(
            cohort, quarantine, schema, identity, quarantine_schema=COHORT_QUARANTINE_SCHEMA, beside=[(aside, schema)]
        )
        held = Held(cohort, quarantine, aside)
        difference = held.compare(plan.scans)
        difference.check_removals(config)
        newest = _newest(cohort, difference.cohort, regions)
        todo = difference.new
        where = config.source.root or config.source.kind
        logger.info("ingest: %d scans in %s, %d to read", len(plan.scans), where, len(todo))
        _tell_unmatched(plan, config)
        if difference.gone:
            logger.warning("ingest: %d scans are not in the source any more and go", len(difference.gone))
            logger.debug("ingest: gone: %s", ", ".join(difference.gone))
        if newest is not None and not todo and difference.is_settled:
            logger.info("ingest: nothing is new; cohort %s@%s stands", config.output, newest.version)
            return _stand(config, cohort, newest, run)
        if todo:
            _read(todo, IngestTask(config, regions, schema, cohort.uri, quarantine.uri), held, run)
        held.settle(plan.scans)
        quality = judge_cohort([cohort, aside], config.quality)
        set_aside(quality, held)
        if not held.cohort.refresh().num_rows:
            raise SourceError(f"none of the {len(plan.scans)} scans can be used ({list_reasons(quarantine)})")
        return _publish(config, plan, held, difference.gone, regions, quality, run)


def _newest(cohort: VersionedTable, rows: pa.Table, regions: Regions) -> Manifest | None:
    """Return the manifest of the newest version if the table holds just that, with its page beside it."""
    if not cohort.versions:
        return None
    manifest = cohort.manifest()
    whole = manifest.digest == _digest(rows, regions) and exists(cohort.beside(manifest.version, QC_PAGE))
    return manifest if whole else None


def _digest(rows: pa.Table, regions: Regions) -> str:
    """Return the sha256 of a version that holds these rows: ``scan_key`` and ``row_digest`` of the table's index."""
    atlas, rows = regions.atlas, rows.sort_by("scan_key")
    return digest_json([atlas.name, atlas.roi_names, rows["scan_key"].to_pylist(), rows["row_digest"].to_pylist()])


def _stand(config: IngestConfig, cohort: VersionedTable, newest: Manifest, run: JobRun) -> CohortRef:
    """Return the version that is there."""
    ref = CohortRef(cohort.uri, newest.version, newest.digest)
    run.tell("Nothing is new in the source")
    run.log_output(ref, newest)
    if config.qc_page:
        publish_bytes(config.qc_page, read_bytes(cohort.beside(newest.version, QC_PAGE)))
    return ref


def _tell_unmatched(plan: CohortPlan, config: IngestConfig) -> None:
    """Say which participants have no scan; scans without a participant are in quarantine."""
    if plan.without_scan:
        logger.warning(
            "ingest: %d rows of %s have no scan, listed on the quality page",
            len(plan.without_scan),
            config.participants if config.sessions is None else "the tables",
        )
        logger.debug("ingest: without a scan: %s", ", ".join(plan.without_scan))


def _read(todo: list[ScanPlan], task: IngestTask, held: Held, run: JobRun) -> None:
    """Run the tasks and commit their shards as they come."""
    import ray.data

    connect(task.config.cluster)
    size = task.config.shard_size
    shards = [todo[i : i + size] for i in range(0, len(todo), size)]
    rows = [{"scans": json.dumps([plan.as_dict() for plan in shard])} for shard in shards]
    dataset = ray.data.from_items(rows, override_num_blocks=len(rows)).map(ingest_shard, fn_kwargs={"task": task})
    sinks = {"shard": held.cohort, "quarantine": held.quarantine}
    Receipts(sinks, Progress(run, "ingest", len(todo))).take(dataset.iter_rows())
    read = {plan.scan_key for plan in todo}
    for row in held.quarantine.refresh().select(["scan_key", "reason"]).to_pylist():
        if row["scan_key"] in read:
            logger.info("ingest: quarantined: %s", row["reason"], extra={"scan": row["scan_key"]})


def _publish(
    config: IngestConfig,
    plan: CohortPlan,
    held: Held,
    gone: list[str],
    regions: Regions,
    quality: CohortQuality,
    run: JobRun,
) -> CohortRef:
    """Make what the table holds its next version, unless the newest holds the same, and show its quality."""
    cohort, quarantine = held.cohort.index.table, held.quarantine.index.table
    rows, refused = held.cohort.refresh(), quarantine.column(["scan_key", "reason"])
    changes = changes_of(cohort, rows, gone, refused["scan_key"].to_pylist())
    reasons = Counter(refused["reason"].to_pylist())
    connect(config.cluster)
    statistics, fitted_on = measure_cohort(cohort, config.split.holdout, config.split.seed)
    measured = statistics.to_bytes()
    sha256 = hashlib.sha256(measured).hexdigest()
    file = f"statistics-{sha256[:12]}.npz"
    manifest = cohort.publish(
        config=config.model_dump(mode="json"),
        config_hash=config.config_hash(),
        parents=[Parent.of(regions.parent)] if regions.parent else [],
        rows=rows.num_rows,
        digest=_digest(rows, regions),
        mlflow_run_id=run.run_id,
        content={
            "atlas": regions.atlas.name,
            "roi_names": list(regions.atlas.roi_names),
            "atlas_notes": list(regions.notes),
            "quarantined": dict(reasons),
            "flagged": quality.flags,
            "participants_without_scan": plan.without_scan,
            "changes": changes,
            "statistics": {**fitted_on, "file": file, "sha256": sha256},
        },
        beside={file: measured},
    )
    ref = CohortRef(cohort.uri, manifest.version, manifest.digest)
    for sentence in count_changes(changes):
        logger.info("ingest: %s.", sentence)
        run.tell(sentence)
    told = tell_changes(manifest.content.get("changes", {}))  # of the version that stands, where none is new
    run.log_metrics({"scans": rows.num_rows, "quarantined": sum(reasons.values()), "flagged": len(quality.flags)})
    run.log_output(ref, manifest)
    label = f"{config.output}@{ref.version}"
    material = material_of(quality, cohort, quarantine, label, config, plan.without_scan, told)
    _show_quality(material, (cohort.beside(ref.version, QC_PAGE), config.qc_page), run)
    return ref


def _show_quality(material: QcMaterial, places: Iterable[str | None], run: JobRun) -> None:
    """Write the quality page beside the version, into MLflow, and where the configuration says."""
    from boldstream.ingest.qc_page import write_qc_page

    page = write_qc_page(material)
    for where in filter(None, places):
        publish_bytes(where, page.encode())
        logger.info("ingest: quality page %s", where)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / QC_PAGE).write_text(page, encoding="utf-8")
        run.log_file(Path(folder) / QC_PAGE)

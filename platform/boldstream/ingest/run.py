"""The ingest room: plan on the driver, read and write in Ray Data tasks, publish one cohort version."""

import logging
import tempfile
from collections import Counter
from pathlib import Path

from boldstream.artifacts.changes import CohortChanges, changes_since
from boldstream.artifacts.cohort import cohort_schema
from boldstream.artifacts.receipts import Receipts, list_reasons
from boldstream.artifacts.tables import VersionedTable
from boldstream.cluster import connect
from boldstream.config import digest_json
from boldstream.errors import SourceError
from boldstream.ingest.cohort_quality import CohortQuality, material_of
from boldstream.ingest.config import IngestConfig
from boldstream.ingest.outputs import KEY, ROW, Outputs, keys_of
from boldstream.ingest.plan import CohortPlan, plan_scans
from boldstream.ingest.regions import Regions, load_regions
from boldstream.ingest.settle import forget_removed, settle
from boldstream.ingest.shard import IngestTask, ingest_shard, shard_of
from boldstream.ingest.todo import Todo, check_removed, compare, some_of
from boldstream.progress import Progress
from boldstream.refs import CohortRef
from boldstream.storage import publish_bytes
from boldstream.tracking import JobRun, job_run

QC_PAGE = "qc.html"

logger = logging.getLogger(__name__)


def ingest_cohort(config: IngestConfig) -> CohortRef:
    """Read what a lab holds (images, other people's time series, tables) into a cohort version.

    Every scan of the source ends in exactly one of two tables: the cohort (``cohorts/<output>``), or its quarantine
    (``cohorts_quarantine/<output>``) with the reason. A quality page shows both. The same command again goes on where
    a killed run stopped. Over a source that has changed it reads scans that are new or changed, takes out those that
    are gone, and publishes what a fresh run would have made as the next version; where nothing has changed it reads
    nothing and returns the newest version.

    Raises
    ------
    SourceError
        If the source or a table is missing, empty or ambiguous, if no scan can be used, or if more than a share
        ``max_removed`` of the cohort's scans are gone from the source.
    AtlasError
        If the atlas is not known, cannot be fetched, or does not fit the source.
    OutputExistsError
        If the cohort exists and was made with other settings.
    """
    plan = plan_scans(config)
    regions = load_regions(config, plan.scans)
    schema = cohort_schema(plan.phenotypes)
    with job_run("ingest", config.output, config) as run:
        identity = config.identity() | {"roi_names_sha256": digest_json(regions.atlas.roi_names)}
        if regions.digest:
            identity["atlas_sha256"] = regions.digest
        outputs = Outputs.open(config.warehouse, config.output, schema, identity)
        cohort, quarantine = outputs.cohort.index.table, outputs.quarantine.index.table
        todo = compare(plan, outputs)
        logger.info("ingest: %s", todo.describe(len(plan.scans), config.source.root))
        check_removed(todo, config, len(outputs.known))
        _tell(todo, plan, config, cohort)
        if todo.scans:
            _read(todo, IngestTask(config, regions, schema, *outputs.uris), outputs, run)
        quality = settle(plan, outputs, config.quality)
        if not keys_of(outputs.cohort):
            raise SourceError(f"none of the {len(plan.scans)} scans can be used ({list_reasons(quarantine)})")
        ref, is_new = _publish(config, plan, outputs, regions, quality, todo, run)
        forget_removed(plan, outputs)
        if is_new or todo.removed or config.qc_page:
            _show_quality(config, plan, cohort, quarantine, quality, ref, run)
    return ref


def _tell(todo: Todo, plan: CohortPlan, config: IngestConfig, cohort: VersionedTable) -> None:
    """Say what is gone or new, and which participants have no scan; scans without a participant are in quarantine."""
    if todo.removed:
        logger.warning("ingest: %d scans are gone and are removed: %s", len(todo.removed), some_of(todo.removed))
    elif not todo.scans and cohort.versions:
        logger.info("ingest: nothing is new; cohort %s@%s stands", config.output, cohort.newest())
    if plan.without_scan:
        logger.warning(
            "ingest: %d rows of %s have no scan: %s",
            len(plan.without_scan),
            config.participants if config.sessions is None else "the tables",
            some_of(plan.without_scan),
        )


def _read(todo: Todo, task: IngestTask, outputs: Outputs, run: JobRun) -> None:
    """Run the tasks and commit their shards as they come."""
    import ray.data

    connect(task.config.cluster)
    size = task.config.shard_size
    rows = [shard_of(todo.scans[i : i + size], todo.held) for i in range(0, len(todo.scans), size)]
    dataset = ray.data.from_items(rows, override_num_blocks=len(rows)).map(ingest_shard, fn_kwargs={"task": task})
    Receipts(outputs.sinks, Progress(run, "ingest", len(todo.scans))).take(dataset.iter_rows())


def _publish(
    config: IngestConfig,
    plan: CohortPlan,
    outputs: Outputs,
    regions: Regions,
    quality: CohortQuality,
    todo: Todo,
    run: JobRun,
) -> tuple[CohortRef, bool]:
    """Make what the table holds its next version, unless the newest holds the same; say whether it is new."""
    cohort, index = outputs.cohort.index.table, outputs.cohort.index
    rows = index.rows.sort_by(KEY)
    columns = {name: rows[name].to_pylist() for name in ROW}
    atlas = regions.atlas
    reasons = Counter(outputs.quarantine.index.rows["reason"].to_pylist())
    digest = digest_json([atlas.name, atlas.roi_names, columns[KEY], columns["row_digest"]])
    sources = digest_json([columns["source_sha256"], columns["source_uri"]])
    before = cohort.manifest() if cohort.versions else None
    since = None
    if before and (before.digest, before.content.get("sources_sha256", sources)) != (digest, sources):
        refused = keys_of(outputs.quarantine)
        since = changes_since(cohort, before.version, rows, refused=refused, withdrawn=todo.removed)
    manifest = cohort.publish(
        config=config.model_dump(mode="json"),
        config_hash=config.config_hash(),
        parents=[],
        rows=rows.num_rows,
        digest=digest,
        mlflow_run_id=run.run_id,
        content={
            "atlas": atlas.name,
            "roi_names": list(atlas.roi_names),
            "atlas_notes": list(regions.notes),
            "quarantined": dict(reasons),
            "flagged": quality.flags,
            "participants_without_scan": plan.without_scan,
            "sources_sha256": sources,
            "since": since.as_content() if since else None,
        },
        snapshot_id=index.snapshot_id,
        told=("sources_sha256",),
    )
    is_new = before is None or manifest.version != before.version
    if since and is_new:
        logger.info("ingest: cohort %s@%s, %s", config.output, manifest.version, since)
    ref = CohortRef(cohort.uri, manifest.version, manifest.digest)
    run.log_metrics({"scans": rows.num_rows, "quarantined": sum(reasons.values()), "flagged": len(quality.flags)})
    run.log_output(ref, manifest)
    return ref, is_new


def _show_quality(
    config: IngestConfig,
    plan: CohortPlan,
    cohort: VersionedTable,
    quarantine: VersionedTable,
    quality: CohortQuality,
    ref: CohortRef,
    run: JobRun,
) -> None:
    """Write the quality page beside the version, into MLflow, and where the configuration says."""
    from boldstream.ingest.qc_page import write_qc_page

    label = f"{config.output}@{ref.version}"
    told = cohort.manifest(ref.version).content.get("since")
    since = CohortChanges.from_content(told) if told else None
    page = write_qc_page(material_of(quality, cohort, quarantine, label, config, plan.without_scan, since))
    beside = f"{cohort.uri}/versions/v{ref.version}-{QC_PAGE}"
    for where in filter(None, (beside, config.qc_page)):
        publish_bytes(where, page.encode())
        logger.info("ingest: quality page %s", where)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / QC_PAGE).write_text(page, encoding="utf-8")
        run.log_file(Path(folder) / QC_PAGE)

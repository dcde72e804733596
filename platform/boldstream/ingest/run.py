"""The ingest room: plan on the driver, read and write in Ray Data tasks, publish one cohort version."""

import json
import logging
import tempfile
from collections import Counter
from pathlib import Path

import pyarrow as pa

from boldstream.artifacts.cohort import cohort_schema, cohort_tables
from boldstream.artifacts.commit import Committer
from boldstream.artifacts.receipts import Receipts, begin_run, list_reasons
from boldstream.artifacts.tables import VersionedTable
from boldstream.cluster import connect
from boldstream.config import digest_json
from boldstream.errors import SourceError
from boldstream.ingest.cohort_quality import CohortQuality, judge_cohort, material_of, set_aside
from boldstream.ingest.config import IngestConfig
from boldstream.ingest.plan import CohortPlan, ScanPlan, plan_scans
from boldstream.ingest.regions import Regions, load_regions
from boldstream.ingest.shard import IngestTask, ingest_shard
from boldstream.progress import Progress
from boldstream.refs import CohortRef
from boldstream.storage import Warehouse, publish_bytes
from boldstream.tracking import JobRun, job_run

SHOWN = 5
QC_PAGE = "qc.html"

logger = logging.getLogger(__name__)


def ingest_cohort(config: IngestConfig) -> CohortRef:
    """Read what a lab holds (images, other people's time series, tables) into a cohort version.

    Every scan of the source ends in exactly one of two tables: the cohort (``cohorts/<output>``), or its quarantine
    (``cohorts_quarantine/<output>``) with the reason. A quality page shows both. The same command again goes on where
    a killed run stopped, and adds files that have come since; where nothing is new it returns the newest version.

    Raises
    ------
    SourceError
        If the source or a table is missing, empty or ambiguous, or if no scan can be used.
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
        if regions.digest:
            identity["atlas_sha256"] = regions.digest
        begin_run(cohort, quarantine, schema, identity)
        done = cohort.values("scan_key") | quarantine.values("scan_key")
        todo = [scan for scan in plan.scans if scan.scan_key not in done]
        logger.info("ingest: %d scans in %s, %d to read", len(plan.scans), config.source.root, len(todo))
        _tell_unmatched(plan, config)
        if todo:
            task = IngestTask(config, regions, schema, cohort.uri, quarantine.uri)
            _read(todo, task, cohort, quarantine, run)
        elif cohort.versions:
            logger.info("ingest: nothing is new; cohort %s@%s stands", config.output, cohort.newest())
        if not cohort.values("scan_key"):
            raise SourceError(f"none of the {len(plan.scans)} scans can be used ({list_reasons(quarantine)})")
        quality = judge_cohort(cohort, config.quality)
        set_aside(quality, cohort, quarantine)
        ref, is_new = _publish(config, plan, cohort, quarantine, regions, quality, run)
        if is_new or config.qc_page:
            _show_quality(config, plan, cohort, quarantine, quality, ref, run)
    return ref


def _tell_unmatched(plan: CohortPlan, config: IngestConfig) -> None:
    """Say which participants have no scan; scans without a participant are in quarantine."""
    if plan.without_scan:
        shown = ", ".join(plan.without_scan[:SHOWN])
        rest = len(plan.without_scan) - SHOWN
        logger.warning(
            "ingest: %d rows of %s have no scan: %s%s",
            len(plan.without_scan),
            config.participants if config.sessions is None else "the tables",
            shown,
            f" and {rest} more, listed on the quality page" if rest > 0 else "",
        )


def _read(
    todo: list[ScanPlan], task: IngestTask, cohort: VersionedTable, quarantine: VersionedTable, run: JobRun
) -> None:
    """Run the tasks and commit their shards as they come."""
    import ray.data

    connect(task.config.cluster)
    size = task.config.shard_size
    shards = [todo[i : i + size] for i in range(0, len(todo), size)]
    rows = [{"scans": json.dumps([plan.as_dict() for plan in shard])} for shard in shards]
    dataset = ray.data.from_items(rows, override_num_blocks=len(rows)).map(ingest_shard, fn_kwargs={"task": task})
    sinks = {"shard": Committer(cohort, "scan_key"), "quarantine": Committer(quarantine, "scan_key")}
    Receipts(sinks, Progress(run, "ingest", len(todo))).take(dataset.iter_rows())


def _publish(
    config: IngestConfig,
    plan: CohortPlan,
    cohort: VersionedTable,
    quarantine: VersionedTable,
    regions: Regions,
    quality: CohortQuality,
    run: JobRun,
) -> tuple[CohortRef, bool]:
    """Make what the table holds its next version, unless the newest holds the same; say whether it is new."""
    rows: pa.Table = cohort.column(["scan_key", "row_digest"]).sort_by("scan_key")
    atlas = regions.atlas
    digest = digest_json([atlas.name, atlas.roi_names, rows["scan_key"].to_pylist(), rows["row_digest"].to_pylist()])
    manifest = cohort.manifest() if cohort.versions else None
    reasons = Counter(quarantine.column(["reason"])["reason"].to_pylist())
    is_new = manifest is None or manifest.digest != digest
    if manifest is None or is_new:
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
            },
        )
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
    page = write_qc_page(material_of(quality, cohort, quarantine, label, config, plan.without_scan))
    beside = f"{cohort.uri}/versions/v{ref.version}-{QC_PAGE}"
    for where in filter(None, (beside, config.qc_page)):
        publish_bytes(where, page.encode())
        logger.info("ingest: quality page %s", where)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / QC_PAGE).write_text(page, encoding="utf-8")
        run.log_file(Path(folder) / QC_PAGE)

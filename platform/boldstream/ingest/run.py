"""The ingest room: plan on the driver, read and write in Ray Data tasks, publish one cohort version."""

import json
import logging
from collections import Counter

import pyarrow as pa

from boldstream.artifacts.cohort import cohort_schema, cohort_tables
from boldstream.artifacts.receipts import Receipts, begin_run, list_reasons
from boldstream.artifacts.tables import VersionedTable
from boldstream.cluster import connect
from boldstream.config import digest_json
from boldstream.errors import SourceError
from boldstream.ingest.config import IngestConfig
from boldstream.ingest.plan import ScanPlan, plan_scans
from boldstream.ingest.shard import IngestTask, ingest_shard
from boldstream.parcellation.atlas import load_atlas
from boldstream.progress import Progress
from boldstream.refs import CohortRef
from boldstream.storage import Warehouse
from boldstream.tracking import JobRun, job_run

logger = logging.getLogger(__name__)


def ingest_cohort(config: IngestConfig) -> CohortRef:
    """Read parcellated scans and their participants table into a cohort version.

    Every scan of the source ends in exactly one of two tables: the cohort (``cohorts/<output>``), or its quarantine
    (``cohorts_quarantine/<output>``) with the reason. The same command again goes on where a killed run stopped, and
    adds files that have come since; where nothing is new it returns the newest version.

    Raises
    ------
    SourceError
        If the source or the participants table is missing, empty or ambiguous, or if no scan can be used.
    AtlasError
        If the atlas is not known and no region labels are given.
    OutputExistsError
        If the cohort exists and was made with other settings.
    """
    atlas = load_atlas(config.atlas, config.atlas_labels)
    plans, phenotypes = plan_scans(config)
    cohort, quarantine = cohort_tables(Warehouse.at(config.warehouse), config.output)
    schema = cohort_schema(phenotypes)
    with job_run("ingest", config.output, config) as run:
        identity = config.identity() | {"roi_names_sha256": digest_json(atlas.roi_names)}
        begin_run(cohort, quarantine, schema, identity)
        done = cohort.values("scan_key") | quarantine.values("scan_key")
        todo = [plan for plan in plans if plan.scan_key not in done]
        logger.info("ingest: %d scans in %s, %d to read", len(plans), config.source.root, len(todo))
        if todo:
            task = IngestTask(config, atlas.roi_names, schema, cohort.uri, quarantine.uri)
            _read(todo, task, cohort, quarantine, run)
        elif cohort.versions:
            logger.info("ingest: nothing is new; cohort %s@%s stands", config.output, cohort.newest())
        if not cohort.values("scan_key"):
            raise SourceError(f"none of the {len(plans)} scans can be used ({list_reasons(quarantine)})")
        ref = _publish(config, cohort, quarantine, atlas.name, atlas.roi_names, run)
    return ref


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
    Receipts(cohort, quarantine, Progress(run, "ingest", len(todo))).take(dataset.iter_rows())


def _publish(
    config: IngestConfig,
    cohort: VersionedTable,
    quarantine: VersionedTable,
    atlas: str,
    roi_names: tuple[str, ...],
    run: JobRun,
) -> CohortRef:
    """Make what the table holds its next version, unless the newest holds the same."""
    rows: pa.Table = cohort.column(["scan_key", "row_digest"]).sort_by("scan_key")
    digest = digest_json([atlas, roi_names, rows["scan_key"].to_pylist(), rows["row_digest"].to_pylist()])
    manifest = cohort.manifest() if cohort.versions else None
    reasons = Counter(quarantine.column(["reason"])["reason"].to_pylist())
    if manifest is None or manifest.digest != digest:
        manifest = cohort.publish(
            config=config.model_dump(mode="json"),
            config_hash=config.config_hash(),
            parents=[],
            rows=rows.num_rows,
            digest=digest,
            mlflow_run_id=run.run_id,
            content={"atlas": atlas, "roi_names": list(roi_names), "quarantined": dict(reasons)},
        )
    ref = CohortRef(cohort.uri, manifest.version, manifest.digest)
    run.log_metrics({"scans": rows.num_rows, "quarantined": sum(reasons.values())})
    run.log_output(ref, manifest)
    return ref

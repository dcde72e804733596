"""The adjust room: learn a recipe's steps from a table's training subjects, apply them to all, publish a version."""

import logging

import pyarrow as pa
import pyarrow.compute as pc

from boldstream.adjust.apply import adjust_files
from boldstream.adjust.config import AdjustConfig
from boldstream.adjust.fit import POOLING, Fitted, Recipe, fit_or_find, restore
from boldstream.adjust.outputs import ADJUSTED, Outputs, check_newest, expected_rows
from boldstream.adjust.pooling import check_latents
from boldstream.adjust.refuse import quarantine_rows, refuse
from boldstream.adjust.rows import covariates_of, find_split, read_rows
from boldstream.analysis.adjustment import Adjustment
from boldstream.artifacts.adjustment import StoredAdjustment, open_adjustment
from boldstream.artifacts.embeddings import EmbeddingTable, embedding_tables, open_table
from boldstream.artifacts.keys import rows_in
from boldstream.artifacts.receipts import Receipts
from boldstream.errors import AdjustmentError, ConfigError
from boldstream.progress import Progress
from boldstream.refs import EmbeddingTableRef
from boldstream.storage import Warehouse
from boldstream.tracking import JobRun, job_run

FIGURES = ("epochs", "n_train", "n_train_subjects", "n_subjects_without_value")
"""What is logged of a trained query."""

logger = logging.getLogger(__name__)


def adjust_table(config: AdjustConfig) -> EmbeddingTableRef:
    """Apply a strategy's steps (attention, harmonize, project, residualize, z-score) to an embedding table.

    With ``strategy``, the steps are learnt from the table's training subjects and stored as an adjustment, version by
    version; the same training rows again give the version that is there. With ``adjustment``, a stored one is applied
    as it is and nothing is learnt: new scans get vectors in the same space as the old ones.

    Every row of the source ends in the output with the same key, or in its quarantine. The same command again goes on
    where a killed run stopped; with a newer version of the source it adjusts rows that are new or changed. Needs no
    Ray: one process streams through the source's files.

    Raises
    ------
    EmbeddingsError, CohortError
        If the table is not there, not whole, or adjusted already, or the output follows a newer version of it.
    ConfigError
        If the strategy cannot have made the table.
    AdjustmentError
        If the adjustment is not there or not whole, or is of another model; if rows lack a covariate or are of unseen
        sites (``refuse: run``); if the steps cannot be learnt from the training rows; if regions' latents are pooled
        and the table has none, or others.
    OutputExistsError
        If the output or the adjustment exists and was made with other settings.
    """
    source = open_table(config.table, config.warehouse)
    _check_source(config, source)
    with job_run("adjust", config.output, config) as run:
        run.log_parent(source.ref, source.manifest.rows)
        if config.adjustment is not None:
            stored = open_adjustment(config.adjustment, config.warehouse)
            if POOLING in stored.manifest.content:
                check_latents(source)
            check_fits(stored, source)
            run.log_parent(stored.ref, stored.manifest.rows)
            fitted = restore(stored, config)
            rows = read_rows(source, fitted.adjustment.needs)
        else:
            recipe = Recipe.of(config, source)
            rows = read_rows(source, recipe.reads)
            stored = fit_or_find(config, recipe, source, rows, find_split(config, source, rows["subject"]), run)
            run.log_output(stored.ref, stored.manifest)
            fitted = restore(stored, config)
        logger.info("adjust: with %s", stored.ref)
        return _apply(config, source, rows, stored, fitted, run)


def _check_source(config: AdjustConfig, source: EmbeddingTable) -> None:
    if "adjustment" in source.manifest.content:
        raise ConfigError(
            f"table: {source.label} is adjusted already; name the table that it was made from "
            f"({source.manifest.content['table']})"
        )
    output, _ = embedding_tables(Warehouse.at(config.warehouse), config.output)
    if source.ref.uri == output.uri:
        raise ConfigError(f"output: {config.output!r} is the table that is read; choose another name")
    if output.exists:
        check_newest(output, source)


def check_fits(stored: StoredAdjustment, source: EmbeddingTable) -> None:
    """Refuse an adjustment of other vectors: their dimensions mean something else.

    Raises
    ------
    AdjustmentError
    """
    learnt, told = stored.manifest.content, source.manifest.content
    if learnt["model_digest"] != told["model_digest"]:
        raise AdjustmentError(
            f"adjustment {stored.label} was fitted on vectors of model {learnt['model_digest'][:12]}, table "
            f"{source.label} has those of {told['model_digest'][:12]} ({told['model']}); fit one for this model"
        )
    theirs, ours = learnt["strategy"], told["strategy"]
    if differing := sorted(k for k in theirs.keys() & ours.keys() - {"id"} if theirs[k] != ours[k]):
        told_of = f"table {source.label} was made by {ours['id']!r}"
        raise AdjustmentError(
            f"adjustment {stored.label} was fitted on vectors of strategy {theirs['id']!r}, {told_of}; they differ in "
            f"{', '.join(differing)}; fit one for this strategy"
        )


def _apply(
    config: AdjustConfig,
    source: EmbeddingTable,
    rows: pa.Table,
    stored: StoredAdjustment,
    fitted: Fitted,
    run: JobRun,
) -> EmbeddingTableRef:
    """Adjust what the output lacks, and publish it."""
    adjustment, covariates = fitted.adjustment, covariates_of(rows)
    refusals = adjustment.lacking(covariates, rows.num_rows) + adjustment.foreign(covariates, rows.num_rows)
    refused = refuse(refusals, rows, config.refuse)
    kept = rows.filter(pa.array(~refused))
    outputs = Outputs.open(config, source, stored)
    expected = expected_rows(kept, stored)
    todo = kept.filter(pc.invert(rows_in(expected, outputs.vectors.refresh(), ADJUSTED, ADJUSTED)))
    _report(stored, adjustment, rows, int(refused.sum()), run)
    logger.info("adjust: %d of %d rows of %s to adjust", todo.num_rows, rows.num_rows, source.label)
    if todo.num_rows:
        table = outputs.vectors.table
        stamp = {
            "strategy_id": stored.manifest.content["strategy"]["id"],
            "adjustment_version": stored.ref.pointer,
            "adjustment_digest": stored.ref.digest,
        }
        receipts = adjust_files(source, todo, fitted, stamp, table.schema, table.uri)
        Receipts({"shard": outputs.vectors}, Progress(run, "adjust", todo.num_rows, "rows")).take(receipts)
    outputs.settle(expected, quarantine_rows(refusals, rows))
    return outputs.publish(expected, stored, fitted, config, run)


def _report(stored: StoredAdjustment, adjustment: Adjustment, rows: pa.Table, n_refused: int, run: JobRun) -> None:
    """Log the figures of an adjustment, and how many rows were treated in a way that the reader has to know of."""
    content, covariates = stored.manifest.content, covariates_of(rows)
    filled, unseen = adjustment.n_filled(covariates, rows.num_rows), adjustment.n_unseen(covariates, rows.num_rows)
    told = {"n_train": content["n_train"], "n_train_subjects": content["n_train_subjects"], **adjustment.dims()}
    told |= {f"imputed_{name}": n for name, n in filled.items()}
    if POOLING in content:
        told |= {f"attention_{name}": content[POOLING][name] for name in FIGURES}
    told |= {"quarantined": n_refused, "unseen_site_rows": unseen}
    if n_refused:
        logger.warning("adjust: %d of %d rows cannot be adjusted and go to quarantine", n_refused, rows.num_rows)
    measured = {name: value for name, value in content["nuisance"].items() if not isinstance(value, str)}
    run.log_metrics({name: float(value) for name, value in (told | measured).items()})
    if unseen and adjustment.unseen_site != "refuse":
        logger.warning("adjust: %d rows are of sites without training rows: %s", unseen, adjustment.unseen_site)
    for name, n in filled.items():
        if n:
            logger.warning("adjust: %s is filled in in %d rows", name, n)
    if why := content["nuisance"].get("not_measured"):
        logger.warning("adjust: site and motion were not looked for: %s", why)
    elif measured:
        logger.info("adjust: %s", ", ".join(f"{name} {value:.3g}" for name, value in measured.items()))

"""The nightly room: the other rooms through their doors, the gate, and promoting or not."""

import datetime
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from boldstream.artifacts.cohort import Cohort, open_cohort
from boldstream.artifacts.embeddings import EmbeddingTable, embedding_tables, open_table
from boldstream.embed import EmbedConfig, embed_cohort
from boldstream.errors import BoldstreamError, CohortError, ConfigError, HeldError, IncompleteError
from boldstream.ingest import IngestConfig, ingest_cohort
from boldstream.lease import Lease
from boldstream.nightly.config import NightlyConfig
from boldstream.nightly.gate import Gate
from boldstream.nightly.nights import Night, Step, keep_night, past_nights
from boldstream.nightly.page import check_page, write_page
from boldstream.nightly.plan import tell_plan
from boldstream.nightly.standing import Standing
from boldstream.refs import CohortRef, EmbeddingTableRef, Ref, split_pointer
from boldstream.registry import resolve_model
from boldstream.storage import Warehouse
from boldstream.tracking import JobRun, job_run

logger = logging.getLogger(__name__)

R = TypeVar("R", bound=Ref)


def run_nightly(config: NightlyConfig) -> EmbeddingTableRef | None:
    """Ingest what is new, embed what is missing, and promote the new version if it passes the quality gate.

    What a night does follows from what is there and not from the date, so a night that was missed is caught up by the
    next. One night of a table runs at a time (a lease beside the warehouse's tables). Whatever goes wrong, the
    champion stays what it was; the reasons are on the page, in MLflow and in the exit code. Returns the champion; with
    ``dry_run``, or where there is none yet, None.

    Raises
    ------
    ConfigError
        If the two configurations do not belong together, or the model is not the champion's and mode is ``add``.
    LeaseError
        If another night of this table is at work.
    HeldError
        If a version was made and did not pass the gate.
    IncompleteError
        If a version was promoted without scans that failed.
    BoldstreamError
        What a room refuses; no version was made.
    """
    ingest, embed = _configs(config)
    page = Path(config.page).expanduser().resolve()
    check_page(page)
    if config.dry_run:
        for line in tell_plan(ingest, embed, config):
            logger.info("nightly: %s", line)
        return None
    uri = Warehouse.at(embed.warehouse).location("leases", f"nightly-{embed.output}.json")
    with (
        Lease(uri, f"the nightly job of table {embed.output!r}", 60 * config.lease_minutes) as lease,
        job_run("nightly", embed.output, config) as run,
    ):
        started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        night = Night(started, run.run_id, embed.output, config.mode)
        try:
            return _work(ingest, embed, config, night, lease, run)
        except HeldError:
            raise
        except IncompleteError as error:
            night.reasons.append(str(error))
            raise
        except BoldstreamError as error:
            night.outcome = "failed"
            night.reasons.append(f"{type(error).__name__}: {error}")
            raise
        finally:
            _tell(night, page, embed.warehouse, run)


def _configs(config: NightlyConfig) -> tuple[IngestConfig | None, EmbedConfig]:
    """Read the rooms' configurations and see that they belong together."""
    ingest = IngestConfig.from_yaml(config.ingest) if config.ingest else None
    embed = EmbedConfig.from_yaml(config.embed)
    if ingest is not None:
        named, version = split_pointer(embed.cohort, field="cohort")
        if named.rpartition("/")[2] != ingest.output or version is not None:
            raise ConfigError(
                f"{config.embed}: cohort is {embed.cohort!r}, but {config.ingest} makes {ingest.output!r}; name that, "
                "without a version"
            )
        if Warehouse.at(ingest.warehouse) != Warehouse.at(embed.warehouse):
            raise ConfigError(
                f"{config.ingest} and {config.embed} name two warehouses, {ingest.warehouse!r} and {embed.warehouse!r}"
            )
    return ingest, embed


def _work(
    ingest: IngestConfig | None,
    embed: EmbedConfig,
    config: NightlyConfig,
    night: Night,
    lease: Lease,
    run: JobRun,
) -> EmbeddingTableRef:
    table, _ = embedding_tables(Warehouse.at(embed.warehouse), embed.output)
    standing = Standing.of(table)
    champion = open_table(f"{embed.output}@{standing.champion}", embed.warehouse) if standing.champion else None
    _stands(night, champion)
    night.champion_before = night.champion
    embed = _for_tonight(embed, config, champion)
    if ingest is not None:
        ingested = _timed(night, "ingest", lambda: ingest_cohort(ingest))
        embed = embed.model_copy(update={"cohort": ingested.pointer})
    cohort = open_cohort(embed.cohort, embed.warehouse)
    _count_scans(night, cohort, champion)
    made, incomplete = _embed(night, embed)
    candidate = open_table(made.pointer, embed.warehouse)
    night.candidate = made.version
    content = candidate.manifest.content
    night.counts |= {"vectors": candidate.manifest.rows}
    night.counts |= {name: int(content.get(name, 0)) for name in ("quarantined", "failed")}
    if champion is not None and made.digest == champion.ref.digest:
        night.outcome = "unchanged"
        ref = champion.ref
    else:
        _judge(night, config, candidate, champion, cohort, standing)
        lease.check()
        standing.promote(made, candidate.manifest)
        night.outcome = "promoted"
        _stands(night, candidate)
        ref = made
    run.log_output(ref, candidate.manifest)
    if incomplete is not None:
        raise IncompleteError(ref, incomplete)
    return ref


def _stands(night: Night, champion: EmbeddingTable | None) -> None:
    if champion is not None:
        night.champion, night.rows = champion.ref.version, champion.manifest.rows


def _for_tonight(embed: EmbedConfig, config: NightlyConfig, champion: EmbeddingTable | None) -> EmbedConfig:
    """Say whether the table may go over to another model: to a new one if told so, back to the champion's always.

    Raises
    ------
    ConfigError
    """
    model = resolve_model(embed.model)
    same = champion is None or champion.manifest.content.get("model_digest") == model.digest
    if not same and config.mode == "add":
        assert champion is not None
        raise ConfigError(
            f"the champion {champion.label} is of {champion.manifest.content.get('model')}, {config.embed} now means "
            f"{model.pointer}; mode: reembed embeds everything with it and promotes it if it passes the gate"
        )
    return embed.model_copy(update={"first_champion": False, "replace_model": True})


def _timed(night: Night, room: str, work: Callable[[], R]) -> R:
    started = time.monotonic()
    told = "stopped"
    try:
        ref = work()
        told = ref.pointer
        return ref
    except IncompleteError as error:
        told = f"{error.ref.pointer}, incomplete"
        raise
    finally:
        night.steps.append(Step(room, told, round(time.monotonic() - started, 1)))


def _embed(night: Night, embed: EmbedConfig) -> tuple[EmbeddingTableRef, str | None]:
    """Return the version, and what is missing from it if anything is."""
    try:
        return _timed(night, "embed", lambda: embed_cohort(embed)), None
    except IncompleteError as error:
        return error.ref, str(error)


def _cohort_of(table: EmbeddingTable, warehouse: Warehouse) -> Cohort | None:
    """Return the cohort version that a table version was made of, None where it was expired."""
    parent = next(one for one in table.manifest.parents if one.role == CohortRef.key)
    try:
        return open_cohort(f"{parent.uri}@{parent.version}", warehouse.uri)
    except CohortError:
        return None


def _count_scans(night: Night, cohort: Cohort, champion: EmbeddingTable | None) -> None:
    """Count what is new and gone beside the champion's rows."""
    keys = ["scan_key", "row_digest"]
    found = cohort.table.column(keys, cohort.ref.version)
    now = dict(zip(found["scan_key"].to_pylist(), found["row_digest"].to_pylist(), strict=True))
    held = champion.rows() if champion else None
    before = {} if held is None else dict(zip(held["scan_key"], held["scan_digest"], strict=True))
    night.counts |= {
        "scans": len(now),
        "added": len(now.keys() - before.keys()),
        "changed": sum(now[key] != before[key] for key in now.keys() & before.keys()),
        "removed": len(before.keys() - now.keys()),
    }


def _judge(
    night: Night,
    config: NightlyConfig,
    candidate: EmbeddingTable,
    champion: EmbeddingTable | None,
    cohort: Cohort,
    standing: Standing,
) -> None:
    """Let the gate judge the version.

    Raises
    ------
    HeldError
        If it does not pass.
    """
    started = time.monotonic()
    night.outcome = "held"  # unless it passes: an interruption promotes nothing
    before = _cohort_of(champion, candidate.table.warehouse) if champion else None
    verdict = Gate(config.gate, candidate, champion, cohort, before).judge()
    night.checks += [*standing.checks(candidate), *verdict.checks]
    night.steps.append(Step("gate", f"{len(night.checks)} checks", round(time.monotonic() - started, 1)))
    night.reasons += [f"{check.name}: {check.told}" for check in night.checks if check.passed is False]
    if night.reasons:
        stands = f"{candidate.manifest.name}@{night.champion} stays" if night.champion else "there is none yet"
        raise HeldError(
            candidate.ref,
            f"{candidate.label} is not promoted ({'; '.join(night.reasons)}); the champion: {stands}. If the version "
            f"is good: boldstream tables promote {candidate.label}",
        )


def _tell(night: Night, page: Path, warehouse: str, run: JobRun) -> None:
    """Keep the night, write the page, and tell MLflow."""
    keep_night(night, warehouse)
    write_page(night, past_nights(warehouse, night.table), page)
    run.log_file(page, "night")
    run.set_tags({"night.outcome": night.outcome, "night.reasons": "; ".join(night.reasons) or "none"})
    numbers = {f"gate.{check.name.replace(' ', '_')}": check.value for check in night.checks if check.value is not None}
    run.log_metrics({f"night.{name}": float(value) for name, value in night.counts.items()} | numbers)
    logger.info("nightly: %s", night.headline)

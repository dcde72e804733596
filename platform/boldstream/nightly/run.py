"""The nightly room: the other rooms through their doors, the gate, and promoting or not."""

import datetime
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from boldstream.adjust import AdjustConfig, adjust_table
from boldstream.artifacts.cohort import Cohort, cohort_tables, open_cohort
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
from boldstream.nightly.side import n_refused
from boldstream.nightly.standing import Line
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
    rooms = Rooms.read(config)
    page = Path(config.page).expanduser().resolve()
    check_page(page)
    if config.dry_run:
        for line in tell_plan(rooms.ingest, rooms.embed, config):
            logger.info("nightly: %s", line)
        return None
    warehouse, name = rooms.embed.warehouse, rooms.table
    uri = Warehouse.at(warehouse).location("leases", f"nightly-{rooms.embed.output}.json")
    with (
        Lease(uri, f"the nightly job of table {rooms.embed.output!r}", 60 * config.lease_minutes) as lease,
        job_run("nightly", name, config) as run,
    ):
        started = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        night = Night(started, run.run_id, name, config.mode)
        try:
            return _work(rooms, config, night, lease, run)
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
            _tell(night, page, warehouse, run)


@dataclass(frozen=True)
class Rooms:
    """The configurations of a night's rooms."""

    ingest: IngestConfig | None
    embed: EmbedConfig
    adjust: AdjustConfig | None

    @classmethod
    def read(cls, config: NightlyConfig) -> "Rooms":
        """Read the files, and see that they belong together.

        Raises
        ------
        ConfigError
        """
        ingest = IngestConfig.from_yaml(config.ingest) if config.ingest else None
        embed = EmbedConfig.from_yaml(config.embed)
        adjust = AdjustConfig.from_yaml(config.adjust) if config.adjust else None
        if ingest is not None:
            assert config.ingest is not None
            _check_names(embed.cohort, "cohort", config.embed, ingest.output, config.ingest)
            _check_warehouses(ingest.warehouse, config.ingest, embed.warehouse, config.embed)
        if adjust is not None:
            assert config.adjust is not None
            _check_names(adjust.table, "table", config.adjust, embed.output, config.embed)
            _check_warehouses(adjust.warehouse, config.adjust, embed.warehouse, config.embed)
            if adjust.adjustment is None:
                raise ConfigError(
                    f"{config.adjust}: names a strategy to be fitted; a night fits nothing, so that old vectors stay "
                    "as they are: run the adjust job once, and name its adjustment here"
                )
        return cls(ingest, embed, adjust)

    @property
    def table(self) -> str:
        """The table that people read: the adjusted one where there is one."""
        return self.adjust.output if self.adjust else self.embed.output


def _check_names(pointer: str, field: str, where: str, made: str, by: str) -> None:
    named, version = split_pointer(pointer, field=field)
    if named.rpartition("/")[2] != made or version is not None:
        raise ConfigError(
            f"{where}: {field} is {pointer!r}, but {by} makes {made!r}; name that, without a version or alias"
        )


def _check_warehouses(first: str, by: str, second: str, by_second: str) -> None:
    if Warehouse.at(first) != Warehouse.at(second):
        raise ConfigError(f"{by} and {by_second} name two warehouses, {first!r} and {second!r}")


def _work(rooms: Rooms, config: NightlyConfig, night: Night, lease: Lease, run: JobRun) -> EmbeddingTableRef:
    embed = rooms.embed
    place = Warehouse.at(embed.warehouse)
    lines = [Line.of(place, name) for name in dict.fromkeys((embed.output, rooms.table))]
    night.stands(lines[-1].champion)
    night.champion_before = night.champion
    embed = _for_tonight(embed, config, lines[0].champion)
    if (ingest := rooms.ingest) is not None:
        quarantine = cohort_tables(place, ingest.output)[1]
        refused = -n_refused(quarantine)
        ingested = _timed(night, "ingest", lambda: ingest_cohort(ingest))
        embed = embed.model_copy(update={"cohort": ingested.pointer})
        night.counts["refused by ingest"] = max(0, refused + n_refused(quarantine))
    cohort = open_cohort(embed.cohort, embed.warehouse)
    _count_scans(night, cohort, lines[0].champion)
    quarantine = embedding_tables(place, embed.output)[1]
    refused = -n_refused(quarantine)
    refs, incomplete = _make(night, embed, rooms.adjust)
    night.counts["refused by embed"] = max(0, refused + n_refused(quarantine))
    made = [open_table(ref.pointer, embed.warehouse) for ref in refs]
    night.candidate = made[-1].ref.version
    content = made[0].manifest.content
    night.counts |= {"vectors": made[-1].manifest.rows}
    night.counts |= {name: int(content.get(name, 0)) for name in ("quarantined", "failed")}
    changed = [(line, table) for line, table in zip(lines, made, strict=True) if not line.holds(table)]
    night.outcome = "held" if changed else "unchanged"  # held unless all pass: an interruption promotes nothing
    for line, table in changed:
        _judge(night, config, line, table, cohort, f"{line.name}: " if len(lines) > 1 else "")
    if night.reasons:
        raise _held(night, made[-1])
    for line, table in changed:
        lease.check()
        line.promote(table)
    stands = lines[-1].champion
    if changed:
        night.outcome, stands = "promoted", made[-1]
    assert stands is not None
    night.stands(stands)
    run.log_output(stands.ref, stands.manifest)
    missing = [*filter(None, [incomplete]), *_refusals(night, config)]
    if missing:
        raise IncompleteError(stands.ref, "; ".join(missing))
    return stands.ref


def _refusals(night: Night, config: NightlyConfig) -> list[str]:
    """Say so where most of what came tonight was refused: there may be no new version that tells it."""
    by_ingest, by_embed = (night.counts.get(f"refused by {room}", 0) for room in ("ingest", "embed"))
    came = night.counts["added"] + night.counts["changed"] + by_ingest
    if by_ingest + by_embed <= config.gate.max_set_aside * came:
        return []
    told = f"({by_ingest} in ingest, {by_embed} in embed)"
    return [f"{by_ingest + by_embed} of the {came} scans that came went to quarantine {told}"]


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


def _make(night: Night, embed: EmbedConfig, adjust: AdjustConfig | None) -> tuple[list[EmbeddingTableRef], str | None]:
    """Return the versions, and what is missing from them if anything is."""
    try:
        refs, incomplete = [_timed(night, "embed", lambda: embed_cohort(embed))], None
    except IncompleteError as error:
        refs, incomplete = [error.ref], str(error)
    if adjust is not None:
        told = adjust.model_copy(update={"table": refs[0].pointer, "first_champion": False})
        refs.append(_timed(night, "adjust", lambda: adjust_table(told)))
    return refs, incomplete


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
    night: Night, config: NightlyConfig, line: Line, candidate: EmbeddingTable, cohort: Cohort, prefix: str
) -> None:
    """Let the gate judge a version; what speaks against it goes to the night's reasons."""
    started = time.monotonic()
    before = _cohort_of(line.champion, candidate.table.warehouse) if line.champion else None
    asked = Gate(config.gate, candidate, line.champion, cohort, before).judge()
    found = [replace(check, name=prefix + check.name) for check in [*line.checks(candidate), *asked]]
    night.checks += found
    night.steps.append(Step("gate", f"{len(found)} checks of {candidate.label}", round(time.monotonic() - started, 1)))
    night.reasons += [f"{check.name}: {check.told}" for check in found if check.passed is False]


def _held(night: Night, candidate: EmbeddingTable) -> HeldError:
    stands = f"{candidate.manifest.name}@{night.champion} stays" if night.champion else "there is none yet"
    return HeldError(
        candidate.ref,
        f"{candidate.label} is not promoted ({'; '.join(night.reasons)}); the champion: {stands}. If the version is "
        f"good: boldstream tables promote {candidate.label}",
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

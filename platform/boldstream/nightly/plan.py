"""What a night would do, told without doing it."""

from collections.abc import Iterator

from boldstream.artifacts.cohort import cohort_tables
from boldstream.artifacts.embeddings import embedding_tables
from boldstream.embed import EmbedConfig
from boldstream.errors import few_of
from boldstream.ingest import IngestConfig, look_ahead
from boldstream.nightly.config import NightlyConfig
from boldstream.nightly.standing import Line
from boldstream.refs import split_pointer
from boldstream.registry import resolve_model
from boldstream.storage import Warehouse

NAMED = 5


def tell_plan(ingest: IngestConfig | None, embed: EmbedConfig, config: NightlyConfig) -> Iterator[str]:
    """Yield a line a step."""
    place = Warehouse.at(embed.warehouse)
    name, version = split_pointer(embed.cohort, field="cohort")
    cohort = cohort_tables(place, name.rpartition("/")[2])[0]
    stamps = ["scan_key", "row_digest"]
    now: dict[str, str] = {}
    if cohort.exists and cohort.versions:
        rows = cohort.column(stamps, cohort.manifest(version).version)
        now = dict(zip(rows["scan_key"].to_pylist(), rows["row_digest"].to_pylist(), strict=True))
    if ingest is None:
        yield f"ingest: none is configured; cohort {embed.cohort} has {len(now)} scans"
    else:
        found = look_ahead(ingest)
        parts = [f"{len(found.new)} to read{_named(found.new)}", f"{len(found.gone)} to let go{_named(found.gone)}"]
        yield f"ingest: {found.n_scans} scans in {ingest.source.root or ingest.source.kind}, {', '.join(parts)}"
        for key in found.gone:
            now.pop(key, None)
        now |= dict.fromkeys(found.new, "to be read")
    table, _ = embedding_tables(place, embed.output)
    line = Line.of(place, embed.output)
    model = resolve_model(embed.model)
    held: dict[str, str] = {}
    if table.exists and table.versions and table.run_settings().get("model_digest") == model.digest:
        rows = table.column(["scan_key", "scan_digest"], table.newest())
        held = dict(zip(rows["scan_key"].to_pylist(), rows["scan_digest"].to_pylist(), strict=True))
    todo = [key for key, digest in now.items() if held.get(key) != digest]
    why = " (all, with another model)" if table.exists and not held else ""
    yield f"embed: {len(todo)} of {len(now)} scans with {model.pointer}{why}{_named(todo)}"
    if config.adjust:
        yield f"adjust: what is embedded, as {config.adjust} says"
    champion = line.champion.label if line.champion else "none yet"
    yield f"gate: the new version beside the champion ({champion}), mode {config.mode}"
    yield "nothing was done (dry_run)"


def _named(keys: list[str]) -> str:
    return f" ({few_of(sorted(keys), NAMED)})" if keys else ""

"""What the commands print: columns that fit a terminal, and one sentence where one is enough."""

from collections.abc import Sequence

from boldstream.artifacts import cohort
from boldstream.artifacts.manifest import Manifest
from boldstream.errors import few_of
from boldstream.table_diff import N_NAMED, Diff, made_of
from boldstream.tables.champion import Moved
from boldstream.tables.cohort_diff import CohortDiff
from boldstream.tables.columns import columns
from boldstream.tables.diff import spread
from boldstream.tables.expiry import Expired
from boldstream.tables.export import Exported
from boldstream.tables.overview import Shown, TableLine
from boldstream.tracking import DIGEST_SHOWN

NONE = "-"
N_FILES_NAMED = 20


def say_list(lines: Sequence[TableLine], warehouse: str, has_registry: bool) -> str:
    """Print the listing."""
    if not lines:
        return f"no tables in warehouse {warehouse}; `boldstream ingest` makes a cohort, `boldstream embed` a table"
    head = ("kind", "name", "newest", "rows", "strategy", "model", "champion", "created (UTC)", "digest")
    text = columns([_line(line) for line in lines], head)
    return text if has_registry else f"{text}\n(no MLflow registry here tells the champions: set MLFLOW_TRACKING_URI)"


def _line(line: TableLine) -> tuple[str, ...]:
    kind = line.kind.rstrip("s")
    if line.manifest is None:
        return (kind, line.name, "unfinished", *[NONE] * 6)
    made, manifest = made_of(line.manifest), line.manifest
    return (
        kind,
        line.name,
        manifest.version,
        str(manifest.rows),
        made.get("strategy", NONE),
        made.get("model", NONE).removeprefix("models:/"),
        line.champion or NONE,
        _when(manifest),
        manifest.digest[:DIGEST_SHOWN],
    )


def _when(manifest: Manifest) -> str:
    return manifest.created_at[:16].replace("T", " ")


def say_show(shown: Shown) -> str:
    """Print all that is known of a version."""
    manifest = shown.version.manifest
    facts = [
        ("where", shown.version.ref.pointer),
        ("digest", f"sha256 {manifest.digest}"),
        ("aliases", ", ".join(shown.aliases) or "none"),
        ("rows", f"{manifest.rows} in {shown.n_files} Parquet file(s), {_size(shown.n_bytes)}"),
        *made_of(manifest).items(),
    ]
    if (quarantined := manifest.content.get("quarantined")) is not None:
        facts.append(("quarantined", _counted(quarantined)))
    if pending := manifest.content.get("pending"):
        facts.append(("still to apply", "; ".join(pending)))
    facts += [
        ("created", f"{_when(manifest)} UTC by boldstream {manifest.package_version}, git {manifest.git_sha or NONE}"),
        ("MLflow run", manifest.mlflow_run_id or "none"),
    ]
    if shown.version.table.kind != cohort.KIND:
        facts.append(("MLflow model", shown.registered or "not registered here; `promote` registers it"))
    kind = "cohort" if shown.version.is_cohort else "embedding table"
    parts = [f"{kind} {shown.version.label}", columns(facts)]
    parts += [
        "\nmade from",
        columns([(p.role, f"{p.uri} version {p.version}", p.digest[:DIGEST_SHOWN]) for p in manifest.parents]),
    ]
    if not manifest.parents:
        parts[-1] = str(manifest.config.get("source", "its sources"))
    parts += ["\nread by", _say_uses(shown), "\nversions, newest first", _say_story(shown)]
    return "\n".join(parts)


def _say_uses(shown: Shown) -> str:
    if shown.uses is None:
        return "not known: there is no MLflow store here (set MLFLOW_TRACKING_URI)"
    if not shown.uses:
        return "no MLflow run"
    return columns([(one.name, one.status, f"run {one.run_id}", ", ".join(one.made)) for one in shown.uses])


def _say_story(shown: Shown) -> str:
    rows = []
    for line in shown.story:
        aliases = f" ({', '.join(line.aliases)})" if line.aliases else ""
        version, rows_there = f"@{line.manifest.version}{aliases}", f"{line.manifest.rows} rows"
        rows.append(
            (version, _when(line.manifest), rows_there, line.manifest.digest[:DIGEST_SHOWN], "; ".join(line.changes))
        )
    return columns(rows)


def _counted(quarantined: object) -> str:
    if isinstance(quarantined, dict):
        return ", ".join(f"{n} x {reason}" for reason, n in quarantined.items()) or "0"
    return str(quarantined)


def _size(n_bytes: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.3g} TB"


def say_diff(diff: Diff) -> str:
    """Print a comparison."""
    lines = [f"{diff.first.label} -> {diff.second.label}"]
    lines += [f"  {text}" for text in diff.made_otherwise]
    lines.append("")
    lines.append(columns(diff_rows(diff), ("measure", "value", "by chance")))
    lines += [f"note: {text}" for text in diff_notes(diff)]
    for word, keys in (("added", diff.added), ("removed", diff.removed)):
        if keys:
            lines.append(f"{word}: {few_of(keys, N_NAMED)}")
    if diff.most_changed:
        named = (f"{one.key}{'' if one.cosine is None else f' (cosine {one.cosine:.4f})'}" for one in diff.most_changed)
        lines.append(f"moved most: {', '.join(named)}")
    return "\n".join(lines)


def say_cohort_diff(diff: CohortDiff) -> str:
    """Print a comparison of cohorts."""
    lines = [f"{diff.first.label} -> {diff.second.label}"]
    lines += [f"  {text}" for text in diff.made_otherwise]
    rows = [("added", diff.added), ("removed", diff.removed), ("changed", list(diff.changed))]
    for word, keys in rows:
        lines.append(f"scans {word}: {len(keys)}" + (f" ({few_of(keys, N_NAMED)})" if keys else ""))
    if diff.changed:
        told = ", ".join(f"{name} ({count})" for name, count in diff.columns.most_common())
        lines.append(f"changed in: {told or 'notes of how they were read'}")
    lines.append(f"scans the same: {diff.n_same}")
    return "\n".join(lines)


def diff_rows(diff: Diff) -> list[tuple[str, str, str]]:
    """Return measure, value and chance level of a comparison, as printed."""
    rows = [
        ("rows added", str(len(diff.added)), ""),
        ("rows removed", str(len(diff.removed)), ""),
        ("rows changed", f"{len(diff.changed)} of {diff.n_common} in both", ""),
    ]
    if (geometry := diff.geometry) is None:
        return rows
    if geometry.cosine is None:
        rows.append(("cosine", f"none: {geometry.n_dims[0]} and {geometry.n_dims[1]} dimensions", ""))
    else:
        rows.append(("cosine: median, 5 %, least", _three(spread(geometry.cosine)), ""))
    if diff.changed_cosine is not None:
        rows.append(("cosine of changed rows", _three(spread(diff.changed_cosine)), ""))
    return [
        *rows,
        ("linear CKA", f"{geometry.cka:.4f}", f"{geometry.cka_chance:.4f}"),
        (f"neighbours shared, of {geometry.k}", f"{geometry.overlap:.4f}", f"{geometry.overlap_chance:.4f}"),
        ("Procrustes error", f"{geometry.procrustes:.4f}", f"{geometry.procrustes_chance:.4f}"),
    ]


def _three(values: dict[str, float]) -> str:
    return ", ".join(f"{values[name]:.6f}" for name in ("median", "p5", "min"))


def diff_notes(diff: Diff) -> list[str]:
    """Return what has to be said beside the numbers."""
    if diff.geometry is None:
        return [f"geometry not compared: {diff.no_geometry}"]
    notes = []
    if diff.geometry.n < diff.n_common:
        notes.append(f"geometry of {diff.geometry.n} rows drawn from {diff.n_common} in both (seed {diff.seed})")
    if diff.is_other_model and diff.geometry.cosine is not None:
        notes.append(
            "two model versions made these vectors, so their axes differ: cosine says nothing; read the others"
        )
    if diff.geometry.n <= max(diff.geometry.n_dims):
        notes.append("no more rows than dimensions: CKA is high and Procrustes error low by chance; compare with that")
    return notes


def say_moved(moved: Moved) -> str:
    """Print what an alias means now."""
    if moved.before == moved.now:
        return f"{moved.name}@{moved.alias} is version {moved.now} already"
    return f"{moved.name}@{moved.alias} is version {moved.now} now (before: {moved.before or 'none'})"


def say_exported(done: Exported) -> str:
    """Print where a version was written."""
    text = f"{done.version.label}: {done.rows} rows in {done.target}"
    return f"{text} (left out: {', '.join(done.left_out)})" if done.left_out else text


def say_expired(done: Expired) -> str:
    """Print what went, or would go."""
    verb = "would go" if done.is_dry else "gone"
    gone = ", ".join(done.table.versions) or "none"
    kept = ", ".join(
        f"{version} ({', '.join(done.protected[version])})" if version in done.protected else version
        for version in done.table.kept
    )
    lines = [
        f"{done.name}: versions {verb}: {gone}; kept: {kept}",
        f"{verb}: {len(done.table.snapshots)} snapshots, {len(done.files)} files, {_size(done.n_bytes)}",
    ]
    if done.is_dry:
        lines += [f"  {file.path}" for file in done.files[:N_FILES_NAMED]]
        if len(done.files) > N_FILES_NAMED:
            lines.append(f"  … and {len(done.files) - N_FILES_NAMED} more")
    if done.table.young:
        lines.append(
            f"{len(done.table.young)} files that nothing refers to stay for now: they are younger than --grace-hours"
        )
    if done.left:
        told = ", ".join(f"{label} ({count})" for label, count in done.left.items())
        lines.append(
            f"embedding tables still hold scans that the cohort has let go: {told}; embed again, promote, and then "
            "`boldstream tables expire` them"
        )
    return "\n".join(lines)

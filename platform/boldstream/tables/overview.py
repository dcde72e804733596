"""What tables there are, and where one version comes from and goes to."""

from dataclasses import dataclass
from typing import Any

from boldstream.artifacts import cohort
from boldstream.artifacts.manifest import Manifest
from boldstream.artifacts.settings import differing_keys
from boldstream.artifacts.tables import VersionedTable
from boldstream.artifacts.versions import table_names
from boldstream.refs import CohortRef, EmbeddingTableRef
from boldstream.table_diff import made_of
from boldstream.table_registry import CHAMPION, RegisteredTable, has_registry, registered_table
from boldstream.tables.find import KINDS, Version, find_version, open_warehouse
from boldstream.tracking import DIGEST_SHOWN


@dataclass(frozen=True)
class TableLine:
    """One table or cohort, at its newest version; `manifest` is None while its first run has not finished."""

    kind: str
    name: str
    manifest: Manifest | None
    champion: str | None


@dataclass(frozen=True)
class VersionLine:
    """One version in the story of a table.

    Attributes
    ----------
    manifest : Manifest
    aliases : list of str
    changes : list of str
        What differs from the version before, in what it was made of: ``key: before -> now``.
    """

    manifest: Manifest
    aliases: list[str]
    changes: list[str]


@dataclass(frozen=True)
class Use:
    """An MLflow run that read a version."""

    run_id: str
    name: str
    job: str
    status: str
    made: list[str]


@dataclass(frozen=True)
class Shown:
    """All that is known of a version.

    Attributes
    ----------
    version : Version
    aliases : list of str
    n_files, n_bytes : int
        Its Parquet files.
    story : list of VersionLine
        All versions of the table, newest first.
    registered : str or None
        Its spelling in MLflow's registry, ``models:/table.<name>/<number>``.
    uses : list of Use or None
        None where there is no MLflow store to ask.
    """

    version: Version
    aliases: list[str]
    n_files: int
    n_bytes: int
    story: list[VersionLine]
    registered: str | None
    uses: list[Use] | None


def list_tables(warehouse: str) -> list[TableLine]:
    """List all embedding tables and cohorts of a warehouse.

    Raises
    ------
    StorageError
        If there is no such warehouse.
    """
    home = open_warehouse(warehouse)
    lines = []
    for kind, error in KINDS.items():
        for name in table_names(home, kind):
            table = VersionedTable(home, kind, name, error)
            manifest = table.manifest() if table.versions else None
            known = registered_table(table.uri) if kind != cohort.KIND else None
            champion = known.aliases[CHAMPION].version if known and CHAMPION in known.aliases else None
            lines.append(TableLine(kind, name, manifest, champion))
    return lines


def show_table(pointer: str, warehouse: str) -> Shown:
    """Tell all that is known of a version: what it was made of, its neighbours, who has read it.

    Raises
    ------
    ArtifactError
        If there is no such version.
    """
    found = find_version(pointer, warehouse)
    known = None if found.is_cohort else registered_table(found.table.uri)
    files = found.table.files(found.manifest.version)
    entry = known.find(found.manifest.version, found.manifest.digest) if known else None
    return Shown(
        version=found,
        aliases=_aliases(known, found.manifest),
        n_files=len(files),
        n_bytes=sum(file.size for file in files),
        story=_story(found.table, known),
        registered=f"models:/{known.name}/{entry.number}" if known and entry else None,
        uses=_uses(found.ref) if has_registry() else None,
    )


def _story(table: VersionedTable, known: RegisteredTable | None) -> list[VersionLine]:
    lines: list[VersionLine] = []
    before: Manifest | None = None
    for version in table.versions:
        manifest = table.manifest(version)
        changes = []
        if before is not None:
            changes = differing_keys(dict(made_of(before)), dict(made_of(manifest)))
            if (more := manifest.rows - before.rows) != 0:
                changes.append(f"{more:+d} rows")
        lines.append(VersionLine(manifest, _aliases(known, manifest), changes))
        before = manifest
    return lines[::-1]


def _aliases(known: RegisteredTable | None, manifest: Manifest) -> list[str]:
    if known is None:
        return []
    return sorted(
        a for a, one in known.aliases.items() if (one.version, one.digest) == (manifest.version, manifest.digest)
    )


def _uses(ref: CohortRef | EmbeddingTableRef) -> list[Use]:
    """Find the MLflow runs that logged the version as a dataset that they read, newest first."""
    import mlflow

    client = mlflow.MlflowClient()
    experiments = [one.experiment_id for one in client.search_experiments()]
    query = f"datasets.digest = '{ref.digest[:DIGEST_SHOWN]}' and datasets.context = '{ref.key}-input'"
    found, token = [], None
    while True:
        page = client.search_runs(experiments, query, page_token=token)
        found += [run for run in page if _has_read(run, ref)]
        if not (token := page.token):
            break
    return [
        Use(
            run.info.run_id,
            run.info.run_name,
            run.data.tags.get("boldstream.job", ""),
            run.info.status,
            [v for k, v in run.data.tags.items() if k.startswith("output.") and not k.endswith(".digest")],
        )
        for run in found
    ]


def _has_read(run: Any, ref: CohortRef | EmbeddingTableRef) -> bool:
    """Check the whole digest and URI: the search knows their beginnings only."""
    return any(
        {tag.key: tag.value for tag in one.tags}.get("uri") == ref.pointer
        and {tag.key: tag.value for tag in one.tags}.get("digest") == ref.digest
        for one in run.inputs.dataset_inputs
    )

"""Embedding tables in MLflow's model registry: every version registered, with aliases that people and jobs move."""

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boldstream.artifacts.manifest import Manifest
from boldstream.errors import EmbeddingsError
from boldstream.refs import EmbeddingTableRef
from boldstream.registry import TABLE_KIND, TABLE_PREFIX
from boldstream.tracking import DIGEST_SHOWN, SQLITE, JobRun, open_experiment, settled, tracking_address

CHAMPION = "champion"
HISTORY_KEPT = 200
"""Versions that an alias remembers to have meant: what `rollback` can go back to."""


@dataclass(frozen=True)
class RegisteredVersion:
    """One version of an embedding table as the registry knows it.

    Attributes
    ----------
    number : str
        The registry's own number; where versions were registered late or not at all, it is not the table's.
    version, digest : str
        Of the table.
    """

    number: str
    version: str
    digest: str


@dataclass(frozen=True)
class RegisteredTable:
    """What the registry knows of an embedding table.

    Attributes
    ----------
    name : str
        Of the registered model.
    versions : tuple of RegisteredVersion
        By number.
    aliases : dict of str to RegisteredVersion
    tags : dict of str to str
    """

    name: str
    versions: tuple[RegisteredVersion, ...]
    aliases: dict[str, RegisteredVersion]
    tags: dict[str, str]

    def find(self, version: str, digest: str) -> RegisteredVersion | None:
        """Return the entry of a version of the table, None where it is not registered."""
        return next((one for one in self.versions if (one.version, one.digest) == (version, digest)), None)

    def history(self, alias: str) -> list[str]:
        """Return the numbers that an alias has meant, oldest first, up to now; those taken back are not among them."""
        numbers = [number for number in self.tags.get(f"history.{alias}", "").split(",") if number]
        now = self.aliases.get(alias)
        return numbers if now is None or numbers[-1:] == [now.number] else [*numbers, now.number]

    def taken_back(self, alias: str) -> tuple[RegisteredVersion, ...]:
        """Return the versions that an alias meant until a person rolled back, and has not meant again since."""
        numbers = self.tags.get(f"taken_back.{alias}", "").split(",")
        return tuple(one for one in self.versions if one.number in numbers)


def has_registry() -> bool:
    """Say whether the registry is there; asking a SQLite file that is not would make one."""
    address = tracking_address()
    return not address.startswith(SQLITE) or Path(address.removeprefix(SQLITE)).exists()


def registered_table(uri: str) -> RegisteredTable | None:
    """Look up what the registry knows of the embedding table at a URI, None where it knows nothing."""
    import mlflow

    if not has_registry():
        return None
    client = mlflow.MlflowClient()
    matches = client.search_registered_models(f"tags.table_key = '{_table_key(uri)}'", max_results=1)
    if not matches:
        return None
    found = matches[0]
    entries = {
        str(one.version): RegisteredVersion(str(one.version), one.tags["table_version"], one.tags["digest"])
        for one in _all_versions(client, found.name)
        if one.tags.get("kind") == TABLE_KIND
    }
    aliases = {alias: entries[str(number)] for alias, number in found.aliases.items() if str(number) in entries}
    return RegisteredTable(
        found.name, tuple(sorted(entries.values(), key=lambda one: int(one.number))), aliases, dict(found.tags)
    )


def _all_versions(client: Any, name: str) -> list[Any]:
    found, token = [], None
    while True:
        page = client.search_model_versions(f"name = '{name}'", page_token=token)
        found += page
        if not (token := page.token):
            return found


def _table_key(uri: str) -> str:
    """Return what the registry finds a table by: filters cannot quote every URI."""
    return hashlib.sha256(uri.encode()).hexdigest()[:32]


def register_table_version(
    ref: EmbeddingTableRef, manifest: Manifest, run: JobRun | None = None, *, first_champion: bool = True
) -> RegisteredVersion:
    """Register a version of an embedding table, unless it is registered already; the first becomes champion, if wished.

    The registered model is ``table.<name>`` (with a part of the URI's hash where another warehouse has the name). The
    version is tied to the run that the manifest names, or to `run`; its artifact is the manifest, its tags say what
    the table was made of and where it is.
    """
    import mlflow

    client = mlflow.MlflowClient()
    run_id, experiment = _run_behind(client, manifest.mlflow_run_id, run.run_id if run else None)
    known = registered_table(ref.uri)
    found = known.find(ref.version, ref.digest) if known else None
    if found is None:
        name = known.name if known else _create_registered_table(client, ref, manifest)
        _create_table_version(client, name, ref, manifest, run_id, experiment)
        known = registered_table(ref.uri)
        assert known is not None
        found = known.find(ref.version, ref.digest)
        assert found is not None  # the lowest, where two runs have registered it at once
        for one in known.versions:
            if (one.version, one.digest) == (ref.version, ref.digest) and one.number != found.number:
                _delete_twin(client, known.name, one.number)
    if first_champion and known is not None and CHAMPION not in known.aliases and not known.history(CHAMPION):
        move_alias(known, CHAMPION, found, [found.number])
    return found


def _delete_twin(client: Any, name: str, number: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.delete_model_version(name, number)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":  # the other run was faster
            raise


def move_alias(
    table: RegisteredTable, alias: str, to: RegisteredVersion, history: list[str], *, back: bool = False
) -> None:
    """Let an alias of a table mean a version, and note what it has meant up to this version.

    `back` says that what it means now is taken back: jobs are not to promote that again by themselves.
    """
    import mlflow

    client = mlflow.MlflowClient()
    # The alias first: a history that was not written is mended from the alias by the next one that reads it.
    settled(client.set_registered_model_alias, table.name, alias, to.number)
    settled(client.set_registered_model_tag, table.name, f"history.{alias}", ",".join(history[-HISTORY_KEPT:]))
    now = table.aliases.get(alias)
    before = {one.number for one in table.taken_back(alias)}
    taken_back = (before | {now.number} if back and now else before) - {to.number}
    if taken_back != before:
        told = ",".join(sorted(taken_back, key=int)[-HISTORY_KEPT:])
        settled(client.set_registered_model_tag, table.name, f"taken_back.{alias}", told)


def promote_version(uri: str, alias: str, to: RegisteredVersion, *, back: bool = False) -> None:
    """Let an alias of the table at a URI mean a registered version, at the end of what it has meant.

    `back` goes back in that history to where the version stands, if it does, and takes back what is meant now.
    """
    known = registered_table(uri)
    assert known is not None
    history = known.history(alias)
    if back and to.number in history:
        history = history[: history.index(to.number)]
    if history[-1:] != [to.number]:
        history.append(to.number)
    move_alias(known, alias, to, history, back=back)


def mark_expired(table: RegisteredTable, version: RegisteredVersion) -> None:
    """Note in the registry that a version's files are gone; what is known of it stays."""
    import mlflow

    mlflow.MlflowClient().set_model_version_tag(table.name, version.number, "expired", "true")


def resolve_table_alias(uri: str, alias: str) -> RegisteredVersion:
    """Return the version of an embedding table that an alias means now.

    Raises
    ------
    EmbeddingsError
        If the registry does not know the table, or the alias.
    """
    known = registered_table(uri)
    name = uri.rpartition("/")[2]
    if known is None or alias not in known.aliases:
        aliases = ", ".join(sorted(known.aliases)) if known and known.aliases else "none"
        raise EmbeddingsError(
            f"table {name!r} has no version or alias {alias!r} in the registry at {tracking_address()} (aliases there: "
            f"{aliases}); set MLFLOW_TRACKING_URI to the registry that has it, or give it to a version with "
            f"`boldstream tables promote {name}@VERSION --alias {alias}`"
        )
    return known.aliases[alias]


def _run_behind(client: Any, *candidates: str | None) -> tuple[str | None, str]:
    """Return the first of the runs that this store has, with its experiment; boldstream's own where it has none."""
    from mlflow.exceptions import MlflowException

    for run_id in filter(None, candidates):
        try:
            return run_id, str(client.get_run(run_id).info.experiment_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
    return None, open_experiment()


def _create_registered_table(client: Any, ref: EmbeddingTableRef, manifest: Manifest) -> str:
    from mlflow.exceptions import MlflowException

    key = _table_key(ref.uri)
    text = f"Embedding table `{ref.uri}`. Its versions are the table's; `boldstream tables show {ref.uri}` tells more."
    for name in (f"{TABLE_PREFIX}{manifest.name}", f"{TABLE_PREFIX}{manifest.name}.{key[:8]}"):
        try:
            client.create_registered_model(
                name, tags={"kind": TABLE_KIND, "uri": ref.uri, "table_key": key}, description=text
            )
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            if client.get_registered_model(name).tags.get("table_key") != key:
                continue  # a table of another warehouse
        return name
    raise EmbeddingsError(
        f"the registry at {tracking_address()} has a registered model {name!r} that is not this embedding table; "
        "rename it there"
    )


def _create_table_version(
    client: Any, name: str, ref: EmbeddingTableRef, manifest: Manifest, run_id: str | None, experiment: str
) -> None:
    tags = table_tags(ref, manifest)
    logged = client.create_logged_model(
        experiment, manifest.name, source_run_id=run_id, tags=tags, model_type=TABLE_KIND
    )
    with tempfile.TemporaryDirectory() as scratch:
        Path(scratch, "manifest.json").write_text(manifest.model_dump_json(indent=1), encoding="utf-8")
        client.log_model_artifacts(logged.model_id, scratch)
    client.finalize_logged_model(logged.model_id, "READY")
    lines = [f"`{ref.pointer}` (sha256 `{ref.digest[:DIGEST_SHOWN]}`), {manifest.rows} rows"]
    lines += [f"{one.role} `{one.uri}` version {one.version}" for one in manifest.parents]
    client.create_model_version(
        name,
        # A table is no folder that a tracking server would take as a source; its manifest, logged above, is.
        source=f"models:/{logged.model_id}",
        run_id=run_id,
        model_id=logged.model_id,
        tags=tags,
        description="".join(f"- {line}\n" for line in lines),
    )


def table_tags(ref: EmbeddingTableRef, manifest: Manifest) -> dict[str, str]:
    """Return what the registry's page says of a version of a table."""
    content = manifest.content
    parents = {one.role: one for one in manifest.parents}
    tags = {
        "kind": TABLE_KIND,
        "table": ref.pointer,
        "table_version": ref.version,
        "digest": ref.digest,
        "rows": str(manifest.rows),
        "iceberg_snapshot": str(content.get("iceberg_snapshot", "")),
        "git_sha": manifest.git_sha or "",
        "strategy": str(content.get("strategy", {}).get("id", "")),
        "model_version": str(content.get("model", "")),
        "quarantined": str(content.get("quarantined", "")),
        "cohort": f"{parents['cohort'].uri}@{parents['cohort'].version}" if "cohort" in parents else "",
    }
    return {key: value for key, value in tags.items() if value}

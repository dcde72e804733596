"""Let an alias of an embedding table mean another version, and take that back."""

from dataclasses import dataclass

from boldstream.artifacts.tables import VersionedTable
from boldstream.artifacts.versions import resolve_version
from boldstream.errors import ConfigError, EmbeddingsError
from boldstream.refs import EmbeddingTableRef, check_alias
from boldstream.table_registry import (
    CHAMPION,
    RegisteredVersion,
    move_alias,
    promote_version,
    register_table_version,
    registered_table,
)
from boldstream.tables.find import Version, check_embeddings, find_embeddings, find_table


@dataclass(frozen=True)
class Moved:
    """An alias and what it meant before (None: nothing), and means now."""

    name: str
    alias: str
    before: str | None
    now: str


def promote_table(pointer: str, warehouse: str, alias: str = CHAMPION) -> Moved:
    """Let an alias mean a version of an embedding table, registering the version if need be.

    Raises
    ------
    ArtifactError
        If there is no such version.
    ConfigError
        If the alias is none, or the pointer leaves the version open.
    """
    _check_alias(alias)
    if find_table(pointer, warehouse)[1] is None:
        raise ConfigError(f"promote: {pointer!r} leaves the version open; write {pointer}@2, for example")
    found = find_embeddings(pointer, warehouse)
    return _move(found, alias, back=False)


def rollback_table(pointer: str, warehouse: str, to: str | None = None, alias: str = CHAMPION) -> Moved:
    """Let an alias mean again what it meant before its last promotion, or the version named.

    Versions that were taken back are skipped the next time, and so are expired ones.

    Raises
    ------
    ArtifactError
        If there is no such table or version, or nothing to go back to.
    """
    _check_alias(alias)
    table, version = find_table(pointer, warehouse)
    check_embeddings(table)
    if version is not None:
        raise ConfigError(f"rollback: name the table without a version, and the version with --to {version}")
    if to is not None:
        return _move(Version(table, table.manifest(resolve_version(table, to))), alias, back=True)
    known = registered_table(table.uri)
    if known is None or alias not in known.aliases:
        raise EmbeddingsError(f"table {table.name!r} has no {alias} yet, so there is nothing to go back from")
    numbers = {one.number: one for one in known.versions}
    now = known.aliases[alias]
    history = known.history(alias)[:-1]
    while history:
        before = numbers.get(history[-1])
        if before is not None and before != now and _is_there(table, before):
            move_alias(known, alias, before, history, back=True)
            return Moved(table.name, alias, now.version, before.version)
        history.pop()
    raise EmbeddingsError(
        f"table {table.name!r} had no {alias} before version {now.version} that is still there; name a version with "
        f"--to (there: {', '.join(table.versions)})"
    )


def _is_there(table: VersionedTable, one: RegisteredVersion) -> bool:
    return one.version in table.versions and table.manifest(one.version).digest == one.digest


def _move(found: Version, alias: str, *, back: bool) -> Moved:
    ref = found.ref
    assert isinstance(ref, EmbeddingTableRef)
    before = registered_table(ref.uri)
    entry = register_table_version(ref, found.manifest)
    promote_version(ref.uri, alias, entry, back=back)
    old = before.aliases.get(alias) if before else None
    return Moved(found.manifest.name, alias, old.version if old else None, found.manifest.version)


def _check_alias(alias: str) -> None:
    try:
        check_alias(alias)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    if alias.isdigit():
        raise ConfigError(f"alias: {alias!r} could be a version; use a word")

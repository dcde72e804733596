"""Which version of a table counts, which were taken back by a person, and how another comes to count."""

from dataclasses import dataclass

from boldstream.artifacts.embeddings import EmbeddingTable
from boldstream.artifacts.manifest import Manifest
from boldstream.artifacts.tables import VersionedTable
from boldstream.nightly.gate import Check
from boldstream.refs import EmbeddingTableRef
from boldstream.table_registry import (
    CHAMPION,
    RegisteredTable,
    RegisteredVersion,
    move_alias,
    register_table_version,
    registered_table,
)


@dataclass(frozen=True)
class Standing:
    """What the registry knows of a table.

    Attributes
    ----------
    champion : str or None
        Version of the table.
    known : RegisteredTable or None
    taken_back : tuple of RegisteredVersion
        Versions that were champion until a person rolled back.
    """

    champion: str | None
    known: RegisteredTable | None
    taken_back: tuple[RegisteredVersion, ...]

    @classmethod
    def of(cls, table: VersionedTable) -> "Standing":
        """Look a table up."""
        known = registered_table(table.uri) if table.exists else None
        if known is None:
            return cls(None, None, ())
        champion = known.aliases.get(CHAMPION)
        return cls(champion.version if champion else None, known, known.taken_back(CHAMPION))

    def checks(self, candidate: EmbeddingTable) -> list[Check]:
        """Say whether a person has taken back this version, or the model that it is of."""
        if self.champion is None or not self.taken_back:
            return []
        versions = [one.version for one in self.taken_back]
        digests = {one.digest for one in self.taken_back}
        model = candidate.manifest.content.get("model_digest")
        table = candidate.table
        there = {version: table.manifest(version).content.get("model_digest") for version in table.versions}
        if candidate.ref.digest in digests:
            return [Check("taken back", False, f"version {', '.join(versions)} with the same vectors was rolled back")]
        models = {there[version] for version in versions if version in there} - {there.get(self.champion)}
        return [
            Check(
                "taken back",
                model not in models,
                f"{candidate.manifest.content.get('model')} was rolled back with version {', '.join(versions)}"
                if model in models
                else f"version {', '.join(versions)} was rolled back; this one is another",
            )
        ]

    def promote(self, ref: EmbeddingTableRef, manifest: Manifest) -> None:
        """Let the alias mean a version from now on."""
        entry = register_table_version(ref, manifest, first_champion=False)
        known = registered_table(ref.uri)
        assert known is not None
        history = known.history(CHAMPION)
        move_alias(known, CHAMPION, entry, history if history[-1:] == [entry.number] else [*history, entry.number])

"""Which version of a table counts, which were taken back by a person, and how another comes to count."""

from dataclasses import dataclass

from boldstream.artifacts.embeddings import EmbeddingTable, embedding_tables, open_table
from boldstream.nightly.gate import Check
from boldstream.storage import Warehouse
from boldstream.table_registry import (
    CHAMPION,
    RegisteredVersion,
    promote_version,
    register_table_version,
    registered_table,
)


@dataclass(frozen=True)
class Line:
    """A table over its nights, as the registry knows it.

    Attributes
    ----------
    name : str
    champion : EmbeddingTable or None
        The version that counts, None on the first night.
    taken_back : tuple of RegisteredVersion
        Versions that were champion until a person rolled back.
    """

    name: str
    champion: EmbeddingTable | None
    taken_back: tuple[RegisteredVersion, ...]

    @classmethod
    def of(cls, warehouse: Warehouse, name: str) -> "Line":
        """Look a table up."""
        table, _ = embedding_tables(warehouse, name)
        known = registered_table(table.uri) if table.exists else None
        if known is None or CHAMPION not in known.aliases:
            return cls(name, None, ())
        return cls(name, open_table(f"{name}@{CHAMPION}", warehouse.uri), known.taken_back(CHAMPION))

    def holds(self, candidate: EmbeddingTable) -> bool:
        """Say whether the champion has just these vectors."""
        return self.champion is not None and self.champion.ref.digest == candidate.ref.digest

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
        models = {there[version] for version in versions if version in there} - {
            self.champion.manifest.content.get("model_digest")
        }
        return [
            Check(
                "taken back",
                model not in models,
                f"{candidate.manifest.content.get('model')} was rolled back with version {', '.join(versions)}"
                if model in models
                else f"version {', '.join(versions)} was rolled back; this one is another",
            )
        ]

    def promote(self, table: EmbeddingTable) -> None:
        """Let the alias mean a version from now on."""
        entry = register_table_version(table.ref, table.manifest, first_champion=False)
        promote_version(table.ref.uri, CHAMPION, entry)

"""What has changed between two embedding table versions: rows, vectors, and the geometry of the rows they share."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from boldstream.analysis.compare import Comparison, compare, paired_cosine
from boldstream.artifacts.manifest import Manifest, Parent
from boldstream.artifacts.settings import differing_keys
from boldstream.artifacts.tables import VersionedTable
from boldstream.artifacts.versions import iter_batches
from boldstream.errors import ConfigError
from boldstream.refs import Ref

FEWEST = 3
INTERESTING = ("strategy", "model", "cohort", "parts", "precision")
"""What a manifest tells of how vectors were made."""
N_NAMED = 10
"""Scans that are named: the first added and removed, the most changed."""


class Version(Protocol):
    """One version of a table, whoever opened it."""

    @property
    def table(self) -> VersionedTable:
        """The table."""

    @property
    def manifest(self) -> Manifest:
        """The version's."""

    @property
    def label(self) -> str:
        """Short name: ``name@version``."""

    @property
    def ref(self) -> Ref:
        """Its reference."""


@dataclass(frozen=True)
class Moved:
    """A scan whose vector is another one: its cosine (None between other dimensions) and how far it moved."""

    key: str
    cosine: float | None
    moved: float


@dataclass(frozen=True)
class Diff:
    """Two versions compared.

    Attributes
    ----------
    first, second : Version
    made_otherwise : list of str
        What differs in what they were made of, ``key: first -> second``.
    added, removed, changed : list of str
        Row keys (scans, or parts of scans); changed ones are in both, with another vector.
    n_same : int
        Rows in both with the same vector, bit by bit.
    keys : list of str
        The rows in both that were compared: all, or a random sample.
    geometry : Comparison or None
        Of these; None where they are too few or cannot be compared.
    no_geometry : str
        Why there is none.
    most_changed : list of Moved
        The rows that moved most, among those compared and changed.
    changed_cosine : array or None
        Cosines of the changed rows alone (a random sample of them), where there are unchanged ones too.
    seed : int
    """

    first: Version
    second: Version
    made_otherwise: list[str]
    added: list[str]
    removed: list[str]
    changed: list[str]
    n_same: int
    keys: list[str]
    geometry: Comparison | None
    no_geometry: str
    most_changed: list[Moved]
    changed_cosine: NDArray[np.float64] | None
    seed: int

    @property
    def n_common(self) -> int:
        """Rows in both."""
        return len(self.changed) + self.n_same

    @property
    def is_other_model(self) -> bool:
        """Whether two encoders made the vectors: then their axes have nothing to do with each other."""
        return bool(self.first.manifest.content.get("model_digest") != self.second.manifest.content.get("model_digest"))


def compare_versions(first: Version, second: Version, *, max_scans: int, seed: int = 0) -> Diff:
    """Compare two versions."""
    if max_scans < FEWEST:
        raise ConfigError(f"--max-scans: at least {FEWEST} are needed to compare, got {max_scans}")
    a, b = _digests(first), _digests(second)
    common = sorted(a.keys() & b.keys())
    changed = [key for key in common if a[key] != b[key]]
    rng = np.random.default_rng(seed)
    keys = _draw(rng, common, max_scans)
    drawn_changed = _draw(rng, changed, max_scans)
    x, y = (read_vectors(version, {*keys, *drawn_changed}) for version in (first, second))
    geometry, reason = _geometry(x, y, keys, seed)
    changed_cosine = None
    if geometry is not None and geometry.cosine is not None and 0 < len(changed) < len(common):
        changed_cosine = paired_cosine(*(np.stack([v[key] for key in drawn_changed]) for v in (x, y)))
    return Diff(
        first=first,
        second=second,
        made_otherwise=differing_keys(dict(made_of(first.manifest)), dict(made_of(second.manifest))),
        added=sorted(b.keys() - a.keys()),
        removed=sorted(a.keys() - b.keys()),
        changed=changed,
        n_same=len(common) - len(changed),
        keys=keys,
        geometry=geometry,
        no_geometry=reason,
        most_changed=_most_changed(geometry, keys, set(changed)),
        changed_cosine=changed_cosine,
        seed=seed,
    )


def _digests(version: Version) -> dict[str, str]:
    table = version.table.column(["row_key", "vector_sha256"], version.manifest.version)
    return dict(zip(table["row_key"].to_pylist(), table["vector_sha256"].to_pylist(), strict=True))


def _draw(rng: np.random.Generator, keys: list[str], most: int) -> list[str]:
    if len(keys) <= most:
        return keys
    return [keys[i] for i in sorted(rng.choice(len(keys), most, replace=False))]


def read_vectors(version: Version, keys: Collection[str]) -> dict[str, NDArray[np.float32]]:
    """Read the vectors of some rows by key, a batch at a time."""
    version.table.check_files(version.manifest.version)
    wanted, found = pa.array(sorted(keys), pa.string()), {}
    for batch in iter_batches(version.table, version.manifest.version, ["row_key", "embedding"]):
        rows = batch.filter(pc.is_in(batch["row_key"].cast(pa.string()), value_set=wanted))
        for key, vector in zip(rows["row_key"].to_pylist(), rows["embedding"], strict=True):
            found[key] = np.asarray(vector.values, dtype=np.float32)
    return found


def _geometry(
    x: dict[str, NDArray[np.float32]], y: dict[str, NDArray[np.float32]], keys: list[str], seed: int
) -> tuple[Comparison | None, str]:
    if len(keys) < FEWEST:
        return None, f"{len(keys)} rows are in both; at least {FEWEST} are needed"
    try:
        return compare(*(np.stack([vectors[key] for key in keys]) for vectors in (x, y)), seed=seed), ""
    except ValueError as error:
        # What the tables hold is the answer here: a collapsed or broken one is what somebody is looking for.
        return None, str(error)


def _most_changed(geometry: Comparison | None, keys: list[str], changed: set[str]) -> list[Moved]:
    if geometry is None:
        return []
    order = [i for i in np.argsort(-geometry.moved, kind="stable") if keys[i] in changed]
    return [
        Moved(keys[i], None if geometry.cosine is None else float(geometry.cosine[i]), float(geometry.moved[i]))
        for i in order[:N_NAMED]
    ]


def made_of(manifest: Manifest) -> dict[str, str]:
    """Return what determines a version, in the words of the listing: parents and settings."""
    content = manifest.content
    found = {parent.role: _parent_text(parent) for parent in manifest.parents}
    for name in INTERESTING:
        value: Any = content.get(name)
        if isinstance(value, dict):
            value = value.get("id")
        if value is not None and name not in found:
            found[name] = str(value)
    return found


def _parent_text(parent: Parent) -> str:
    if parent.uri.startswith("models:/"):
        return f"{parent.uri}/{parent.version}"
    return f"{parent.uri.rpartition('/')[2]}@{parent.version}"

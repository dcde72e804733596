"""What has changed between two embedding table versions: scans, vectors, and the geometry of the scans they share."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boldstream.analysis.compare import Comparison, compare, paired_cosine
from boldstream.artifacts.settings import differing_keys
from boldstream.errors import ConfigError, OutputExistsError
from boldstream.storage import publish_folder
from boldstream.tables.find import Version, find_embeddings
from boldstream.tables.limits import MAX_SCANS
from boldstream.tables.overview import made_of
from boldstream.tables.vectors import read_vectors

FEWEST = 3
N_NAMED = 10
"""Scans that are named: the first added and removed, the most changed."""


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


def diff_tables(
    first: str, second: str, warehouse: str, out: str | None = None, *, max_scans: int = MAX_SCANS, seed: int = 0
) -> tuple[Diff, Path]:
    """Compare two versions and write a page, its picture and the numbers into a folder.

    Parameters
    ----------
    first, second : str
        Pointers: ``name@3``, ``name@champion``, ``other-name``, ….
    warehouse : str
    out : str, optional
        The folder; ``diff-A-B`` in the working directory if not given.
    max_scans, seed : int
        So many of the rows in both are compared, drawn with this seed.

    Raises
    ------
    ArtifactError
        If a version is not there, or is damaged.
    OutputExistsError
        If the folder holds something else than an earlier comparison.
    """
    from boldstream.tables.page import NUMBERS, write_page

    a, b = find_embeddings(first, warehouse), find_embeddings(second, warehouse)
    folder = Path(out) if out is not None else Path(f"diff-{a.label}-{b.label}")
    if folder.exists() and not (folder / NUMBERS).is_file() and not (folder.is_dir() and not any(folder.iterdir())):
        raise OutputExistsError(f"--out: {folder} exists and holds no comparison; choose another folder")
    found = compare_versions(a, b, max_scans=max_scans, seed=seed)
    with publish_folder(folder) as draft:
        write_page(found, draft)
        (draft / NUMBERS).write_text(json.dumps(numbers_of(found), indent=1, ensure_ascii=False) + "\n", "utf-8")
    return found, folder


def compare_versions(first: Version, second: Version, *, max_scans: int = MAX_SCANS, seed: int = 0) -> Diff:
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


def spread(values: NDArray[np.float64]) -> dict[str, float]:
    """Return the median, the 5th percentile and the least of cosines."""
    return {"median": float(np.median(values)), "p5": float(np.percentile(values, 5)), "min": float(values.min())}


def numbers_of(diff: Diff) -> dict[str, Any]:
    """Return every number as JSON types."""
    found: dict[str, Any] = {}
    if (geometry := diff.geometry) is not None:
        found = {
            "n": geometry.n,
            "n_dims": list(geometry.n_dims),
            "cosine": None if geometry.cosine is None else spread(geometry.cosine),
            "cosine_of_changed": None if diff.changed_cosine is None else spread(diff.changed_cosine),
            "cka": {"value": geometry.cka, "chance": geometry.cka_chance},
            "neighbour_overlap": {"k": geometry.k, "value": geometry.overlap, "chance": geometry.overlap_chance},
            "procrustes_error": {"value": geometry.procrustes, "chance": geometry.procrustes_chance},
        }
    return {
        "first": {"table": diff.first.ref.pointer, "digest": diff.first.ref.digest, **made_of(diff.first.manifest)},
        "second": {"table": diff.second.ref.pointer, "digest": diff.second.ref.digest, **made_of(diff.second.manifest)},
        "made_otherwise": diff.made_otherwise,
        "rows": {
            "added": len(diff.added),
            "removed": len(diff.removed),
            "changed": len(diff.changed),
            "same": diff.n_same,
        },
        "added": diff.added,
        "removed": diff.removed,
        "changed": diff.changed,
        "geometry": found or None,
        "no_geometry": diff.no_geometry or None,
        "most_changed": [dataclasses.asdict(one) for one in diff.most_changed],
        "seed": diff.seed,
    }

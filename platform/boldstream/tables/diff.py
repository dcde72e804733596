"""`boldstream tables diff`: two versions compared, written as a page, its picture and the numbers."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boldstream.errors import OutputExistsError
from boldstream.storage import publish_folder
from boldstream.table_diff import Diff, compare_versions, made_of
from boldstream.tables.find import find_embeddings
from boldstream.tables.limits import MAX_SCANS


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

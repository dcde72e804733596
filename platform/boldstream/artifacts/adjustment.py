"""The fitted adjustment: what a strategy's steps have learnt from training rows, a folder a version."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boldstream.artifacts.folders import (
    FolderKind,
    folder_of,
    folder_versions,
    next_version,
    read_manifest,
)
from boldstream.artifacts.manifest import Manifest, Parent
from boldstream.config import digest_json
from boldstream.errors import AdjustmentError, ArtifactError, StorageError
from boldstream.refs import AdjustmentRef
from boldstream.storage import Warehouse, read_bytes

KIND = FolderKind("adjustments", "adjustment", "fitted", "fit one with jobs/adjust.py", AdjustmentError)


@dataclass(frozen=True)
class StoredAdjustment:
    """A version of an adjustment opened for reading.

    Attributes
    ----------
    ref : AdjustmentRef
    manifest : Manifest
        ``content`` holds ``learnt``: steps, how covariates are filled in, and values in JSON's types.
    arrays : dict of str to array, float64
    """

    ref: AdjustmentRef
    manifest: Manifest
    arrays: dict[str, NDArray[np.float64]]

    @property
    def label(self) -> str:
        """Short name for messages: ``name@version``."""
        return f"{self.manifest.name}@{self.manifest.version}"


def find_adjustment(warehouse: Warehouse, name: str, identity: dict[str, Any]) -> StoredAdjustment | None:
    """Return the newest version of this name if it was fitted on the same, None if there is none or on another version.

    Raises
    ------
    OutputExistsError
        If it was fitted with other settings.
    """
    if not folder_versions(KIND.location(warehouse, name)):
        return None
    newest = open_adjustment(name, warehouse.uri)
    return newest if KIND.check_same(newest.manifest.content["identity"], identity, warehouse, name) else None


def publish_adjustment(
    warehouse: Warehouse,
    name: str,
    arrays: Mapping[str, NDArray[np.float64]],
    *,
    config: dict[str, Any],
    identity: dict[str, Any],
    parents: list[Parent],
    rows: int,
    content: dict[str, Any],
    mlflow_run_id: str | None,
) -> StoredAdjustment:
    """Write the next version of an adjustment: arrays under a name that follows from them, the manifest last.

    Parameters
    ----------
    identity : dict
        What it is fitted on and by; ``rows`` tells the training rows.
    content : dict
        ``learnt``, and what else the manifest tells.

    Raises
    ------
    AdjustmentError
        If another run has published the same version at this moment.
    """
    from safetensors.numpy import save

    data = save({key: np.ascontiguousarray(array, dtype=np.float64) for key, array in arrays.items()})
    sha = hashlib.sha256(data).hexdigest()
    uri = KIND.location(warehouse, name)
    version = next_version(uri)
    file = f"{sha[:24]}.safetensors"
    manifest = Manifest.create(
        kind=KIND.folder,
        name=name,
        version=version,
        config=config,
        config_hash=digest_json(identity),
        parents=parents,
        rows=rows,
        digest=_digest(sha, content["learnt"]),
        mlflow_run_id=mlflow_run_id,
        content={**content, "identity": identity, "file": file},
    )
    return KIND.publish(uri, {file: data}, manifest, lambda pointer: open_adjustment(pointer, warehouse.uri))


def open_adjustment(pointer: str, warehouse: str) -> StoredAdjustment:
    """Open a version of an adjustment and check that it is whole.

    Parameters
    ----------
    pointer : str
        ``name`` (the newest), ``name@version``, or the full line that the adjust job printed.
    warehouse : str
        Path or URI of the warehouse, for pointers that do not name theirs.

    Raises
    ------
    AdjustmentError
        If it is not there, or is not what its manifest describes.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    uri, version = KIND.locate(pointer, warehouse)
    folder = folder_of(uri, version)
    try:
        manifest = read_manifest(uri, version)
        data = read_bytes(f"{folder}/{manifest.content['file']}")
        arrays = load(data)
    except (ArtifactError, StorageError, SafetensorError) as error:
        raise AdjustmentError(f"adjustment: {folder} is not whole: {error}; fit it again") from None
    if _digest(hashlib.sha256(data).hexdigest(), manifest.content["learnt"]) != manifest.digest:
        raise AdjustmentError(f"adjustment: {folder} is not what its manifest describes; restore it, or fit it again")
    return StoredAdjustment(AdjustmentRef(uri, version, manifest.digest), manifest, arrays)


def _digest(sha256_of_arrays: str, learnt: dict[str, Any]) -> str:
    # through JSON, so that tuples are what they are when they are read again
    return digest_json([sha256_of_arrays, json.loads(json.dumps(learnt))])

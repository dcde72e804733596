"""The fitted adjustment: what a strategy's steps have learnt from training rows, a folder a version."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.fs as pafs
from numpy.typing import NDArray

from boldstream.artifacts.manifest import Manifest, Parent
from boldstream.artifacts.settings import differing_keys
from boldstream.config import digest_json
from boldstream.errors import AdjustmentError, ArtifactError, OutputExistsError, StorageError
from boldstream.refs import AdjustmentRef, split_pointer
from boldstream.storage import Warehouse, filesystem, publish_bytes, read_bytes

KIND = "adjustments"
MANIFEST = "manifest.json"


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


def adjustment_versions(uri: str) -> list[str]:
    """List the whole versions at a URI, oldest first: folders ``v<n>`` with a manifest."""
    fs, root = filesystem(uri)
    try:
        found = fs.get_file_info(pafs.FileSelector(root, recursive=True, allow_not_found=True))
    except OSError as error:
        raise StorageError(f"{uri}: cannot be listed: {error}") from None
    folders = [info.path.split("/")[-2] for info in found if info.base_name == MANIFEST]
    return sorted((name[1:] for name in folders if name[0] == "v" and name[1:].isdigit()), key=int)


def find_adjustment(warehouse: Warehouse, name: str, identity: dict[str, Any]) -> StoredAdjustment | None:
    """Return the newest version of this name if it was fitted on the same, None if there is none or on another version.

    Raises
    ------
    OutputExistsError
        If it was fitted with other settings.
    """
    uri = warehouse.location(KIND, name)
    if not adjustment_versions(uri):
        return None
    newest = open_adjustment(uri, warehouse.uri)
    theirs = dict(newest.manifest.content["identity"])
    ours = dict(identity)
    same_rows = theirs.pop("rows") == ours.pop("rows")
    if differing := differing_keys(theirs, ours):
        raise OutputExistsError(
            f"adjustment {name!r} exists in {warehouse.uri} and was fitted with other settings "
            f"({'; '.join(differing)}); choose another output name"
        )
    return newest if same_rows else None


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
    uri = warehouse.location(KIND, name)
    version = str(max((int(one) for one in adjustment_versions(uri)), default=0) + 1)
    file = f"{sha[:24]}.safetensors"
    manifest = Manifest.create(
        kind=KIND,
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
    publish_bytes(f"{uri}/v{version}/{file}", data)
    publish_bytes(f"{uri}/v{version}/{MANIFEST}", manifest.model_dump_json(indent=1).encode())
    found = open_adjustment(f"{uri}@{version}", warehouse.uri)
    if found.ref.digest != manifest.digest:
        raise AdjustmentError(
            f"another run has published adjustment {found.label} at this moment, fitted on other rows; run the same "
            "command again"
        )
    return found


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

    uri, version = split_pointer(pointer, field="adjustment")
    if "/" not in uri:
        uri = Warehouse.at(warehouse).location(KIND, uri)
    there = adjustment_versions(uri)
    version = version or (there[-1] if there else None)
    if version not in there:
        raise AdjustmentError(
            f"adjustment: no adjustment {pointer!r} ({uri} has the versions: {', '.join(there) or 'none'}); fit one "
            "with jobs/adjust.py"
        )
    folder = f"{uri}/v{version}"
    try:
        manifest = Manifest.from_json(read_bytes(f"{folder}/{MANIFEST}"), where=folder)
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

"""The gradient: functional positions of an atlas's regions, a small table that model versions are built with."""

import csv
import hashlib
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boldstream.artifacts.manifest import Manifest, Parent
from boldstream.artifacts.settings import differing_keys
from boldstream.config import digest_json
from boldstream.errors import ArtifactError, GradientError, OutputExistsError, StorageError
from boldstream.refs import GradientRef, split_pointer
from boldstream.storage import Warehouse, exists, publish_bytes, read_bytes

KIND = "gradients"
VERSION = "1"
"""A gradient is never added to, so it has one version; another one gets another name."""


@dataclass(frozen=True)
class Gradient:
    """A gradient opened for reading.

    Attributes
    ----------
    ref : GradientRef
    manifest : Manifest
    roi_names : tuple of str
    values : array, shape (n_rois, n_components), float64
    """

    ref: GradientRef
    manifest: Manifest
    roi_names: tuple[str, ...]
    values: NDArray[np.float64]

    @property
    def atlas(self) -> str:
        """Name of the atlas."""
        return str(self.manifest.content["atlas"])


def find_gradient(warehouse: Warehouse, name: str, identity: dict[str, Any]) -> GradientRef | None:
    """Return the gradient of this name if the same run has made it, None if there is none.

    Raises
    ------
    OutputExistsError
        If it was made with other settings.
    """
    uri = warehouse.location(KIND, name)
    if not exists(f"{uri}/manifest.json"):
        return None
    manifest = Manifest.from_json(read_bytes(f"{uri}/manifest.json"), where=uri)
    if differing := differing_keys(manifest.content["identity"], identity):
        raise OutputExistsError(
            f"gradient {name!r} exists in {warehouse.uri} and was made with other settings ({'; '.join(differing)}); "
            "choose another output name"
        )
    return GradientRef(uri, VERSION, manifest.digest)


def publish_gradient(
    warehouse: Warehouse,
    name: str,
    values: NDArray[np.float64],
    *,
    atlas: str,
    roi_names: tuple[str, ...],
    config: dict[str, Any],
    identity: dict[str, Any],
    parents: list[Parent],
    mlflow_run_id: str | None,
) -> tuple[GradientRef, Manifest]:
    """Write a gradient as CSV (a region a line, its name first), its manifest last."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["roi", *(f"g{i + 1}" for i in range(values.shape[1]))])
    writer.writerows([roi, *map(repr, row)] for roi, row in zip(roi_names, values.tolist(), strict=True))
    data = text.getvalue().encode()
    digest = hashlib.sha256(data).hexdigest()
    uri = warehouse.location(KIND, name)
    manifest = Manifest.create(
        kind=KIND,
        name=name,
        version=VERSION,
        config=config,
        config_hash=digest_json(identity),
        parents=parents,
        rows=len(roi_names),
        digest=digest,
        mlflow_run_id=mlflow_run_id,
        content={"atlas": atlas, "n_components": values.shape[1], "identity": identity},
    )
    publish_bytes(f"{uri}/gradient.csv", data)
    publish_bytes(f"{uri}/manifest.json", manifest.model_dump_json(indent=1).encode())
    return GradientRef(uri, VERSION, digest), manifest


def open_gradient(pointer: str, warehouse: str) -> Gradient:
    """Open a gradient and check that it is whole.

    Raises
    ------
    GradientError
        If it is not there, or is not the table that its manifest describes.
    """
    uri, version = split_pointer(pointer, field="gradient")
    if "/" not in uri:
        uri = Warehouse.at(warehouse).location(KIND, uri)
    if not exists(f"{uri}/manifest.json") or version not in (None, VERSION):
        raise GradientError(
            f"gradient: no gradient {pointer!r} ({uri}/manifest.json is missing); make it with jobs/gradients.py"
        )
    try:
        manifest = Manifest.from_json(read_bytes(f"{uri}/manifest.json"), where=uri)
        data = read_bytes(f"{uri}/gradient.csv")
    except (ArtifactError, StorageError) as error:
        raise GradientError(f"gradient: {error}; make it again with jobs/gradients.py") from None
    if hashlib.sha256(data).hexdigest() != manifest.digest:
        raise GradientError(f"gradient: {uri}/gradient.csv is not the file that its manifest describes; make it again")
    lines = list(csv.reader(io.StringIO(data.decode())))[1:]
    values = np.array([[float(text) for text in line[1:]] for line in lines])
    ref = GradientRef(uri, VERSION, manifest.digest)
    return Gradient(ref, manifest, tuple(line[0] for line in lines), values)

"""Artifacts that are a folder a version: ``<warehouse>/<kind>/<name>/v<n>``, whole once its manifest is there."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import pyarrow.fs as pafs

from boldstream.artifacts.manifest import Manifest
from boldstream.artifacts.settings import differing_keys
from boldstream.errors import ArtifactError, OutputExistsError, StorageError
from boldstream.refs import Ref, split_pointer
from boldstream.storage import Warehouse, filesystem, publish_bytes, read_bytes

MANIFEST = "manifest.json"
INPUTS = "rows"
"""Part of an identity that tells the rows that a version is of: with other rows it is another version, not an error."""


class OpenedVersion(Protocol):
    """A version opened for reading, checked to be whole."""

    @property
    def ref(self) -> Ref:
        """Where it is, and its digest."""

    @property
    def label(self) -> str:
        """Short name for messages."""


Opened = TypeVar("Opened", bound=OpenedVersion)


@dataclass(frozen=True)
class FolderKind:
    """One kind of such artifacts.

    Attributes
    ----------
    folder : str
        Its place in a warehouse.
    noun : str
        What messages call one.
    made : str
        What was done to make it, for messages.
    again : str
        How to come by one, for messages.
    error : type
    """

    folder: str
    noun: str
    made: str
    again: str
    error: type[ArtifactError]

    def location(self, warehouse: Warehouse, name: str) -> str:
        """Return the URI of an artifact."""
        return warehouse.location(self.folder, name)

    def locate(self, pointer: str, warehouse: str) -> tuple[str, str]:
        """Return URI and version of ``name`` (the newest), ``name@version``, or a full line.

        Raises
        ------
        ArtifactError
            If there is no such version.
        """
        uri, version = split_pointer(pointer, field=self.noun)
        if "/" not in uri:
            uri = self.location(Warehouse.at(warehouse), uri)
        there = folder_versions(uri)
        version = version or (there[-1] if there else None)
        if version is None or version not in there:
            raise self.error(
                f"{self.noun}: no {self.noun} {pointer!r} ({uri} has the versions: {', '.join(there) or 'none'}); "
                f"{self.again}"
            )
        return uri, version

    def check_same(
        self, theirs: Mapping[str, Any], identity: Mapping[str, Any], warehouse: Warehouse, name: str
    ) -> bool:
        """Say whether a version is of the same rows as a run that wants to make one.

        Parameters
        ----------
        theirs, identity : mapping
            Of the version that is there, and of the run. ``rows`` tells what it is of, all else how it is made.

        Raises
        ------
        OutputExistsError
            If it was made with other settings.
        """
        old, new = dict(theirs), dict(identity)
        same_rows = old.pop(INPUTS) == new.pop(INPUTS)
        if differing := differing_keys(old, new):
            raise OutputExistsError(
                f"{self.noun} {name!r} exists in {warehouse.uri} and was {self.made} with other settings "
                f"({'; '.join(differing)}); choose another output name"
            )
        return same_rows

    def publish(
        self, uri: str, files: Mapping[str, bytes], manifest: Manifest, reopen: Callable[[str], Opened]
    ) -> Opened:
        """Write a version's files, its manifest last, and return what is then there.

        Parameters
        ----------
        reopen : callable
            Opens ``uri@version``. Two runs at once may choose the same number, and the later one's files stay.

        Raises
        ------
        ArtifactError
            If it is another run's.
        """
        folder = folder_of(uri, manifest.version)
        for name, data in files.items():
            publish_bytes(f"{folder}/{name}", data)
        publish_bytes(f"{folder}/{MANIFEST}", manifest.model_dump_json(indent=1).encode())
        found = reopen(f"{uri}@{manifest.version}")
        if found.ref.digest != manifest.digest:
            raise self.error(
                f"another run has published {self.noun} {found.label} at this moment, of other rows; run the same "
                "command again"
            )
        return found


def folder_versions(uri: str) -> list[str]:
    """List the whole versions at a URI, oldest first: folders ``v<n>`` with a manifest."""
    fs, root = filesystem(uri)
    try:
        found = fs.get_file_info(pafs.FileSelector(root, recursive=True, allow_not_found=True))
    except OSError as error:
        raise StorageError(f"{uri}: cannot be listed: {error}") from None
    folders = [info.path.split("/")[-2] for info in found if info.base_name == MANIFEST]
    return sorted((name[1:] for name in folders if name[0] == "v" and name[1:].isdigit()), key=int)


def folder_of(uri: str, version: str) -> str:
    """Return the URI of a version's folder."""
    return f"{uri}/v{version}"


def next_version(uri: str) -> str:
    """Return the number after the newest whole version."""
    return str(max((int(one) for one in folder_versions(uri)), default=0) + 1)


def read_manifest(uri: str, version: str) -> Manifest:
    """Read the manifest of a version.

    Raises
    ------
    ArtifactError
        If it is no manifest.
    """
    folder = folder_of(uri, version)
    return Manifest.from_json(read_bytes(f"{folder}/{MANIFEST}"), where=folder)

"""What lies below a folder, in one walk: every file's path, and by what one can tell that a file has changed."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pyarrow.fs as pafs

from boldstream.errors import StorageError
from boldstream.storage import LOCAL, absolute_uri, filesystem, local_path


@dataclass(frozen=True)
class Listing:
    """The files below a folder.

    Attributes
    ----------
    root : str
        Absolute URI of the folder.
    paths : list of str
        Paths of the files, relative to it, sorted.
    infos : dict of tuple of (int, int)
        Size in bytes and time of the last change in ns of files by path, where the storage lists them with the names.
    """

    root: str
    paths: list[str]
    infos: dict[str, tuple[int, int]] = field(default_factory=dict, repr=False)

    @cached_property
    def _folder(self) -> Path | None:
        """The folder on a local disk."""
        return local_path(self.root) if self.root.startswith(LOCAL) else None

    def state(self, path: str) -> tuple[int, int] | None:
        """Return a file's size in bytes and the time of its last change in ns; None where nobody can tell.

        A local disk is asked here, for the files that matter only; links are followed.
        """
        if self._folder is None:
            return self.infos.get(path)
        try:
            found = (self._folder / path).stat()
        except OSError:  # a link to nowhere, say; who reads the file says what is wrong with it
            return None
        return found.st_size, found.st_mtime_ns


def list_files(uri: str) -> Listing:
    """List all files below a folder, in one walk.

    Links are followed, every linked folder once; links to nowhere (as DataLad leaves for files it has not fetched) are
    listed, so that they are missed when they are read.

    Raises
    ------
    StorageError
        If the folder is not there, is a file, or cannot be listed.
    """
    fs, path = filesystem(uri)
    try:
        info = fs.get_file_info(path)
        if info.type == pafs.FileType.NotFound:
            raise StorageError(f"{uri}: no such folder")
        if info.type == pafs.FileType.File:
            raise StorageError(f"{uri}: is a file; name the folder that holds the scans")
        if isinstance(fs, pafs.LocalFileSystem):
            return Listing(absolute_uri(uri), sorted(_walk(path)))
        found = fs.get_file_info(pafs.FileSelector(path, recursive=True))
    except OSError as error:
        raise StorageError(f"{uri}: cannot be listed: {error}") from None
    base = len(path.rstrip("/")) + 1
    infos = {item.path[base:]: (item.size, item.mtime_ns) for item in found if item.type == pafs.FileType.File}
    return Listing(absolute_uri(uri), sorted(infos), infos)


def _walk(root: str) -> Iterator[str]:
    """Yield the relative paths of all files below a local folder."""
    seen = {os.path.realpath(root)}
    base = len(root.rstrip("/")) + 1

    def fail(error: OSError) -> None:
        raise error

    for folder, folders, names in os.walk(root, followlinks=True, onerror=fail):
        for name in [name for name in folders if (Path(folder) / name).is_symlink()]:
            real = os.path.realpath(Path(folder) / name)
            if real in seen or real == os.path.realpath(folder) or root.startswith(f"{real}/"):
                folders.remove(name)
            seen.add(real)
        for name in names:
            yield f"{folder}/{name}"[base:]

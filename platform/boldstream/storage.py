"""Where bytes live: filesystems by URI, the warehouse with its Iceberg catalog, publishing that is all or nothing."""

import contextlib
import hashlib
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pyarrow as pa
import pyarrow.fs as pafs

from boldstream.errors import StorageError
from boldstream.s3 import PatientS3, iceberg_properties, past_short_reads

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog

CATALOG_VARIABLE = "BOLDSTREAM_CATALOG_URI"
LOCAL_CATALOG = "catalog.db"
LOCK_WAIT_S = "60"  # for a SQLite catalog that another writes to: sqlite3's own 5 s are short on a busy disk
LOCAL = "file://"


def absolute_uri(location: str) -> str:
    """Return a path or URI as an absolute URI without a trailing slash (``file://`` for local paths).

    Nothing is percent-encoded: blanks and letters of any language stay as they are, which is how Iceberg spells
    locations too.
    """
    if "://" in location:
        return location.rstrip("/")
    return f"{LOCAL}{Path(location).expanduser().resolve()}"


def is_local(uri: str) -> bool:
    """Say whether a URI or path is on this machine's own filesystem."""
    return "://" not in uri or uri.startswith(LOCAL)


def local_path(uri: str) -> Path:
    """Return the path of a ``file://`` URI or of a plain path."""
    fs, path = filesystem(uri)
    if not isinstance(fs, pafs.LocalFileSystem):
        raise StorageError(f"{uri}: is not on this machine; a local path is needed here")
    return Path(path)


def filesystem(uri: str) -> tuple[pafs.FileSystem, str]:
    """Return the pyarrow filesystem of a URI and the path on it.

    S3 endpoints and keys come from the environment (``AWS_ENDPOINT_URL``, ``AWS_ACCESS_KEY_ID``, …).

    Raises
    ------
    StorageError
        If pyarrow knows no filesystem for the URI, or cannot reach it.
    """
    uri = absolute_uri(uri)
    if uri.startswith(LOCAL):
        return pafs.LocalFileSystem(), uri.removeprefix(LOCAL)
    scheme, _, rest = uri.partition("://")
    try:
        if scheme == "s3":
            bucket = rest.partition("/")[0]
            if "@" in bucket:
                where = f"s3://…@{bucket.rpartition('@')[2]}: keys do not belong into a URI, where every log shows them"
                raise StorageError(f"{where}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
            return PatientS3.of_bucket(bucket), rest
        return pafs.FileSystem.from_uri(f"{scheme}://{quote(rest, safe='/:@')}")
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise StorageError(f"{uri}: no filesystem for it ({error}); use a local path, s3:// or gs://") from None
    except OSError as error:
        raise StorageError(f"{uri}: cannot be reached: {error}") from None


def read_bytes(uri: str) -> bytes:
    """Read a whole file, as it is (.gz is not unpacked).

    Raises
    ------
    StorageError
        If it is not there or cannot be read.
    """

    def read() -> bytes:
        with open_stream(uri) as stream:
            return bytes(stream.read())

    try:
        return past_short_reads(read)
    except OSError as error:
        raise StorageError(f"{uri}: cannot be read: {error}") from None


def open_stream(uri: str) -> pa.NativeFile:
    """Open a file to be read from its start, as it is (.gz is not unpacked).

    Raises
    ------
    StorageError
        If it is not there or cannot be opened.
    """
    fs, path = filesystem(uri)
    try:
        return fs.open_input_stream(path, compression=None)
    except FileNotFoundError:
        raise StorageError(f"{uri}: no such file") from None
    except OSError as error:
        raise StorageError(f"{uri}: cannot be read: {error}") from None


def exists(uri: str) -> bool:
    """Say whether a file or folder is there.

    Raises
    ------
    StorageError
        If nobody can tell (no permission, no connection).
    """
    fs, path = filesystem(uri)
    try:
        return bool(fs.get_file_info(path).type != pafs.FileType.NotFound)
    except OSError as error:
        raise StorageError(f"{uri}: cannot be looked up: {error}") from None


def publish_bytes(uri: str, data: bytes | pa.Buffer) -> None:
    """Write a whole file so that readers see all of it or nothing (rename on disk, one put on S3)."""
    fs, path = filesystem(uri)
    try:
        if isinstance(fs, pafs.LocalFileSystem):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            draft = f"{path}.{uuid.uuid4().hex}.part"
            try:
                with fs.open_output_stream(draft, compression=None) as stream:
                    stream.write(data)
                fs.move(draft, path)
            finally:
                Path(draft).unlink(missing_ok=True)
        else:
            with fs.open_output_stream(path, compression=None) as stream:
                stream.write(data)
    except OSError as error:
        raise StorageError(f"{uri}: cannot be written: {error}") from None


@contextlib.contextmanager
def publish_folder(path: Path) -> Iterator[Path]:
    """Give a draft folder that becomes `path` by one rename when the block ends well.

    An older folder of the same name is replaced; a block that fails leaves it as it was.
    """
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    draft.mkdir()
    try:
        yield draft
        old = path.with_name(f".{path.name}.{uuid.uuid4().hex}.old")
        if path.exists():
            path.rename(old)
        draft.rename(path)
        remove_files(str(old))
    finally:
        remove_files(str(draft))


def remove_files(uri: str) -> None:
    """Remove a folder with all that is in it, on any filesystem, if it is there."""
    fs, path = filesystem(uri)
    if fs.get_file_info(path).type == pafs.FileType.Directory:
        fs.delete_dir(path)


def sha256_of_folder(folder: Path) -> str:
    """Return the sha256 over the relative names and contents of all files of a local folder."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            total.update(str(path.relative_to(folder)).encode() + b"\0")
            total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


@dataclass(frozen=True)
class Warehouse:
    """The root under which cohorts, gradients and embedding tables live, with the catalog that knows them.

    Attributes
    ----------
    uri : str
        Absolute URI. On a local disk the catalog is a SQLite file in it; elsewhere the environment variable
        ``BOLDSTREAM_CATALOG_URI`` names the catalog (an SQLAlchemy URL, or ``http(s)://`` for an Iceberg
        REST catalog).
    lock_wait_s : str
        How long a catalog is waited for: a SQLite file that another writes to, a server that is being restarted.
    """

    uri: str
    lock_wait_s: str = LOCK_WAIT_S

    @classmethod
    def at(cls, location: str) -> "Warehouse":
        """Return the warehouse at a path or URI.

        Raises
        ------
        StorageError
            If the location holds a character that Iceberg cannot keep in one.
        """
        uri = absolute_uri(location)
        if found := sorted(set(uri) & set("?#")):
            raise StorageError(f"warehouse {location!r} has {' and '.join(found)} in its path; choose another folder")
        return cls(uri)

    def location(self, kind: str, name: str) -> str:
        """Return the URI of an artifact."""
        return f"{self.uri}/{kind}/{name}"

    @cached_property
    def catalog(self) -> "Catalog":
        """The Iceberg catalog.

        Raises
        ------
        StorageError
            If it cannot be reached, or if none is named for a warehouse that is not on a local disk.
        """
        from pyiceberg.catalog import load_catalog
        from sqlalchemy import URL, make_url
        from sqlalchemy.exc import OperationalError, SQLAlchemyError

        uri = os.environ.get(CATALOG_VARIABLE)
        if uri is None:
            if not is_local(self.uri):
                raise StorageError(
                    f"warehouse {self.uri!r} is not on a local disk: set {CATALOG_VARIABLE} to its catalog, for "
                    "example sqlite:////home/me/catalog.db or postgresql+psycopg2://user@host/catalog"
                )
            root = local_path(self.uri)
            root.mkdir(parents=True, exist_ok=True)
            uri = URL.create("sqlite", database=str(root / LOCAL_CATALOG)).render_as_string()
        kind = _kind_of(uri)
        if kind == "file" and "timeout=" not in uri:
            uri = make_url(uri).update_query_dict({"timeout": self.lock_wait_s}).render_as_string()
        properties = {"uri": uri, "warehouse": self.uri, **iceberg_properties(self.uri)}
        try:
            if kind == "rest":
                return load_catalog("boldstream", type="rest", **properties)

            def open_database() -> "Catalog":
                # its name is the warehouse's: one database may serve many
                if kind == "file":
                    return load_catalog(self.uri, type="sql", **properties)
                from boldstream.catalog import PatientSqlCatalog

                return PatientSqlCatalog(self.uri, float(self.lock_wait_s), **properties)

            with contextlib.suppress(OperationalError):  # where another process makes its tables at this moment
                return open_database()
            return open_database()
        except (SQLAlchemyError, OSError) as error:
            raise StorageError(f"catalog of warehouse {self.uri!r} cannot be opened: {error}") from None


def _kind_of(uri: str) -> str:
    """Return what a catalog's URI leads to: ``rest``, a SQLite ``file``, or a database ``server``."""
    if uri.startswith(("http://", "https://")):
        return "rest"
    return "file" if uri.startswith("sqlite") else "server"

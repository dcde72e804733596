"""A lease on storage: one owner at a time, whoever dies loses it, and no machine's own clock is asked."""

import contextlib
import fcntl
import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Protocol

from boldstream.errors import LeaseError, StorageError
from boldstream.storage import absolute_uri, is_local, local_path

RENEWALS = 4
"""Times that a lease is renewed within its life: three may fail."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Held:
    """What stands in a lease: its text, a tag that changes with every writing, and seconds since it was written."""

    data: bytes
    tag: str
    age_s: float


class Slot(Protocol):
    """One object that can be written under a condition; `None` says that the condition was not met."""

    def read(self) -> Held | None:
        """Return what is there."""

    def create(self, data: bytes) -> str | None:
        """Write if nothing is there; returns the tag."""

    def replace(self, data: bytes, tag: str) -> str | None:
        """Write if the tag is still the one that is there; returns the new tag."""

    def remove(self, tag: str) -> None:
        """Remove if the tag is still the one that is there."""


class FileSlot:
    """A file, changed by whoever holds the lock of another file beside it; ages are the filesystem's."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.with_suffix(".lock").open("w") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                yield
        except OSError as error:
            raise StorageError(f"{self.path}: the lease cannot be kept there: {error}") from None

    def _write(self, data: bytes) -> str:
        draft = self.path.with_suffix(f".{uuid.uuid4().hex}.part")
        draft.write_bytes(data)
        draft.replace(self.path)
        return _tag_of(data)

    def read(self) -> Held | None:
        """See `Slot`."""
        with self._locked():
            if not self.path.exists():
                return None
            clock = self.path.with_suffix(f".{uuid.uuid4().hex}.part")
            clock.touch()
            now = clock.stat().st_mtime
            clock.unlink()
            data = self.path.read_bytes()
            return Held(data, _tag_of(data), now - self.path.stat().st_mtime)

    def create(self, data: bytes) -> str | None:
        """See `Slot`."""
        with self._locked():
            return None if self.path.exists() else self._write(data)

    def replace(self, data: bytes, tag: str) -> str | None:
        """See `Slot`."""
        with self._locked():
            same = self.path.exists() and _tag_of(self.path.read_bytes()) == tag
            return self._write(data) if same else None

    def remove(self, tag: str) -> None:
        """See `Slot`."""
        with self._locked():
            if self.path.exists() and _tag_of(self.path.read_bytes()) == tag:
                self.path.unlink()


class S3Slot:
    """An S3 object, written with ``If-None-Match`` and ``If-Match``; ages are the server's, by its ``Date``."""

    def __init__(self, uri: str) -> None:
        try:
            import boto3
            from botocore.config import Config as BotoConfig
        except ImportError:
            raise StorageError("a lease on S3 needs boto3: pip install 'boldstream[s3]'") from None
        self.uri = uri
        self.bucket, _, self.key = uri.removeprefix("s3://").partition("/")
        patient = BotoConfig(retries={"max_attempts": 10, "mode": "standard"}, connect_timeout=10, read_timeout=20)
        self.client = boto3.client("s3", config=patient, region_name=os.environ.get("AWS_REGION", "us-east-1"))

    def _ask(self, call: Any, **values: Any) -> Any:
        """Call the server; None where the condition is not met or nothing is there."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return call(Bucket=self.bucket, Key=self.key, **values)
        except ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            if status in (404, 409, 412):
                return None
            raise StorageError(f"{self.uri}: the lease cannot be read or written: {error}") from None
        except BotoCoreError as error:
            raise StorageError(f"{self.uri}: the lease cannot be read or written: {error}") from None

    def read(self) -> Held | None:
        """See `Slot`."""
        found = self._ask(self.client.get_object)
        if found is None:
            return None
        now = parsedate_to_datetime(found["ResponseMetadata"]["HTTPHeaders"]["date"])
        return Held(found["Body"].read(), found["ETag"], (now - found["LastModified"]).total_seconds())

    def create(self, data: bytes) -> str | None:
        """See `Slot`."""
        written = self._ask(self.client.put_object, Body=data, IfNoneMatch="*")
        return written and str(written["ETag"])

    def replace(self, data: bytes, tag: str) -> str | None:
        """See `Slot`."""
        written = self._ask(self.client.put_object, Body=data, IfMatch=tag)
        return written and str(written["ETag"])

    def remove(self, tag: str) -> None:
        """See `Slot`; not every server knows a condition for this, so the tag is looked at first."""
        found = self._ask(self.client.head_object)
        if found is not None and found["ETag"] == tag:
            self._ask(self.client.delete_object)


def slot_at(uri: str) -> Slot:
    """Return the place of a lease.

    Raises
    ------
    StorageError
        If the storage knows no conditional writes.
    """
    uri = absolute_uri(uri)
    if is_local(uri):
        return FileSlot(local_path(uri))
    if uri.startswith("s3://"):
        return S3Slot(uri)
    raise StorageError(f"{uri}: a lease needs a local path or S3, where a write can be made conditional")


class Lease:
    """A context in which nobody else holds the lease at this place.

    It is renewed by a thread while the context lasts. Whoever dies stops renewing: after `life_s` on the storage's own
    clock the next one takes it over.

    Parameters
    ----------
    uri : str
    what : str
        For whom it is held, in messages.
    life_s : float
        Seconds.

    Raises
    ------
    LeaseError
        If somebody else holds it.
    """

    def __init__(self, uri: str, what: str, life_s: float) -> None:
        self.uri, self.what, self.life_s = uri, what, life_s
        self.slot = slot_at(uri)
        self.owner = f"{socket.gethostname()} process {os.getpid()}"
        self.tag: str | None = None
        self.ended = threading.Event()
        self.renewed = 0.0
        self.thread: threading.Thread | None = None

    def __enter__(self) -> "Lease":
        self.tag = self.slot.create(self._text())
        if self.tag is None:
            self.tag = self._take_over()
        self.renewed = time.monotonic()
        self.thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.ended.set()
        assert self.thread is not None
        self.thread.join(self.life_s)
        if self.tag is not None:
            self.slot.remove(self.tag)

    def _text(self) -> bytes:
        return json.dumps({"owner": self.owner, "for": self.what, "token": uuid.uuid4().hex}).encode()

    def _take_over(self) -> str:
        held = self.slot.read()
        if held is None:  # given back a moment ago
            tag = self.slot.create(self._text())
        elif held.age_s < self.life_s:
            raise LeaseError(
                f"{self.what} is being done by {_owner_of(held)}, which was alive {held.age_s:.0f} s ago; wait for it "
                f"to end, or if it is dead, {self.life_s - held.age_s:.0f} s more ({self.uri})"
            )
        else:
            logger.warning("lease: %s has not been heard of for %.0f s and loses it", _owner_of(held), held.age_s)
            tag = self.slot.replace(self._text(), held.tag)
        if tag is None:
            raise LeaseError(f"{self.what} was begun by another process at this moment ({self.uri})")
        return tag

    def _renew(self) -> None:
        while not self.ended.wait(self.life_s / RENEWALS):
            try:
                assert self.tag is not None
                self.tag = self.slot.replace(self._text(), self.tag)
            except StorageError as error:
                logger.warning("lease: not renewed (%s)", error)
                continue
            if self.tag is None:
                return
            self.renewed = time.monotonic()

    def check(self) -> None:
        """Make sure that the lease is still ours, before something that only its owner may do.

        Raises
        ------
        LeaseError
        """
        if self.tag is None or time.monotonic() - self.renewed > self.life_s:
            raise LeaseError(
                f"{self.what}: this process lost its lease (it was not renewed for {self.life_s:.0f} s, because the "
                f"machine slept or {self.uri} could not be reached), so another one may be at it; run it again"
            )


def _tag_of(data: bytes) -> str:
    return str(json.loads(data)["token"])


def _owner_of(held: Held) -> str:
    return str(json.loads(held.data).get("owner", "somebody"))

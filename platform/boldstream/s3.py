"""S3 that outlasts a bad minute: connections, waits and retries, the same for our own files and for Iceberg's.

What it is tuned against is in tests/faults: a server that is gone for 20 seconds, one request in ten that fails, and
answers that are slow to come.
"""

import os
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Self, TypeVar

import pyarrow.fs as pafs

ATTEMPTS = 11
CONNECT_S = 10.0
SILENCE_S = 20.0
"""A server that sends not one byte for so long is given up, and asked again."""
SHORT_READ = "Failed to flush response stream"

T = TypeVar("T")


class PatientRetries(pafs.AwsDefaultS3RetryStrategy):
    """Eleven attempts, waiting 50 ms, 100 ms, … 25.6 s between them: 51 s in all (Iceberg makes it without arguments).

    AWS's other strategy, pyarrow's default, allows a filesystem about a hundred retries and none after them, because
    pyarrow never tells it of the ones that helped: with one request in ten failing, it lost 27 of 300 files, this one
    none (docs/faults.md).
    """

    def __init__(self, max_attempts: int = ATTEMPTS) -> None:
        super().__init__(max_attempts)


def past_short_reads(read: Callable[[], T]) -> T:
    """Call a function that may read a few bytes from S3, again where the text of an error did not fit into them.

    pyarrow has the SDK write whatever comes into a buffer as long as the read. The text of an error, some 300 bytes,
    does not fit where fewer were asked for, and the SDK takes that for an error that no retry mends.

    Raises
    ------
    OSError
        Any other, at once; this one after `ATTEMPTS` attempts.
    """
    for attempt in range(ATTEMPTS - 1):
        try:
            return read()
        except OSError as error:
            if SHORT_READ not in str(error):
                raise
        time.sleep(0.05 * 2**attempt)
    return read()


class PatientS3(pafs.S3FileSystem):
    """S3 with `PatientRetries`, also after a journey to a worker: pyarrow's own forgets its strategy when pickled.

    Parameters
    ----------
    settings
        Keyword arguments of `pyarrow.fs.S3FileSystem`; keys come from the environment of the process that uses it.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(
            **settings,
            retry_strategy=PatientRetries(),
            connect_timeout=CONNECT_S,
            request_timeout=SILENCE_S,
            # A file is opened when its bytes are there: small ones are one request, and whole or not there at all.
            allow_delayed_open=True,
        )
        self.settings = settings

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (type(self), self.settings)

    @classmethod
    def of_bucket(cls, bucket: str) -> Self:
        """Return the filesystem that holds a bucket, by the environment's endpoint, or at AWS in the bucket's region.

        Raises
        ------
        OSError
            If AWS cannot be asked for the region, or has no such bucket.
        """
        endpoint = _endpoint()
        if endpoint is None:
            return cls._opened(region=_region_of(bucket))
        scheme, _, host = endpoint.rpartition("://")
        return cls._opened(region=_region() or "us-east-1", endpoint_override=host, scheme=scheme or "https")

    @classmethod
    def _opened(cls, **settings: str) -> Any:
        keys = tuple(os.environ.get(name) for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"))
        kind: Any = cls
        return _open(kind, keys, tuple(settings.items()))


@lru_cache(maxsize=16)
def _open(kind: type[Any], keys: tuple[str | None, ...], settings: tuple[tuple[str, str], ...]) -> Any:
    """Open a filesystem once in a process: it keeps its connections."""
    return kind(**dict(settings))


def _again(kind: type[PatientS3], settings: dict[str, Any]) -> PatientS3:
    return kind(**settings)


@lru_cache(maxsize=64)
def _region_of(bucket: str) -> str:
    return str(pafs.resolve_s3_region(bucket))


def _endpoint() -> str | None:
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")


def _region() -> str | None:
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")


def iceberg_properties(uri: str) -> dict[str, str]:
    """Return what pyiceberg must be told of S3: endpoint, region and keys, which it does not read itself; retries."""
    if not uri.startswith("s3"):
        return {}
    found = {
        "s3.endpoint": _endpoint(),
        "s3.region": _region(),
        "s3.access-key-id": os.environ.get("AWS_ACCESS_KEY_ID"),
        "s3.secret-access-key": os.environ.get("AWS_SECRET_ACCESS_KEY"),
        "s3.session-token": os.environ.get("AWS_SESSION_TOKEN"),
        "s3.connect-timeout": str(CONNECT_S),
        "s3.request-timeout": str(SILENCE_S),
        "s3.retry-strategy-impl": f"{PatientRetries.__module__}.{PatientRetries.__qualname__}",
    }
    return {name: value for name, value in found.items() if value}

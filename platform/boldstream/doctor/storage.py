"""Storage of a warehouse: whether it is reached, read, written, and keeps the first of two who write one name."""

import os
import uuid
from pathlib import Path

import pyarrow.fs as pafs

from boldstream.doctor.clock import judge_clock
from boldstream.doctor.finding import NOTE, OK, SKIPPED, WRONG, Finding
from boldstream.errors import StorageError
from boldstream.remote.answer import ask
from boldstream.s3 import iceberg_properties
from boldstream.storage import Warehouse, filesystem, is_local, local_path, publish_bytes, read_bytes

ASK_S = 10.0
PART = "storage"
PROBE = b"boldstream doctor\n"
AWS = "https://s3.amazonaws.com"
TAKEN = ("412", "PreconditionFailed")
MEND_KEYS = (
    "AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY say where and who; the keys need "
    "GetObject, PutObject, DeleteObject and ListBucket on the bucket, and the bucket has to be there"
)


def check_storage(where: str, location: str) -> list[Finding]:
    """Check the place of a warehouse; what is written there is removed again."""
    uri = Warehouse.at(location).uri
    if is_local(uri):
        return _check_folder(where, local_path(uri))
    found: list[Finding] = []
    if uri.startswith("s3://"):
        endpoint = iceberg_properties(uri).get("s3.endpoint", AWS)
        endpoint = endpoint if "://" in endpoint else f"https://{endpoint}"
        try:
            found = [judge_clock("object storage", where, ask(endpoint, ASK_S).skew_s)]
        except OSError as error:
            mend = "is AWS_ENDPOINT_URL right, the server up, and its port open from here?"
            return [Finding(PART, where, WRONG, f"nobody answers at {endpoint} ({error})", mend)]
    probe = f"{uri}/.boldstream-doctor/{uuid.uuid4().hex}"
    try:
        fs, path = filesystem(probe)
        bucket = path.partition("/")[0]
        if _is_missing(fs, bucket):
            return [*found, Finding(PART, where, WRONG, f"there is no bucket {bucket!r}", MEND_KEYS)]
        publish_bytes(probe, PROBE)
        same = read_bytes(probe) == PROBE
        fs.delete_file(path)
    except (StorageError, OSError) as error:
        return [*found, Finding(PART, where, WRONG, " ".join(str(error).split()), MEND_KEYS)]
    if not same:
        return [*found, Finding(PART, where, WRONG, f"{uri} gives back other bytes than it took", "mend that server")]
    found.append(Finding(PART, where, OK, f"{uri}: written, read, removed"))
    if not uri.startswith("s3://"):
        return [*found, Finding("lease", where, SKIPPED, "conditional puts are checked on s3:// only")]
    return [*found, _check_condition(where, f"{probe}-once")]


def _is_missing(fs: pafs.FileSystem, bucket: str) -> bool:
    """Say whether there is surely no such bucket; some servers would make one for a first file."""
    try:
        return bool(fs.get_file_info(bucket).type == pafs.FileType.NotFound)
    except OSError:  # no right to ask, or wrong keys: what comes next tells more than this question's bare 403
        return False


def _check_condition(where: str, probe: str) -> Finding:
    """Put a name twice on the condition that it is free: the second has to be refused."""
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError:
        return Finding("lease", where, NOTE, "not checked: boto3 is not installed", "pip install 'boldstream[s3]'")
    known = iceberg_properties(probe)
    client = boto3.client(
        "s3",
        endpoint_url=known.get("s3.endpoint"),
        region_name=known.get("s3.region"),
        config=Config(connect_timeout=ASK_S, read_timeout=ASK_S, retries={"total_max_attempts": 2}),
    )
    bucket, _, key = probe.removeprefix("s3://").partition("/")
    mend = "leases of nightly runs need If-None-Match; use a server that knows it (AWS, SeaweedFS, MinIO, Ceph)"
    try:
        client.put_object(Bucket=bucket, Key=key, Body=PROBE, IfNoneMatch="*")
        try:
            client.put_object(Bucket=bucket, Key=key, Body=PROBE, IfNoneMatch="*")
        except ClientError as error:
            if error.response["Error"]["Code"] not in TAKEN:
                raise
            return Finding("lease", where, OK, "a second put with If-None-Match is refused")
        finally:
            client.delete_object(Bucket=bucket, Key=key)
    except (BotoCoreError, ClientError) as error:
        return Finding("lease", where, WRONG, f"a put with If-None-Match fails: {error}", mend)
    return Finding("lease", where, WRONG, "a second put with If-None-Match is taken: two nights could overlap", mend)


def _check_folder(where: str, folder: Path) -> list[Finding]:
    """Check a folder on a disk, by a file that is written, read, made a second time in vain, and removed."""
    if not folder.is_dir():
        mend = "if it should be there: is --warehouse right, and its disk mounted?"
        return [Finding(PART, where, NOTE, f"{folder} is not there yet: the first job makes it", mend)]
    probe = folder / f".boldstream-doctor-{uuid.uuid4().hex}"
    mend = f"give the job's user the right to write there, and room: ls -ld {folder}; df {folder}"
    try:
        publish_bytes(str(probe), PROBE)
        same = probe.read_bytes() == PROBE
        try:
            os.close(os.open(probe, os.O_CREAT | os.O_EXCL))
            once = False
        except FileExistsError:
            once = True
        probe.unlink()
    except (StorageError, OSError) as error:
        return [Finding(PART, where, WRONG, str(error), mend)]
    if not same:
        return [Finding(PART, where, WRONG, f"{folder} gives back other bytes than it took", mend)]
    lease = Finding("lease", where, OK, "a file is made once")
    if not once:
        lease = Finding("lease", where, WRONG, f"{folder} makes a file twice: two nights could overlap", mend)
    return [Finding(PART, where, OK, f"{folder}: written, read, removed"), lease]

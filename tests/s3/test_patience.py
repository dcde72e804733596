"""Files through a proxy that fails, hangs and is slow: storage's own filesystem, here and after a journey."""

import pickle
import threading
import time

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from boldstream.artifacts.keys import read_columns
from boldstream.errors import CohortError, StorageError
from boldstream.s3 import SHORT_READ, PatientRetries
from boldstream.storage import Warehouse, filesystem, publish_bytes, read_bytes
from faults.proxy import Proxy
from seaweed import BUCKET

pytestmark = [pytest.mark.s3, pytest.mark.usefixtures("s3")]


@pytest.fixture
def proxy(s3_server, monkeypatch):
    host, _, port = s3_server["AWS_ENDPOINT_URL"].rpartition("/")[2].partition(":")
    found = Proxy(host, int(port))
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{found.endpoint}")
    yield found
    found.close()


def test_files__come_through_where_one_request_in_ten_fails(proxy):
    proxy.mode = "errors"
    travelled = pickle.loads(pickle.dumps(filesystem(f"s3://{BUCKET}")[0]))
    for number in range(100):
        uri, data = f"s3://{BUCKET}/patience/{number}", bytes([number]) * 10_000
        publish_bytes(uri, data)
        assert read_bytes(uri) == data
        with travelled.open_input_stream(uri.removeprefix("s3://")) as stream:
            assert stream.read() == data
    assert proxy.faults > 20
    # what pyarrow does when it is not told: not one run in a thousand comes through
    hasty = pafs.S3FileSystem(endpoint_override=proxy.endpoint, scheme="http", region="us-east-1")
    with pytest.raises(OSError, match="AWS Error"):
        for number in range(10_000):
            hasty.get_file_info(f"{BUCKET}/patience/{number % 100}")


def test_few_bytes__are_read_where_the_text_of_an_error_is_longer(proxy):
    key = pa.table({"scan_key": ["1"]})
    sink = pa.BufferOutputStream()
    pq.write_table(key.append_column("other", pa.array(["x" * 9000])), sink, compression="none")
    uris = [f"s3://{BUCKET}/patience/{number}.parquet" for number in range(60)]
    for uri in uris:
        publish_bytes(uri, sink.getvalue())
    publish_bytes(f"s3://{BUCKET}/patience/few", b"bytes")
    proxy.mode = "errors"
    assert {read_bytes(f"s3://{BUCKET}/patience/few") for _ in uris} == {b"bytes"}
    found = [read_columns([uri], key.schema, CohortError).num_rows for uri in uris]
    assert found == [1] * len(uris)
    # what it is for: pyarrow alone does not ask again
    fs, path = filesystem(f"s3://{BUCKET}/patience/few")
    proxy.share = 0.5
    with pytest.raises(OSError, match=SHORT_READ):
        for _ in range(1000):
            fs.open_input_stream(path).read()


def test_small_file__is_one_request(proxy):
    filesystem(f"s3://{BUCKET}")
    publish_bytes(f"s3://{BUCKET}/patience/small", b"bytes")
    assert proxy.requests == 1


def test_answers__that_hang_or_come_slowly_are_waited_for(proxy):
    publish_bytes(f"s3://{BUCKET}/patience/slow", b"x" * 40_000)
    proxy.mode = "slow"
    assert len(read_bytes(f"s3://{BUCKET}/patience/slow")) == 40_000
    proxy.mode, proxy.share = "stall", 1.0
    before = proxy.requests
    with filesystem(f"s3://{BUCKET}")[0].open_input_stream(f"{BUCKET}/patience/slow") as stream:
        assert len(stream.read(10)) == 10
    assert proxy.requests - before == 2  # none had to be asked twice


def test_server__that_comes_back_is_found_again(proxy):
    publish_bytes(f"s3://{BUCKET}/patience/back", b"bytes")
    proxy.mode = "down"

    def end():
        time.sleep(3)
        proxy.mode = "pass"

    threading.Thread(target=end).start()
    assert read_bytes(f"s3://{BUCKET}/patience/back") == b"bytes"


def test_iceberg__has_the_same_patience(proxy, tmp_path, monkeypatch):
    monkeypatch.setenv("BOLDSTREAM_CATALOG_URI", f"sqlite:///{tmp_path}/catalog.db")
    catalog = Warehouse.at(f"s3://{BUCKET}/w").catalog
    assert catalog.properties["s3.retry-strategy-impl"] == "boldstream.s3.PatientRetries"
    proxy.mode = "errors"
    table_io = catalog._load_file_io(location=f"s3://{BUCKET}/w")
    for number in range(60):
        uri, data = f"s3://{BUCKET}/w/{number}", bytes([number]) * 1000
        with table_io.new_output(uri).create(overwrite=True) as stream:
            stream.write(data)
        assert table_io.new_input(uri).open().read() == data
    assert proxy.faults > 20
    catalog.close()


def test_keys_in_a_uri__are_refused_and_not_shown():
    with pytest.raises(
        StorageError, match=r"^s3://…@lab: keys do not belong into a URI, .*; set AWS_ACCESS_KEY_ID and"
    ):
        filesystem("s3://me:secret@lab/w")


def test_retries__are_made_without_arguments_as_iceberg_does():
    assert PatientRetries().max_attempts == 11

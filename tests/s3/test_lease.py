"""Leases on a real S3 server and on disk: one owner, the dead lose theirs, and no machine's own clock is asked."""

import json
import multiprocessing
import os
import signal
import time

import pytest

from boldstream.errors import LeaseError, StorageError
from boldstream.lease import Lease, slot_at


@pytest.fixture(params=["disk", pytest.param("s3", marks=pytest.mark.s3)])
def place(request, tmp_path):
    """Return where a test's lease is."""
    if request.param == "disk":
        return f"{tmp_path}/leases/night.json"
    return f"{request.getfixturevalue('s3')}/{tmp_path.name}/night.json"


def test_slot__keeps_to_its_conditions(place):
    slot = slot_at(place)
    text = [json.dumps({"token": str(i)}).encode() for i in range(3)]
    assert slot.read() is None
    assert slot.replace(text[0], '"0"') is None
    tag = slot.create(text[0])
    assert slot.create(text[1]) is None
    found = slot.read()
    assert (found.data, found.tag) == (text[0], tag)
    assert -1 <= found.age_s < 30
    newer = slot.replace(text[1], tag)
    assert slot.replace(text[2], tag) is None
    slot.remove(tag)
    assert slot.read().tag == newer
    slot.remove(newer)
    assert slot.read() is None


def test_lease__has_one_owner_and_ends_with_the_block(place):
    with Lease(place, "the night", 60) as mine:
        mine.check()
        with pytest.raises(LeaseError, match=r"the night is being done by \S+ process \d+, which was alive \d+ s ago"):
            Lease(place, "the night", 60).__enter__()
    with Lease(place, "the night", 60):
        pass
    assert slot_at(place).read() is None


def test_lease__is_renewed_while_it_is_held(place):
    with Lease(place, "the night", 4) as mine:
        first = slot_at(place).read().tag
        time.sleep(5.5)
        mine.check()
        found = slot_at(place).read()
        assert found.tag != first
        assert found.age_s < 4


def test_lease__of_the_dead_is_taken_over(place):
    start = multiprocessing.get_context("fork")
    ready = start.Event()

    def hold():
        Lease(place, "the night", 3).__enter__()
        ready.set()
        time.sleep(60)

    holder = start.Process(target=hold)
    holder.start()
    assert ready.wait(30)
    with pytest.raises(LeaseError, match=r"if it is dead, [123] s more"):
        Lease(place, "the night", 3).__enter__()
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    time.sleep(4.5)  # S3 tells times in whole seconds
    with Lease(place, "the night", 3) as mine:
        mine.check()


def test_lease__that_was_lost_says_so(place):
    with Lease(place, "the night", 2) as mine:
        slot = slot_at(place)
        slot.replace(json.dumps({"token": "another's"}).encode(), slot.read().tag)
        time.sleep(1.5)
        with pytest.raises(LeaseError, match="the night: this process lost its lease"):
            mine.check()
    assert json.loads(slot.read().data)["token"] == "another's"


def test_lease__does_not_ask_the_machines_clock(place, monkeypatch):
    with Lease(place, "the night", 60):
        hour = time.time() + 3600
        monkeypatch.setattr(time, "time", lambda: hour)
        with pytest.raises(LeaseError, match="is being done by"):
            Lease(place, "the night", 60).__enter__()


def test_lease__needs_conditional_writes():
    with pytest.raises(StorageError, match="a lease needs a local path or S3"):
        Lease("gs://bucket/night.json", "the night", 60)


def test_lease__on_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="the lease cannot be kept there"):
        Lease(f"{tmp_path}/file/night.json", "the night", 60).__enter__()

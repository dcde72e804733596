"""What a lab server's nights and jobs stand: PostgreSQL restarted, MLflow gone for a minute, Ray's head restarted.

Takes ten minutes, so `make faults` alone runs it (BOLDSTREAM_FAULTS=1).
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
import yaml

from boldstream.errors import LabError
from boldstream.lab.server import Lab
from boldstream.lab.walk import STEPS, Step, submit

pytestmark = [
    pytest.mark.ray,
    pytest.mark.s3,
    pytest.mark.timeout(1500),
    pytest.mark.skipif("BOLDSTREAM_FAULTS" not in os.environ, reason="takes ten minutes; make faults runs it"),
]

ROOT = Path(__file__).parents[2]
WAREHOUSE = "s3://boldstream/warehouse"
AWAY_S, MINUTE_S = 10, 60
NIGHT = Step("night", "nightly")
LOOK = """
import hashlib, json, sys
from boldstream.artifacts.embeddings import open_table
table = open_table(sys.argv[2], sys.argv[1])
keys = list(table.rows()["row_key"])
found = {key: hashlib.sha256(vector.tobytes()).hexdigest() for key, vector in zip(keys, table.vectors(), strict=True)}
print(json.dumps({"version": table.ref.version, "n": len(keys), "vectors": found}))
"""


class Site:
    """A lab with a champion, and what is said in it."""

    def __init__(self, folder):
        self.lines = []
        self.folder = folder
        self.lab = Lab(folder / "lab", self.lines.append)

    def people(self, n):
        path = Path("configs/ingest/lab.yaml")
        values = yaml.safe_load(path.read_text())
        values["synthetic"]["n_subjects"] = n
        path.write_text(yaml.safe_dump(values))

    def begin(self, step, mark, *more):
        """Submit a job in a thread, and return once its log has a mark."""
        self.lines.clear()
        self.outcome = None

        def run():
            try:
                self.outcome = submit(self.lab, step, *more).made
            except LabError as error:
                self.outcome = error

        thread = threading.Thread(target=run)
        thread.start()
        while not any(mark in line for line in self.lines):
            assert thread.is_alive(), self.said
            time.sleep(0.05)
        return thread

    @property
    def said(self):
        return "\n".join([*self.lines, str(self.outcome)])

    def table(self, name):
        found = subprocess.run(
            [sys.executable, "-c", LOOK, WAREHOUSE, name],
            env=self.lab.layout.of_person() | self.lab.layout.stores,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert found.returncode == 0, found.stderr
        return json.loads(found.stdout)

    def ends_well_or_with_a_line(self, before, n):
        """See how a night ended: promoted, or told in one line why not; the champion whole in either case."""
        now = self.table("lab-brainjepa@champion")
        if isinstance(self.outcome, LabError):
            assert "Traceback" not in self.said, self.said
            assert any("Error: " in line for line in self.lines), self.said
            assert now == before
        else:
            assert (now["n"], len(now["vectors"])) == (n, n)
            assert before["vectors"].items() <= now["vectors"].items()
        return now


@pytest.fixture(scope="module")
def site():
    folder = Path(tempfile.mkdtemp(prefix="labf-"))
    folder.chmod(0o711)
    shutil.copytree(ROOT / "configs", folder / "work" / "configs")
    shutil.copytree(ROOT / "deploy" / "lab", folder / "work" / "deploy" / "lab")
    before = Path.cwd()
    os.chdir(folder / "work")
    try:
        site = Site(folder)
        with site.lab as lab:
            for step in STEPS[:4]:
                submit(lab, step)
            yield site
    finally:
        print("\n".join(map(str, site.lines)))
        os.chdir(before)
        shutil.rmtree(folder)


def test_night__outlasts_a_restart_of_postgres(site):
    before = site.table("lab-brainjepa@champion")
    assert before["n"] == 32
    site.people(40)
    thread = site.begin(NIGHT, "to read", "--date", "now")
    site.lab.postgres.stop()
    time.sleep(AWAY_S)
    site.lab.postgres.start()
    site.lab.postgres.wait()
    thread.join()
    print(site.said)
    assert site.ends_well_or_with_a_line(before, 40)["n"] in (32, 40)


def test_night__outlasts_a_minute_without_mlflow(site):
    before = site.table("lab-brainjepa@champion")
    site.people(48)
    thread = site.begin(NIGHT, "to read", "--date", "now")
    site.lab.mlflow.stop()
    time.sleep(MINUTE_S)
    site.lab.mlflow.start()
    site.lab.mlflow.wait()
    thread.join()
    print(site.said)
    assert site.ends_well_or_with_a_line(before, 48)["n"] in (before["n"], 48)


def test_job__goes_on_after_a_restart_of_the_head(site):
    path = Path("configs/embed/lab.yaml")
    values = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(values | {"output": "again", "batch_size": 1}))
    step = Step("embed", "embed")
    thread = site.begin(step, "vectors to make")
    lab = site.lab
    lab.head.kill()
    for worker in lab.workers:
        worker.kill()  # as those of a machine that is switched off and on
    for service in (lab.head, *lab.workers):
        service.start()
        service.wait()
    thread.join()
    assert isinstance(site.outcome, LabError)
    print(site.said)
    submit(lab, step)
    print(site.said)
    again, champion = site.table("again"), site.table("lab-brainjepa")
    assert again["n"] == len(again["vectors"]) == champion["n"]

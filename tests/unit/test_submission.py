import datetime
import http.server
import os
import re
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
import yaml

from boldstream.artifacts.manifest import git_sha
from boldstream.cli import JOBS, run_on_cluster
from boldstream.errors import ClusterError, ConfigError
from boldstream.remote.answer import ask
from boldstream.remote.environment import has_password, job_variables
from boldstream.remote.server import Job, choose_address, greet
from boldstream.remote.token import find_token
from boldstream.submission.commands import say_jobs
from boldstream.submission.night import job_name
from ray_head import ROOT, clean_environment
from seaweed import free_ports


@pytest.fixture(autouse=True)
def no_cluster_of_the_person(monkeypatch, tmp_path):
    for name in set(os.environ) - set(clean_environment()):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def page():
    """Serve some text that is no Ray dashboard's."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(404 if "none" in self.path else 200)
            self.end_headers()
            self.wfile.write(b'["not Ray"]')

        def log_message(self, *words):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture
def submit(capsys, monkeypatch):
    """Return a function that runs `boldstream submit` in a folder, in this process: it is the same, and quicker."""

    def run(folder, *words):
        monkeypatch.chdir(folder)
        with pytest.raises(SystemExit) as end:
            run_on_cluster("submit", words)
        out, err = capsys.readouterr()
        return SimpleNamespace(returncode=end.value.code, stdout=out, stderr=err)

    return run


@pytest.fixture
def study(tmp_path):
    """Write a folder with a configuration that could be submitted."""
    (tmp_path / "configs").mkdir()
    values = {"output": "out/my-shift", "cohort": "c", "model": "models:/m/1", "warehouse": "s3://lab/w"}
    (tmp_path / "configs" / "a.yaml").write_text(yaml.safe_dump(values))
    return tmp_path


def test_job_name__is_room_output_and_date():
    assert job_name("embed", "abide", "2026-11-28") == "embed-abide-2026-11-28"
    assert job_name("report", "out/a b.c/", "2026-11-28") == "report-a_b_c-2026-11-28"
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    assert job_name("embed", "a", None) == f"embed-a-{today}"
    assert re.fullmatch(rf"embed-a-{today[:3]}\d-\d\d-\d\d-\d{{6}}", job_name("embed", "a", "now"))


def test_job_name__knows_the_day_of_a_time_zone():
    days = {zone: job_name("embed", "a", None, zone)[-10:] for zone in ("Pacific/Kiritimati", "Pacific/Pago_Pago")}
    assert days["Pacific/Kiritimati"] > days["Pacific/Pago_Pago"]  # 25 hours apart


@pytest.mark.parametrize("zone", ["Mars/Olympus", "../../etc/passwd", ""])
def test_job_name__of_an_unknown_time_zone(zone):
    with pytest.raises(ConfigError, match=r"--time-zone: .* is not known here; write UTC or a name such as Europe"):
        job_name("embed", "a", None, zone)


@pytest.mark.parametrize("date", ["yesterday", "28.11.2026", "2026-02-30"])
def test_job_name__of_no_date(date):
    with pytest.raises(ConfigError, match=r"--date: .* is no date; write it as 2026-11-28, or now"):
        job_name("embed", "a", date)


def job(**values):
    known = {"name": "a", "state": "FAILED", "code": None, "started": None, "ended": None, "command": "c"}
    return Job(**{**known, "message": "", **values})


@pytest.mark.parametrize(
    ("state", "code", "status"),
    [
        ("SUCCEEDED", 0, 0),
        ("SUCCEEDED", None, 0),
        ("FAILED", 3, 3),
        ("FAILED", -9, 137),
        ("FAILED", None, 1),
        ("STOPPED", None, 130),
    ],
)
def test_job__passes_on_the_status_of_its_command(state, code, status):
    assert job(state=state, code=code).status == status


def test_job__says_what_became_of_it():
    moment = datetime.datetime(2026, 11, 28, 2, 13, tzinfo=datetime.UTC)
    assert job(code=3, ended=moment).fate() == "failed with exit status 3 at 2026-11-28 02:13:00 UTC"
    assert job(state="RUNNING", started=moment).fate() == "is running since 2026-11-28 02:13:00 UTC"
    assert job(state="PENDING").fate() == "waits to be started since an unknown time"
    assert say_jobs([job(name="embed-a")], "x").splitlines()[1].split() == [
        *("embed-a", "failed", "with", "exit", "status", "1", "at", "an", "unknown", "time", "c")
    ]
    assert say_jobs([], "http://h:8265") == "no jobs were submitted to http://h:8265 since its head was started\n"


def test_token__is_found_in_ray_s_own_order(monkeypatch, tmp_path):
    assert find_token() is None
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("of home\n")
    assert find_token().value == "of home"
    (tmp_path / "file").write_text("of file")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "file"))
    assert find_token().headers == {"Authorization": "Bearer of file"}
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of variable")
    assert find_token().value == "of variable"
    assert "of variable" not in repr(find_token())
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert find_token() is None


@pytest.mark.parametrize(("text", "why"), [(None, "No such file"), ("", "the file is empty")])
def test_token__that_cannot_be_read(monkeypatch, tmp_path, text, why):
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "file"))
    if text is not None:
        (tmp_path / "file").write_text(text)
    with pytest.raises(ConfigError, match=f"the cluster's token cannot be read from .*/file .*{why}"):
        find_token()


def test_address__comes_from_the_command_line_or_the_environment(monkeypatch):
    with pytest.raises(ConfigError, match="no cluster is named: give --address http://head:8265, or set RAY_API_SERV"):
        choose_address(None)
    monkeypatch.setenv("RAY_ADDRESS", "192.0.2.1:6379")
    with pytest.raises(ConfigError, match=r"'192\.0\.2\.1:6379' is no address of a job server"):
        choose_address(None)
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "https://lab/ray/")
    assert choose_address(None) == "https://lab/ray"
    assert choose_address("http://head:8265") == "http://head:8265"


def test_greet__where_nobody_answers():
    port = free_ports(1)[0]
    with pytest.raises(ClusterError, match=rf"no Ray cluster answers at http://127.0.0.1:{port} .*ssh -L {port}:"):
        greet(f"http://127.0.0.1:{port}", None)


@pytest.mark.parametrize("path", ["", "/none"])
def test_greet__where_something_else_answers(page, path):
    with pytest.raises(ClusterError, match=r"what answers at .* is no Ray dashboard \(HTTP status (200|404)\)"):
        greet(f"{page}{path}", None)


def test_ask__where_the_answer_is_no_http():
    code = "import socket; s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen()"
    code += "; print(s.getsockname()[1], flush=True)"
    code += "; c = s.accept()[0]; c.recv(1000); c.sendall(b'SSH-2.0\\r\\n'); c.close()"
    with (
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as server,
        pytest.raises(OSError, match="no HTTP: BadStatusLine SSH"),
    ):
        ask(f"http://127.0.0.1:{int(server.stdout.readline())}", 5)


def test_variables__tell_the_commit_and_how_to_stop(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    found = job_variables(["MLFLOW_TRACKING_URI", "AWS_REGION=eu=1", "AWS_SHARED_CREDENTIALS_FILE=/run/secrets/aws"])
    if sha := git_sha():  # outside a checkout there is none
        assert found.pop("BOLDSTREAM_GIT_SHA") == sha
    assert found == {
        "RAY_JOB_STOP_SIGNAL": "SIGINT",
        "RAY_JOB_STOP_WAIT_TIME_S": "30",
        "MLFLOW_TRACKING_URI": "http://mlflow:5000",
        "AWS_REGION": "eu=1",
        "AWS_SHARED_CREDENTIALS_FILE": "/run/secrets/aws",
    }


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("AWS_SECRET_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY looks like a secret; .*docs/submitting.md"),
        ("AWS_ACCESS_KEY_ID=k", "AWS_ACCESS_KEY_ID looks like a secret"),
        ("MLFLOW_TRACKING_PASSWORD=p", "MLFLOW_TRACKING_PASSWORD looks like a secret"),
        ("ray_auth_token=t", "ray_auth_token looks like a secret"),
        ("BOLDSTREAM_CATALOG_URI=postgresql+psycopg2://me:pw@db/catalog", "BOLDSTREAM_CATALOG_URI holds a password"),
        ("NOT_SET_ANYWHERE", "NOT_SET_ANYWHERE is not set here; write NOT_SET_ANYWHERE=value"),
        ("A B=1", "'A B' is no name of a variable"),
        ("=1", "'' is no name of a variable"),
    ],
)
def test_variables__are_no_secrets(word, message):
    with pytest.raises(ConfigError, match=f"--env: .*{message}"):
        job_variables([word])


def test_password__is_found_in_uris_only():
    assert has_password("https://me:pw@host/x")
    assert not has_password("https://me@host/x")
    assert not has_password("models:/a@champion")
    assert not has_password("http://[half")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--config", "none.yaml"], "ConfigError: none.yaml: no such file"),
        (["--config", "configs/a.yaml", "--", "--n-neighbours", "x"], "Unrecognized options: --n-neighbours"),
        (["--config", "configs/a.yaml", "--", "--output", ""], "ConfigError: "),
        (["--config", "configs/a.yaml"], "ConfigError: no cluster is named"),
        (["--config", "configs/a.yaml", "--address", "head:8265"], "ConfigError: 'head:8265' is no address of a job s"),
        (
            ["--config", "configs/a.yaml", "--", "--warehouse", "w"],
            "ConfigError: warehouse: 'w' of configs/a.yaml is relative, and on",
        ),
        (
            ["--config", "configs/a.yaml", "--", "--warehouse", "x://a:b@c"],
            "ConfigError: a value after -- holds a pass",
        ),
        (["--config", "configs/a.yaml", "--", "--warehouse=x://a:b@c"], "ConfigError: --warehouse holds a password"),
        (["--config", "configs/a.yaml", "--exclude", "configs/"], "ConfigError: configs/a.yaml: does not go to the cl"),
        (["--config", "configs/a.yaml", "--date", "x"], "ConfigError: --date: 'x' is no date"),
        (["--config", "configs/a.yaml", "--env", "MY_KEY=1"], "ConfigError: --env: MY_KEY looks like a secret"),
        (
            ["--config", "configs/a.yaml", "--follow", "--no-wait"],
            "argument --no-wait: not allowed with argument --follow",
        ),
        ([], "boldstream submit: the following arguments are required: --config"),
        (["--config", "configs/a.yaml", "--again=1"], "boldstream submit: argument --again: ignored explicit argument"),
    ],
)
def test_submit__says_what_is_wrong_before_anything_is_sent(study, submit, words, message):
    found = submit(study, "shift", *words)
    assert found.returncode == 2
    assert message in found.stderr + found.stdout
    assert "Traceback" not in found.stderr


def test_submit__looks_into_the_configurations_that_a_night_names(study, submit):
    (study / "configs" / "embed.yaml").write_text(
        "{output: t, cohort: c, model: models:/m/1, strategy: configs/s.yaml, warehouse: near}"
    )
    (study / "configs" / "night.yaml").write_text("embed: configs/embed.yaml\n")
    found = submit(study, "nightly", "--config", "configs/night.yaml")
    assert found.returncode == 2
    assert "warehouse: 'near' of configs/embed.yaml is relative" in found.stderr
    found = submit(study, "nightly", "--config", "configs/night.yaml", "--exclude", "embed.yaml")
    assert "configs/embed.yaml: does not go to the cluster" in found.stderr


def test_submit__of_a_configuration_elsewhere(study, submit):
    (study / "inner").mkdir()
    found = submit(study / "inner", "shift", "--config", "../configs/a.yaml")
    assert (found.returncode, found.stdout) == (2, "")
    assert re.fullmatch(r"ConfigError: ../configs/a.yaml: is not in the working directory .*\n", found.stderr)


def test_submit__of_a_file_that_a_configuration_names_and_that_stays_here(study, submit):
    (study / "recipe.yaml").write_text("{}")
    (study / ".gitignore").write_text("recipe.yaml\n")
    values = {"output": "a", "cohort": "c", "model": "models:/m/1", "strategy": "recipe.yaml", "warehouse": "/w"}
    (study / "configs" / "e.yaml").write_text(yaml.safe_dump(values))
    found = submit(study, "embed", "--config", "configs/e.yaml")
    assert (found.returncode, found.stdout) == (2, "")
    assert re.fullmatch(r"ConfigError: recipe.yaml: does not go to the cluster, because a .gitignore.*\n", found.stderr)


def test_submit__knows_every_job(submit):
    found = submit(ROOT, "--help")
    assert found.returncode == 0
    assert ", ".join(JOBS) in " ".join(found.stdout.split())
    assert re.search("argument JOB: invalid choice: 'embd'", submit(ROOT, "embd", "--config", "x").stderr)


@pytest.mark.parametrize("words", [["submit", "--help"], ["jobs"], ["doctor", "--help"], ["--help"]])
def test_help__of_cluster_commands_starts_nothing_heavy(words):
    code = (
        f"import sys\nsys.argv = ['boldstream', *{words!r}]\nfrom boldstream.cli import main\n"
        "try: main()\nexcept SystemExit as end: status = end.code\n"
        "heavy = ('torch', 'ray', 'mlflow', 'pandas', 'pyarrow', 'pyiceberg', 'aiohttp', 'requests', 'tyro')\n"
        "print([status, *(n for n in heavy if n in sys.modules)])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=clean_environment()
    )
    assert found.stdout.endswith("[0]\n"), found.stdout + found.stderr

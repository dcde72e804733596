"""What deploy/ ships besides Kubernetes: each file read by the tool that it is for, as far as that runs offline."""

import importlib.metadata
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import jsonschema
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
BIN = Path(sys.executable).parent
COMPOSE = DEPLOY / "compose.yaml"
ALL_PROFILES = ["--profile", "gpu", "--profile", "observability", "--profile", "submit"]


def run(*command):
    return subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=120, check=False, cwd=ROOT)


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """The example of .env, with a made-up value for every name."""
    path = tmp_path_factory.mktemp("env") / "filled.env"
    path.write_text(re.sub(r"^(\w+)=$", r"\1=made-up-\1", (DEPLOY / ".env.example").read_text(), flags=re.MULTILINE))
    return path


def composed(env, file=COMPOSE):
    return run(BIN / "docker-compose", "--env-file", env, "--file", file, *ALL_PROFILES, "config", "--format", "json")


@pytest.fixture(scope="module")
def services(filled):
    found = composed(filled)
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout)["services"]


def test_compose__is_what_docker_compose_understands(services):
    assert set(services) >= {"postgres", "s3", "mlflow", "ray-head", "ray-worker", "ray-gpu-worker", "submit"}
    assert services["ray-worker"]["deploy"]["replicas"] == 2


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("    healthcheck: {test: [CMD, pg", "    healthcheck: {tests: [CMD, pg", "healthcheck"),
        ("condition: service_healthy}, s3", "condition: healthy}, s3", "depends_on"),
        ("deploy: {replicas: 2}", "deploy: {replica: 2}", "deploy"),
        (
            "    networks: [lab]\n    environment:\n      POSTGRES",
            "    network: [lab]\n    environment:\n      POSTGRES",
            "postgres",
        ),
        ("networks: {lab: {}}", "networks: {labs: {}}", "undefined network lab"),
        ("postgres: {}, s3: {}", "postgres: {}", "undefined volume s3"),
        ("capabilities: [gpu]", "capability: [gpu]", "devices"),
    ],
)
def test_seeded_mistake_in_compose__is_caught(tmp_path, filled, right, wrong, message):
    text = COMPOSE.read_text()
    assert text.count(right) == 1
    broken = tmp_path / "compose.yaml"
    broken.write_text(text.replace(right, wrong))
    found = composed(filled, broken)
    assert found.returncode != 0
    assert message in found.stderr


def test_compose__starts_nothing_without_every_secret(tmp_path, filled):
    assert composed(DEPLOY / ".env.example").returncode != 0
    names = re.findall(r"^(\w+)=", filled.read_text(), re.MULTILINE)
    assert names
    for name in names:
        lacking = tmp_path / "lacking.env"
        lacking.write_text(re.sub(rf"^{name}=.*$", f"{name}=", filled.read_text(), flags=re.MULTILINE))
        found = composed(lacking)
        assert (found.returncode != 0, f"required variable {name} is missing a value" in found.stderr) == (True, True)


def test_compose__puts_no_secret_on_a_command_line_and_opens_ports_on_this_machine_only(services):
    for name, service in services.items():
        assert "made-up" not in json.dumps([service.get("command"), service.get("entrypoint"), service["image"]]), name
        assert all(port["host_ip"] == "127.0.0.1" for port in service.get("ports", ())), name
        assert "no-new-privileges:true" in service["security_opt"], name
    assert all(services[name]["read_only"] for name in services if name != "postgres")


def test_compose__asks_for_passwords_everywhere(services):
    assert services["mlflow"]["command"][:4] == ["mlflow", "server", "--app-name", "basic-auth"]
    for name in ("ray-head", "ray-worker", "ray-gpu-worker", "submit"):
        environment = services[name]["environment"]
        assert (environment["RAY_AUTH_MODE"], environment["RAY_AUTH_TOKEN"]) == ("token", "made-up-RAY_AUTH_TOKEN")


def test_compose__mounts_files_that_are_there(services):
    binds = [
        Path(mount["source"])
        for found in services.values()
        for mount in found.get("volumes", ())
        if mount["type"] == "bind"
    ]
    assert len(binds) == 6
    assert all(path.is_file() for path in binds)


def test_databases__are_those_that_are_named_elsewhere():
    made = set(re.findall(r"CREATE DATABASE (\w+);", (DEPLOY / "lab" / "databases.sql").read_text()))
    used = COMPOSE.read_text() + (DEPLOY / "lab" / "mlflow-auth.ini").read_text()
    assert set(re.findall(r"postgresql\+psycopg2:///(\w+)", used)) == made


def test_dockerfile__passes_its_linter():
    found = run(BIN / "hadolint", DEPLOY / "Dockerfile")
    assert (found.returncode, found.stdout) == (0, "")


def test_dockerfile__takes_what_is_pinned_and_ends_as_nobody():
    text = (DEPLOY / "Dockerfile").read_text()
    assert re.search(r"^FROM python:3\.11\.\d+-slim-\w+$", text, re.MULTILINE)
    assert re.findall(r"^USER (.+)$", text, re.MULTILINE) == ["1000:1000"]
    installs = re.findall(r"pip install[^;&\n]*", text)
    assert len(installs) == 4
    for install in installs:
        assert "--no-deps" in install
        assert "--require-hashes" in install or "--constraint" in install or install.rstrip().endswith(" .")


def test_dockerignore__lets_through_what_is_copied_and_nothing_else():
    allowed = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    copied = [
        name
        for line in re.findall(r"^COPY (.+)$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
        for name in line.split()[:-1]
    ]
    assert sorted(allowed) == sorted(copied)
    assert all((ROOT / name).exists() for name in copied)


def locked(name):
    lines = [line for line in (DEPLOY / name).read_text().splitlines() if not line.startswith("#")]
    found = [re.fullmatch(r"([\w.-]+)==(\S+) --hash=sha256:[0-9a-f]{64}", line) for line in lines]
    assert all(found), f"{name}: a line without a version or a hash"
    return {canonicalize_name(match[1]): match[2] for match in found}


def test_lock__has_the_versions_that_are_tested():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pinned = {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}
    image, cuda = locked("requirements.txt"), locked("requirements-cuda.txt")
    assert not set(image) & set(cuda)
    assert {name: version for name, version in image.items() if pinned.get(name) != version} == {}
    assert cuda["torch"] == pinned["torch"]


def test_lock__holds_all_that_the_package_needs():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [line for name in ("s3", "gpu", "postgres", "server") for line in project["optional-dependencies"][name]]
    known = set(locked("requirements.txt")) | set(locked("requirements-cuda.txt"))
    wanted, seen = {Requirement(line) for line in [*project["dependencies"], *extras, "hatchling"]}, set()
    while wanted:
        need = wanted.pop()
        name = canonicalize_name(need.name)
        assert name in known, f"{name}: not locked; run make lock"
        try:
            lines = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # for GPUs, or to build: not installed here
        for further in map(Requirement, lines):
            told = any(
                further.marker is None or further.marker.evaluate({"extra": extra}) for extra in ["", *need.extras]
            )
            if told and str(further) not in seen:
                seen.add(str(further))
                wanted.add(further)


SCRIPTS = sorted(
    ROOT / name
    for name in run("git", "ls-files", "--cached", "--others", "--exclude-standard").stdout.splitlines()
    if (ROOT / name).is_file() and re.match(rb"#!.*\b(ba)?sh\b", (ROOT / name).read_bytes()[:40])
)


def test_scripts__are_found():
    assert {path.name for path in SCRIPTS} >= {"run", "boldstream.sbatch"}


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_script__passes_shellcheck(path):
    found = run(BIN / "shellcheck", path)
    assert (found.returncode, found.stdout) == (0, "")


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
@pytest.mark.parametrize(
    "mistake", [None, ("Type=oneshot", "Typ=oneshot"), ("OnCalendar=*-*-* 02:00:00", "OnCalendar=2 o'clock")]
)
def test_units__pass_systemd_analyze_and_mistakes_do_not(tmp_path, mistake):
    for source in (DEPLOY / "systemd").iterdir():
        text = source.read_text().replace("/opt/boldstream/.venv/bin/python", sys.executable)
        (tmp_path / source.name).write_text(text.replace(*mistake) if mistake else text)
    found = run("systemd-analyze", "verify", *sorted(tmp_path.iterdir()))
    said = [line for line in found.stderr.splitlines() if str(tmp_path) in line or "boldstream" in line]
    assert bool(said) == bool(mistake), found.stderr


@pytest.mark.parametrize("mistake", [None, "max_worker", "providers"])
def test_ray_up__is_what_ray_understands(mistake):
    schema = json.loads(
        (Path(importlib.util.find_spec("ray").origin).parent / "autoscaler" / "ray-schema.json").read_text()
    )
    config = yaml.safe_load((DEPLOY / "cloud" / "aws.yaml").read_text())
    if mistake:
        config[mistake] = 1
    errors = [error.message for error in jsonschema.Draft7Validator(schema).iter_errors(config)]
    assert bool(errors) == bool(mistake), errors


def test_bucket_policy__allows_no_more_than_is_needed():
    statements = json.loads((DEPLOY / "s3" / "bucket-policy.json").read_text())["Statement"]
    allowed, denied = ([one for one in statements if one["Effect"] == effect] for effect in ("Allow", "Deny"))
    assert len(allowed) + len(denied) == len(statements)
    actions = [
        action for one in allowed for action in ([one["Action"]] if isinstance(one["Action"], str) else one["Action"])
    ]
    assert set(actions) == {
        "s3:ListBucket",
        "s3:GetObject",
        "s3:PutObject",  # multipart and conditional puts are puts
        "s3:DeleteObject",
        "s3:AbortMultipartUpload",
    }
    assert "*" not in json.dumps(actions)
    places = [
        place
        for one in allowed
        for place in ([one["Resource"]] if isinstance(one["Resource"], str) else one["Resource"])
    ]
    assert all(re.fullmatch(r"arn:aws:s3:::boldstream(/(warehouse|mlflow|data)/\*)?", place) for place in places)
    assert not [one for one in allowed if "data/*" in json.dumps(one["Resource"]) and one["Action"] != "s3:GetObject"]


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed (Debian: prometheus)")
def test_prometheus__understands_its_configuration():
    found = run("promtool", "check", "config", DEPLOY / "observability" / "prometheus.yaml")
    assert found.returncode == 0, found.stderr


def test_files__say_what_to_change_and_how_to_apply_them():
    silent = {
        "requirements.txt",
        "requirements-cuda.txt",
        "grafana-dashboard.json",
        "bucket-policy.json",
        "README.md",
        "lock.py",
    }
    files = [path for path in DEPLOY.rglob("*") if path.is_file() and path.name not in {*silent, ".env"}]
    assert len(files) > 15
    for path in files:
        head = path.read_text()[:2500]
        assert re.match(r"#|;|--", head), path
        assert re.search("CHANGE|Change|Copy to", head), path

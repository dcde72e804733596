"""Every command in deploy/ is one that exists, its configuration loads, and all of its options are known."""

import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from boldstream.cli import DOORS, parse_config
from boldstream.embed import EmbedConfig

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
FILES = sorted(path for path in DEPLOY.rglob("*") if path.is_file() and path.name != ".env")
COMMAND = re.compile(
    r"""(?: (?:^|[\s/`"])python3?\s+(?P<script>jobs/\w+\.py)  # what a person types, and Ray's entrypoints
          | boldstream\.sbatch\s+(?P<batch>jobs/\w+\.py)
          | (?:boldstream\s+|--rm\s+)submit\s+(?P<submitted>\w+)
        )(?P<words>[^\n`]*)""",
    re.VERBOSE | re.MULTILINE,
)
OF_SUBMIT = {"--address": 1, "--time-zone": 1, "--follow": 0, "--installed": 0}
"""What `boldstream submit` reads itself, and how many words follow; after ``--`` come the job's own options."""


def texts(value):
    """Yield every text in a YAML document; a container's command with its arguments is one."""
    if isinstance(value, dict):
        if isinstance(value.get("command"), list) and isinstance(value.get("args"), list):
            yield shlex.join(value["command"] + value["args"])
        for part in value.values():
            yield from texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from texts(part)
    elif isinstance(value, str):
        yield value


def commands(text):
    """Yield the job and the words after it of every command in a text; a backslash continues a line."""
    joined = re.sub(r"\\\n\s*#?\s*", " ", text)
    for found in COMMAND.finditer(joined):
        job = found["submitted"] or Path(found["script"] or found["batch"]).stem
        if job.isupper():  # JOB, in a line that tells how to write one
            continue
        yield job, shlex.split(re.split(r"\s{3,}|\s#|&&|;", found["words"])[0], comments=True)


def collect():
    for path in FILES:
        text = path.read_text()
        found = list(commands(text))
        if path.suffix in (".yaml", ".yml"):
            comments = "\n".join(re.findall(r"^\s*#.*$", text, re.MULTILINE))
            found = list(commands(comments))
            for document in yaml.safe_load_all(text):
                for part in texts(document):
                    found += commands(part)
        for number, (job, words) in enumerate(found):
            yield pytest.param(job, words, id=f"{path.relative_to(DEPLOY)}:{number}")


FOUND = list(collect())


def test_commands__are_found_in_all_kinds_of_files():
    where = {param.id.partition(":")[0] for param in FOUND}
    assert where >= {
        "README.md",
        "cloud/aws.yaml",
        "compose.yaml",
        "kuberay/jobs/adjust.yaml",
        "kuberay/jobs/embed.yaml",
        "kuberay/jobs/gradients.yaml",
        "kuberay/jobs/ingest.yaml",
        "kuberay/jobs/nightly.yaml",
        "kuberay/jobs/pretrain.yaml",
        "kuberay/jobs/probe.yaml",
        "kuberay/nightly-cronjob.yaml",
        "kuberay/nightly-raycronjob.yaml",
        "slurm/boldstream.sbatch",
        "systemd/boldstream-nightly.service",
    }


def of_job(words):
    """Leave out what `submit` itself reads; after two dashes all is the job's."""
    cut = words.index("--") if "--" in words else len(words)
    own, kept = words[:cut], []
    while own:
        word = own.pop(0)
        if word in OF_SUBMIT:
            del own[: OF_SUBMIT[word]]
        else:
            kept.append(word)
    return kept + words[cut + 1 :]


@pytest.mark.parametrize(("job", "words"), FOUND)
def test_command__is_a_job_whose_configuration_loads(monkeypatch, job, words):
    monkeypatch.chdir(ROOT)
    assert (ROOT / "jobs" / f"{job}.py").is_file()
    assert job in DOORS
    config_class = getattr(importlib.import_module(f"boldstream.{job}"), DOORS[job][1])
    assert "--config" in words
    config = parse_config(config_class, of_job(words))
    assert isinstance(config, config_class)
    named = [value for value in config.model_dump(mode="json").values() if str(value).endswith(".yaml")]
    assert [name for name in named if not Path(name).is_file()] == []


ON_GPUS = [found for found in FOUND if found.values[0] in ("embed", "nightly", "pretrain") and "kuberay" in found.id]


@pytest.mark.parametrize(("job", "words"), ON_GPUS)
def test_command__that_computes_on_gpus_waits_until_kubernetes_has_started_some(monkeypatch, job, words):
    monkeypatch.chdir(ROOT)
    config = parse_config(getattr(importlib.import_module(f"boldstream.{job}"), DOORS[job][1]), of_job(words))
    if job == "nightly":
        config = EmbedConfig.from_yaml(config.embed)
    assert (config.workers if job == "pretrain" else config.actors).gpu == "yes"
    assert config.cluster.wait_minutes > 0


def test_submit__is_a_command():
    code = "import sys; from boldstream.cli import main; sys.argv[0] = 'boldstream'; main()"
    found = subprocess.run(
        [sys.executable, "-c", code, "submit", "--help"], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    assert [option for option in OF_SUBMIT if option not in found.stdout] == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("python jobs/embed.py --config a.yaml\n", [("embed", ["--config", "a.yaml"])]),
        ("ExecStart=/opt/x/.venv/bin/python jobs/nightly.py --config b", [("nightly", ["--config", "b"])]),
        (
            "#   x run --rm submit nightly --config c \\\n#     --address http://h",
            [("nightly", ["--config", "c", "--address", "http://h"])],
        ),
        ("boldstream submit embed --config d   # now", [("embed", ["--config", "d"])]),
        ("sbatch s/boldstream.sbatch jobs/ingest.py --config e", [("ingest", ["--config", "e"])]),
        ("`submit JOB` and jobs/embed.py are no commands", []),
    ],
)
def test_commands__are_read_as_a_shell_reads_them(text, expected):
    assert list(commands(text)) == expected


def test_submit__gives_a_job_what_stands_after_two_dashes():
    words = ["--config", "a.yaml", "--address", "http://h", "--follow", "--", "--warehouse", "s3://b/w"]
    assert of_job(words) == ["--config", "a.yaml", "--warehouse", "s3://b/w"]

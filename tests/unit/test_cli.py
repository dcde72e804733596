import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
JOBS = ["ingest", "gradients", "pretrain", "import_weights", "embed", "adjust", "probe", "shift", "nightly", "report"]
CENTRAL = {"nightly": "embed"}
"""What a job is about, where it is not its output."""
EXAMPLES = {"import_weights": "brainjepa", "shift": "abide", "probe": "synthetic"}


def run(*command, **env):
    """Run a command as a person does, from the repository's root."""
    return subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "COLUMNS": "200", **env},
        check=False,
    )


@pytest.mark.parametrize("job", JOBS)
def test_help__shows_the_values_of_the_file(job):
    config = ROOT / "configs" / job / f"{EXAMPLES.get(job, 'demo')}.yaml"
    found = run(f"jobs/{job}.py", "--config", config, "--help")
    assert (found.returncode, found.stderr) == (0, "")
    key = CENTRAL.get(job, "output")
    assert f"--{key}" in found.stdout
    assert str(yaml.safe_load(config.read_text())[key]) in found.stdout
    assert "--config FILE (YAML) gives the values below" in found.stdout


@pytest.mark.parametrize("job", JOBS)
def test_help__works_without_a_file(job):
    found = run(f"jobs/{job}.py", "--help")
    assert (found.returncode, found.stderr) == (0, "")
    assert f"--{CENTRAL.get(job, 'output')}" in found.stdout


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        ("optim: {lrr: 1}", [], r"ConfigError: .*run.yaml: unknown key 'optim.lrr' \(did you mean 'optim.lr'\?\)"),
        ("steps: many", [], r"ConfigError: .*run.yaml: steps: Input should be a valid integer"),
        ("steps: 10", ["--steps", "-3"], r"ConfigError: command line: steps: .*greater than or equal to 0, got -3"),
        ("steps: 10", ["--output", "a b"], r"ConfigError: command line: output: is no artifact name"),
        ("steps: 10", ["--optim.warmup-steps", "10"], r"ConfigError: command line: .*warmup_steps \(10\) must be belo"),
    ],
)
def test_job__with_a_bad_value_ends_in_one_line_and_status_2(tmp_path, text, arguments, message):
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump({"output": "m", "cohort": "c", "gradient": "g", "steps": 1} | yaml.safe_load(text)))
    found = run("jobs/pretrain.py", "--config", path, *arguments)
    assert found.returncode == 2
    assert found.stdout == ""
    assert re.fullmatch(message + ".*\n", found.stderr)


@pytest.mark.parametrize("arguments", [["--batch-size", "many"], ["--no-such-option", "1"], []])
def test_job__with_a_bad_command_line_ends_without_a_traceback(arguments):
    config = ["--config", "configs/embed/demo.yaml"] if arguments else []
    found = run("jobs/embed.py", *config, *arguments)
    assert found.returncode == 2
    assert "Traceback" not in found.stderr
    assert (arguments or ["--output"])[0] in found.stderr


def test_job__without_its_file_says_so(tmp_path):
    found = run("jobs/embed.py", "--config", tmp_path / "none.yaml")
    assert found.returncode == 2
    assert re.fullmatch(r"ConfigError: .*none.yaml: no such file \(working directory: .*\)\n", found.stderr)


def test_job__whose_input_is_missing_ends_in_one_line(tmp_path):
    found = run(
        "jobs/ingest.py",
        "--config",
        "configs/ingest/abide.yaml",
        "--source.root",
        tmp_path / "none",
        "--warehouse",
        tmp_path / "w",
    )
    assert found.returncode == 2
    assert re.fullmatch(r"SourceError: source: .*none: no such folder\n", found.stderr)
    assert list(tmp_path.iterdir()) == []


def test_import_weights__without_statistics_ends_in_one_line():
    found = run("jobs/import_weights.py", "--config", "configs/import_weights/brainjepa.yaml", "--scaling", "robust")
    assert found.returncode == 2
    assert re.fullmatch(r"ConfigError: command line: scaling robust needs statistics: .*\n", found.stderr)


def command(*arguments):
    """Run the installed `boldstream` command."""
    path = Path(sys.executable).with_name("boldstream")
    return subprocess.run([path, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_command__lists_the_jobs():
    found = command("--help")
    assert found.returncode == 0
    assert [job for job in JOBS if job in found.stdout] == JOBS


def test_command__runs_a_job():
    found = command("embed", "--config", "configs/embed/none.yaml")
    assert found.returncode == 2
    assert found.stderr.startswith("ConfigError: configs/embed/none.yaml: no such file")


def test_tables__without_a_command_prints_its_help():
    found = command("tables")
    assert found.returncode == 0
    commands = ["list", "show", "diff", "promote", "rollback", "export", "expire"]
    assert [name for name in commands if f"\n    {name} " in found.stdout] == commands
    assert "boldstream tables diff abide-brainjepa@champion abide-brainjepa" in found.stdout
    assert command("tables", "--help").stdout == found.stdout
    assert "  boldstream tables diff abide@1 abide@2" in command("tables", "diff", "--help").stdout


def test_tables__end_in_one_line_and_status_2(tmp_path):
    found = command("tables", "show", "a@1", "--warehouse", tmp_path / "none")
    assert (found.returncode, found.stdout) == (2, "")
    assert re.fullmatch(r"StorageError: there is no warehouse at .*/none; name yours with --warehouse\n", found.stderr)
    found = command("tables", "diff", "a")
    assert (found.returncode, found.stdout) == (2, "")
    assert re.fullmatch(r"boldstream tables diff: the following arguments are required: B .*\n", found.stderr)
    assert list(tmp_path.iterdir()) == []


def test_help__of_tables_starts_nothing_heavy():
    code = (
        "import sys\nfrom boldstream.cli import tables\ntables([])\n"
        "print([n for n in ('torch', 'ray', 'mlflow', 'pandas', 'matplotlib', 'sklearn') if n in sys.modules])"
    )
    assert run("-c", code).stdout.endswith("[]\n")


def test_import__is_light():
    code = "import boldstream, sys; print([n for n in ('torch', 'ray', 'mlflow', 'pandas') if n in sys.modules])"
    assert run("-c", code).stdout == "[]\n"


def test_help__of_a_job_starts_neither_ray_nor_mlflow():
    code = (
        "import runpy, sys\nsys.argv = ['jobs/ingest.py', '--help']\n"
        "try: runpy.run_path('jobs/ingest.py', run_name='__main__')\n"
        "except SystemExit: print([n for n in ('torch', 'ray', 'mlflow') if n in sys.modules])"
    )
    assert run("-c", code).stdout.endswith("[]\n")


def test_source_root__does_not_shadow_the_standard_library():
    assert not (ROOT / "platform" / "__init__.py").exists()
    assert "lib" in run("-c", "import platform; print(platform.__file__)").stdout


def test_jobs__are_thin_and_there_for_every_room():
    assert {path.stem for path in (ROOT / "jobs").glob("*.py")} == {*JOBS, "demo"}
    for path in (ROOT / "jobs").glob("*.py"):
        assert len(path.read_text().splitlines()) <= 30, path

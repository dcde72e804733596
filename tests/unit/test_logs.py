"""The log: a line an event, for people and for machines, and never a subject's name."""

import ast
import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from boldstream.cli import clean_exit
from boldstream.embed.attempt import attempt
from boldstream.errors import ConfigError, SourceError
from boldstream.ingest.again import count_changes, tell_changes
from boldstream.logs import JsonLines, TextLines, configure, in_run
from boldstream.pseudonyms import pseudonym

PLATFORM = Path(__file__).parents[2] / "platform" / "boldstream"
SALT = "s" * 32


def record(message, *arguments, **extra):
    made = logging.LogRecord("boldstream.ingest.run", logging.INFO, "f.py", 1, message, arguments, None)
    made.__dict__.update(extra)
    return made


def line(**extra):
    return json.loads(JsonLines().format(record("ingest: %d scans", 3, **extra)))


def test_json__has_time_level_room_and_message():
    found = line()
    assert found.pop("time").endswith("+00:00")
    assert found == {"level": "INFO", "room": "ingest", "message": "ingest: 3 scans"}


def test_json__within_a_run_says_which_and_for_how_long():
    with in_run("nightly", "abc"):
        with in_run("embed", "def"):
            inner = line()
        outer = line()
    assert (inner["room"], inner["run_id"]) == ("embed", "def")
    assert (outer["room"], outer["run_id"]) == ("nightly", "abc")
    assert outer["seconds"] >= inner["seconds"] >= 0
    assert "run_id" not in line()


def test_json__names_a_scan_by_its_hash(monkeypatch):
    monkeypatch.delenv("BOLDSTREAM_SUBJECT_SALT", raising=False)
    without = line(scan="sub-01")["scan"]
    monkeypatch.setenv("BOLDSTREAM_SUBJECT_SALT", SALT)
    assert line(scan="sub-01")["scan"] == pseudonym("sub-01", SALT) != without
    assert line(scan="sub-01") | {"time": 0} != line(scan="sub-02") | {"time": 0}
    assert "sub-01" not in json.dumps(line(scan="sub-01"))


@pytest.mark.parametrize("form", [TextLines(), JsonLines()])
def test_line__cannot_be_faked_by_a_file_name(form):
    text = form.format(record("ingest: %s", "a\n12:00:00 all is well\x1b[2J"))
    assert len(text.splitlines()) == 1
    assert "\x1b" not in text


SCRIPT = """
import logging, sys
from boldstream.cli import clean_exit, configure_logging
from boldstream.errors import SourceError
with clean_exit():
    configure_logging()
    logging.getLogger("boldstream.ingest.run").debug("gone: sub-01")
    logging.getLogger("boldstream.ingest.run").info("ingest: quarantined: unreadable", extra={"scan": "sub-01"})
    logging.getLogger("boldstream.ingest.run").warning("ingest: 1 scans go")
    logging.getLogger("py4j").info("noise")
    raise SourceError("no\\nscans")
"""


def run(**environment):
    known = {"PYTHONPATH": str(PLATFORM.parent), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=known | environment, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    return done.stderr.splitlines()


def test_command__writes_lines_for_people():
    first, last = run()
    assert first.endswith("ingest: 1 scans go")
    assert last == "SourceError: no\\nscans"


def test_command__writes_json_lines_on_demand():
    found = [json.loads(text) for text in run(BOLDSTREAM_LOG="json")]
    assert [one["message"] for one in found] == [
        "ingest: quarantined: unreadable", "ingest: 1 scans go", "SourceError: no\nscans",
    ]  # fmt: skip
    assert [one["level"] for one in found] == ["INFO", "WARNING", "ERROR"]
    assert len(found[0]["scan"]) == 16


def test_command__names_scans_at_debug_only():
    assert any("sub-01" in text for text in run(BOLDSTREAM_LOG_LEVEL="DEBUG"))
    assert not any("sub-01" in text for text in run())


@pytest.mark.parametrize(("variable", "value"), [("BOLDSTREAM_LOG", "xml"), ("BOLDSTREAM_LOG_LEVEL", "chatty")])
def test_configure__refuses_what_there_is_not(monkeypatch, variable, value, capsys):
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=f"{variable}: '{value}' is none of "):
        configure()
    with pytest.raises(SystemExit), clean_exit():
        configure()
    assert f"{variable}: '{value}' is none of " in capsys.readouterr().err


def test_changes__are_counted_in_the_log_and_named_on_the_page():
    changes = {"since": "1", "added": ["sub-01", "sub-02"], "changed": [], "removed": ["sub-03"], "quarantined": []}
    assert count_changes(changes) == ["2 scans added since version 1", "1 scans removed since version 1"]
    assert tell_changes(changes)[0] == "2 scans added since version 1: sub-01, sub-02."
    assert count_changes({}) == tell_changes({}) == []


def test_failure__of_a_scan_is_logged_without_its_message(caplog):
    key = "sub-01"

    def fail():
        raise SourceError(f"{key} is broken")

    assert attempt(fail).columns["message"] == "sub-01 is broken"
    assert "boldstream.errors.SourceError" in caplog.text
    assert "in fail" in caplog.text
    assert "sub-01" not in caplog.text


NAMING = {
    "few_of",
    "scan_key",
    "scan_keys",
    "row_key",
    "keys",
    "subject",
    "subjects",
    "gone",
    "without_scan",
    "source_uri",
}
COUNTING = {"len", "n_different"}
SPOKEN = {"info", "warning", "error", "exception", "critical"}


def named(call):
    """Return what of a logger's call would put names of scans or people into its line."""
    found = set()
    waiting = list(call.args)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in COUNTING:
            continue
        word = getattr(node, "id", getattr(node, "attr", getattr(node, "value", None)))
        if isinstance(word, str) and word in NAMING:
            found.add(word)
        waiting += ast.iter_child_nodes(node)
    return found


def calls(text):
    for node in ast.walk(ast.parse(text)):
        called = node.func if isinstance(node, ast.Call) else None
        if isinstance(called, ast.Attribute) and called.attr in SPOKEN and getattr(called.value, "id", "") == "logger":
            yield node


@pytest.mark.parametrize(
    "text",
    ["logger.info('%s', few_of(x, 3))", "logger.error(f'{scan.scan_key}')", "logger.warning('', row['subject'])"],
)
def test_naming_call__is_found(text):
    assert [named(call) for call in calls(text)] != [set()]
    assert [named(call) for call in calls("logger.info('%d of them', len(difference.gone), extra={'scan': k})")] == [
        set()
    ]


def test_no_call__above_debug_names_scans_or_people():
    found = [(path, call) for path in PLATFORM.rglob("*.py") for call in calls(path.read_text())]
    assert len(found) > 40
    wrong = {f"{path.name}:{call.lineno}": named(call) for path, call in found if named(call)}
    assert wrong == {}

"""No file that configures anything holds a credential; the search is shown to find what it is to find."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted(
    path
    for folder in ("configs", "deploy")
    for path in (ROOT / folder).rglob("*")
    if path.is_file() and path.name != ".env" and "__pycache__" not in path.parts
)
KNOWN_FORMS = re.compile(
    r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"  # AWS key ids
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
    r"|\bgh[pousr]_[A-Za-z0-9]{36}\b|\bgithub_pat_\w{20,}|\bhf_[A-Za-z]{30,}|\bglpat-[\w-]{20,}"
    r"|\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\."  # JSON web tokens
    r"|://[^/\s:@$]+:[^/\s@$]+@"  # user:password@ in an address
)
ASSIGNED = re.compile(
    r"""(?P<name>[\w.-]*(?:password|passwd|secret|salt|token|access[_-]?key|api[_-]?key|cookie[_-]?key)[\w.-]*)["']?
        [ \t]*[:=][ \t]*(?P<value>"[^"\n]*"|'[^'\n]*'|[^\s,}\]#&|]+)""",
    re.VERBOSE | re.IGNORECASE,
)
NO_VALUE = re.compile(
    r"|\$.*"  # from the environment, or from a command such as openssl
    r"|\{.*"  # a mapping: where the value is kept
    r"|~/.*"  # a file of the home
    r"|true|false|null"
)
NAMES_OF_PLACES = {"secretname", "automountserviceaccounttoken", "secretref", "secretkeyref", "httptokens"}


def credentials(text):
    found = [match[0] for match in KNOWN_FORMS.finditer(text)]
    for match in ASSIGNED.finditer(text):
        value = match["value"].strip("\"'")
        place = match["name"].lower() in NAMES_OF_PLACES or match["name"].lower().endswith("_path")
        if not place and not NO_VALUE.fullmatch(value):
            found.append(match[0])
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_file__holds_no_credential(path):
    assert credentials(path.read_text()) == []


def test_secrets_of_the_lab__are_ignored_by_git():
    found = subprocess.run(
        ["git", "check-ignore", "deploy/.env", ".ray-token-ab"], cwd=ROOT, capture_output=True, text=True
    )
    assert found.stdout.split() == ["deploy/.env", ".ray-token-ab"]


def test_files__are_searched():
    assert {path.name for path in FILES} >= {
        ".env.example",
        "compose.yaml",
        "cluster.yaml",
        "demo.yaml",
        "mlflow-auth.ini",
    }


@pytest.mark.parametrize(
    "line",
    [
        "POSTGRES_PASSWORD=hunter2",
        "POSTGRES_PASSWORD: hunter2",
        "BOLDSTREAM_SUBJECT_SALT=0123456789abcdef",
        'RAY_AUTH_TOKEN: "5f4dcc3b5aa765d61d8327deb882cf99"',
        '{"aws_secret_access_key": "abc/def"}',
        "admin_password = changeme",
        "uri: postgresql+psycopg2://boldstream:geheim@db/catalog",
        "key: AKIAIOSFODNN7EXAMPLE",
        "-----BEGIN OPENSSH PRIVATE KEY-----",
        "--from-literal=auth_token=abc",
    ],
)
def test_credential__is_found(line):
    assert credentials(f"before\n{line}\nafter")


@pytest.mark.parametrize(
    "line",
    [
        "POSTGRES_PASSWORD=",
        "POSTGRES_PASSWORD: ${POSTGRES_PASSWORD:?set it}",
        "secretName: boldstream-ray-token",
        "authOptions: {mode: token}",
        '--from-literal=auth_token="$(openssl rand -hex 32)"',
        "uri: postgresql+psycopg2:///catalog",
        "RAY_AUTH_TOKEN_PATH=/etc/ray/token",
        "/home/boldstream/.ray/auth_token: ~/.ray/auth_token",
        "automountServiceAccountToken: false",
    ],
)
def test_name_without_a_value__is_no_credential(line):
    assert credentials(f"before\n{line}\nafter") == []

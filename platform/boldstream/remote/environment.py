"""Which variables a job is given: settings by name, never secrets, which anybody who sees the cluster could read."""

import os
import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from boldstream.artifacts.manifest import git_sha
from boldstream.errors import ConfigError

SECRET = re.compile("KEY|SECRET|TOKEN|PASSW|CREDENTIAL|AUTH", re.IGNORECASE)
PLACE_OF_SECRET = re.compile("_(FILE|PATH|DIR|PROFILE)$", re.IGNORECASE)
"""A name that ends so tells where a secret lies on the cluster, not the secret."""
NAME = re.compile("[A-Za-z_][A-Za-z0-9_]*")
STOP = {"RAY_JOB_STOP_SIGNAL": "SIGINT", "RAY_JOB_STOP_WAIT_TIME_S": "30"}
"""A job that is stopped ends as after Ctrl-C, its MLflow run KILLED; Ray's own SIGTERM ends it in mid-sentence."""
CODE_VARIABLE = "BOLDSTREAM_GIT_SHA"


def job_variables(wanted: Sequence[str]) -> dict[str, str]:
    """Return the variables of a job: those that are asked for, how it is to be stopped, and the commit of its code.

    Parameters
    ----------
    wanted : sequence of str
        ``NAME`` (its value here) or ``NAME=value``.

    Raises
    ------
    ConfigError
        If a name is not set here, or a name or value looks like a secret.
    """
    found = dict(STOP)
    if sha := git_sha():
        found[CODE_VARIABLE] = sha
    for word in wanted:
        name, given, value = word.partition("=")
        if not NAME.fullmatch(name):
            raise ConfigError(f"--env: {name!r} is no name of a variable; write NAME or NAME=value")
        if SECRET.search(name) and not PLACE_OF_SECRET.search(name):
            raise ConfigError(f"--env: {name} looks like a secret; {_ELSEWHERE}")
        if not given:
            if name not in os.environ:
                raise ConfigError(f"--env: {name} is not set here; write {name}=value")
            value = os.environ[name]
        if has_password(value):
            raise ConfigError(f"--env: the value of {name} holds a password; {_ELSEWHERE}")
        found[name] = value
    return found


_ELSEWHERE = (
    "variables of a job are shown to whoever sees the cluster's jobs. Set it where the cluster's nodes are started "
    "(docs/submitting.md)"
)


def check_words(words: Sequence[str]) -> None:
    """Refuse a command with a password in it: the dashboard shows commands.

    Raises
    ------
    ConfigError
        If a word holds a URI with a password.
    """
    for word in words:
        if has_password(word.partition("=")[2] if word.startswith("--") else word):
            name = word.partition("=")[0] if word.startswith("--") else "a value after --"
            raise ConfigError(f"{name} holds a password; the dashboard shows the commands of jobs")


def has_password(text: str) -> bool:
    """Say whether a text is a URI with a password in it."""
    try:
        return urlsplit(text).password is not None
    except ValueError:
        return False

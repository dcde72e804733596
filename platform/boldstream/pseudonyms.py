"""Names for people and scans that do not tell who they are, and the salt that keeps them from being guessed."""

import hashlib
import hmac
import os

from boldstream.errors import ConfigError

SALT_VARIABLE = "BOLDSTREAM_SUBJECT_SALT"
FEWEST_CHARACTERS = 32
LENGTH = 16
"""Hex digits: among a million people, two share a name once in 40 million cohorts."""


def pseudonym(name: str, salt: str) -> str:
    """Return the name that stands for another one, the same for the same salt."""
    return hmac.new(salt.encode(), name.encode(), hashlib.sha256).hexdigest()[:LENGTH]


def read_salt() -> str:
    """Return the salt of the environment.

    Raises
    ------
    ConfigError
        If there is none, or one that could be guessed.
    """
    salt = os.environ.get(SALT_VARIABLE, "")
    if len(salt) < FEWEST_CHARACTERS:
        there = f"has {len(salt)} characters" if salt else "is not set"
        raise ConfigError(
            f"subject_ids: hash needs a secret salt of at least {FEWEST_CHARACTERS} characters, and {SALT_VARIABLE} "
            f"{there}; make one with `openssl rand -hex 32` and keep it: another salt gives other ids"
        )
    return salt


def in_log(scan_key: str) -> str:
    """Return the name of a scan in log lines: salted where the environment has a salt, else only shortened and mixed.

    Without a salt whoever can list the scans can find out which one is meant; that is enough to keep ids out of what
    is copied into an issue or a chat, and no more.
    """
    return pseudonym(scan_key, os.environ.get(SALT_VARIABLE, "boldstream"))

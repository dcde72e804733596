"""The lab's secrets: made once, each in a file of its own that only its owner may read."""

import os
import secrets
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

NAMES = ("postgres-password", "s3-access-key", "s3-secret-key", "mlflow-password", "mlflow-cookie-key", "ray-token")
SIZE = 32


@dataclass(frozen=True)
class Keys:
    """A folder of secrets.

    Attributes
    ----------
    folder : Path
        One file a secret, `NAMES`.
    """

    folder: Path

    @classmethod
    def in_folder(cls, folder: Path) -> "Keys":
        """Return the secrets of a folder; those that it lacks are made."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in NAMES:
            if not (folder / name).is_file():
                _write(folder / name, secrets.token_hex(SIZE))
        return cls(folder)

    def path(self, name: str) -> Path:
        """Return where a secret lies."""
        return self.folder / name

    def __getitem__(self, name: str) -> str:
        return self.path(name).read_text()

    def write_environment(self, variables: Mapping[str, str]) -> Path:
        """Write a file that a shell reads, to open tables and runs from outside of jobs; return its path."""
        lines = [f"export {name}={shlex.quote(value)}\n" for name, value in variables.items()]
        _write(self.path("environment"), "".join(lines))
        return self.path("environment")


def _write(path: Path, text: str) -> None:
    with open(path, "w", opener=_private) as file:
        file.write(text)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)

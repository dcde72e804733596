"""The manifest that every artifact version carries: how it came to be, from what, and what is in it."""

import datetime
import functools
import importlib.metadata
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pydantic

import boldstream
from boldstream.errors import ArtifactError, first_line
from boldstream.refs import Ref

SCHEMA_VERSION = 2


class Parent(pydantic.BaseModel):
    """One artifact version that another was made from."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    role: str
    uri: str
    version: str
    digest: str

    @classmethod
    def of(cls, ref: Ref) -> "Parent":
        """Return the parent entry of a reference."""
        return cls(role=ref.key, uri=ref.uri, version=ref.version, digest=ref.digest)


class Manifest(pydantic.BaseModel):
    """What an artifact version says of itself (JSON beside the data, written last)."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    schema_version: int = SCHEMA_VERSION
    kind: str
    name: str
    version: str
    config: dict[str, Any]
    config_hash: str
    parents: list[Parent]
    rows: int
    digest: str
    content: dict[str, Any]
    git_sha: str | None
    package_version: str
    mlflow_run_id: str | None
    created_at: str

    @classmethod
    def create(cls, **values: Any) -> "Manifest":
        """Fill in what the machine knows: package version, git SHA, time (UTC)."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        return cls(git_sha=git_sha(), package_version=boldstream.__version__, created_at=now, **values)

    @classmethod
    def from_json(cls, text: str | bytes, *, where: str) -> "Manifest":
        """Read a manifest.

        Raises
        ------
        ArtifactError
            If it is no manifest, or one of a newer schema than this package knows.
        """
        try:
            values = json.loads(text)
            if not isinstance(values, dict):
                raise ValueError(f"holds a {type(values).__name__}")
            found = values.get("schema_version")
            if isinstance(found, int) and found > SCHEMA_VERSION:
                raise ArtifactError(
                    f"{where}: manifest has schema version {found}, this boldstream {boldstream.__version__} knows "
                    f"up to {SCHEMA_VERSION}; upgrade boldstream"
                )
            return cls.model_validate(values)
        except (ValueError, pydantic.ValidationError) as error:
            first = first_line(error)
            raise ArtifactError(f"{where}: is no manifest ({first}); the artifact is not whole") from None


@functools.cache
def git_sha() -> str | None:
    """Return the commit this code runs from (with ``-dirty`` when files differ), or None outside a checkout.

    ``BOLDSTREAM_GIT_SHA`` overrides it, for containers that hold no checkout.
    """
    if sha := os.environ.get("BOLDSTREAM_GIT_SHA"):
        return sha
    here = Path(__file__).parent
    try:
        described = subprocess.run(
            ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
        tracked = subprocess.run(
            ["git", "-C", str(here), "ls-files", "--error-unmatch", Path(__file__).name],
            capture_output=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    # A virtual environment inside somebody else's repository is not a checkout of this package.
    return described.stdout.strip() or None if tracked.returncode == 0 else None


def package_versions() -> dict[str, str]:
    """Return the versions of the packages that results depend on."""
    names = ("ray", "torch", "numpy", "scipy", "pyarrow", "pyiceberg", "mlflow")
    found = {name: importlib.metadata.version(name) for name in names}
    return {"boldstream": boldstream.__version__, **found}

"""References to artifact versions: what a room gives, what the next room's YAML takes."""

import re
from dataclasses import dataclass
from typing import Annotated, ClassVar

import pydantic

from boldstream.errors import ConfigError

NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
ALIAS = re.compile(r"(?!v\d+$|latest$)[A-Za-z0-9_-]+", re.IGNORECASE)
"""MLflow keeps ``latest`` and ``v1``, ``v2``, … for itself."""


def check_name(name: str) -> str:
    """Refuse a name that no pointer could spell.

    Raises
    ------
    ValueError
        If it holds anything but letters, digits, ``-`` and ``_``.
    """
    if not NAME_PATTERN.fullmatch(name):
        raise ValueError("is no artifact name; use letters, digits, '-' and '_', a letter or digit first")
    return name


ArtifactName = Annotated[str, pydantic.AfterValidator(check_name)]
"""Name of a cohort, gradient, model or embedding table, as a field of a configuration."""


def check_alias(alias: str) -> None:
    """Refuse an alias that the registry would refuse, before anything is computed.

    Raises
    ------
    ValueError
        If it holds anything but letters, digits, ``-`` and ``_``, or is one that MLflow keeps for itself.
    """
    if not ALIAS.fullmatch(alias):
        raise ValueError(
            f"alias: {alias!r} is no alias; use letters, digits, '-' and '_', and neither 'latest' nor 'v1', 'v2', …"
        )


@dataclass(frozen=True)
class Ref:
    """One immutable version of one artifact.

    Attributes
    ----------
    uri : str
        Where the artifact lives, without its version.
    version : str
        Version of the artifact.
    digest : str
        sha256 of the version's content.
    """

    uri: str
    version: str
    digest: str

    key: ClassVar[str] = "ref"

    @property
    def pointer(self) -> str:
        """Return ``uri@version``, the spelling that configurations take."""
        return f"{self.uri}@{self.version}"

    def __str__(self) -> str:
        return f"{self.key}: {self.pointer}  # sha256 {self.digest[:12]}"


class CohortRef(Ref):
    """A version of a cohort."""

    key = "cohort"


class GradientRef(Ref):
    """A version of a gradient."""

    key = "gradient"


class ModelRef(Ref):
    """A version of a registered model; `uri` is ``models:/name``."""

    key = "model"

    @property
    def pointer(self) -> str:
        """Return ``models:/name/version``, MLflow's own spelling."""
        return f"{self.uri}/{self.version}"


class EmbeddingTableRef(Ref):
    """A version of an embedding table."""

    key = "table"


class AdjustmentRef(Ref):
    """A version of a fitted adjustment."""

    key = "adjustment"


class ResultsRef(Ref):
    """A version of probe results."""

    key = "results"


class ReportRef(Ref):
    """A written report; `uri` is its page."""

    key = "report"


def split_pointer(pointer: str, *, field: str) -> tuple[str, str | None]:
    """Split ``[warehouse/…/]name[@version]`` into the name or URI and the version (None: the newest).

    Raises
    ------
    ConfigError
        If the last part is no artifact name.
    """
    uri, at, version = pointer.rpartition("@")
    if not at:
        uri, version = pointer, ""
    name = uri.rstrip("/").rpartition("/")[2]
    if not NAME_PATTERN.fullmatch(name) or (at and not version):
        raise ConfigError(
            f"{field}: {pointer!r} does not name an artifact; write name, name@version, or the full line that "
            "the job printed (letters, digits, '-' and '_' in names)"
        )
    return uri.rstrip("/"), version or None

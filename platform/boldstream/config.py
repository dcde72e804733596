"""Frozen configuration models: one flat YAML a run, overridden on the command line, hashed for identity."""

import hashlib
import json
import types
import typing
from pathlib import Path
from typing import Any, ClassVar, Self

import pydantic
import yaml

from boldstream.errors import ConfigError, did_you_mean


class Config(pydantic.BaseModel):
    """Base of every configuration: frozen, refuses unknown keys, documents its fields by their docstrings.

    Subclasses list the fields that do not change the result (where to run, whom to tell) in `non_identity`;
    `config_hash` leaves them out.
    """

    model_config = pydantic.ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        protected_namespaces=(),
    )

    non_identity: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def from_yaml(cls, path: str | Path) -> Self:
        """Read a configuration from a YAML file.

        Raises
        ------
        ConfigError
            If the file is missing or no mapping, or if a key or value does not fit; the message is one line
            and names the file, the key and, for an unknown key, the nearest known one.
        """
        return cls.from_mapping(read_yaml(path), where=str(path))

    @classmethod
    def from_mapping(cls, values: dict[str, Any], *, where: str) -> Self:
        """Validate a mapping; `where` (a file name, usually) begins every error message."""
        try:
            return cls.model_validate(values)
        except pydantic.ValidationError as error:
            raise ConfigError(f"{where}: {explain(cls, error)}") from None

    def identity(self) -> dict[str, Any]:
        """Return the resolved values that determine the result (JSON types)."""
        return self.model_dump(mode="json", exclude=set(self.non_identity))

    def config_hash(self) -> str:
        """Return the sha256 of the canonical JSON of `identity()`."""
        return digest_json(self.identity())


LARGEST_YAML = 1 << 20
"""Bytes of a configuration file; ours have a few hundred."""


class _PlainLoader(yaml.SafeLoader):
    """Read YAML without aliases: aliases of aliases make a few lines into more than any memory holds."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            problem = f"alias *{event.anchor}: write the value itself, configurations know no aliases"
            raise yaml.composer.ComposerError(None, None, problem, event.start_mark)
        return super().compose_node(parent, index)


def digest_json(value: Any) -> str:
    """Return the sha256 hex digest of a value's canonical JSON (sorted keys, no spaces)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML mapping, with a one-line `ConfigError` for everything that is not one."""
    path = Path(path)
    try:
        if (n_bytes := path.stat().st_size) > LARGEST_YAML:
            raise ConfigError(f"{path}: has {n_bytes} bytes; a configuration has at most {LARGEST_YAML}")
        values = yaml.load(path.read_text(encoding="utf-8"), _PlainLoader)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file (working directory: {Path.cwd()})") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: is a folder; name a YAML file in it") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as text: {error}") from None
    except RecursionError:
        raise ConfigError(f"{path}: not valid YAML: lists or mappings are nested too deeply") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: dates and numbers that are none
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: holds {type(values).__name__}, not a mapping of keys to values")
    return values


def explain(cls: type[pydantic.BaseModel], error: pydantic.ValidationError) -> str:
    """Say in one line what is wrong with a configuration, suggesting the nearest key for an unknown one."""
    parts = []
    for item in error.errors(include_url=False):
        location = item["loc"]
        key = ".".join(str(step) for step in location)
        if item["type"] == "extra_forbidden":
            known = _known_keys(cls)
            hint = did_you_mean(key, known) or did_you_mean(_leaf(key), {_leaf(one): one for one in known})
            parts.append(f"unknown key {key!r} ({hint or 'known keys: ' + ', '.join(_siblings(key, known))})")
        elif item["type"] == "missing":
            parts.append(f"missing key {key!r}")
        elif not location:
            parts.append(item["msg"].removeprefix("Value error, "))
        else:
            got = "" if isinstance(item["input"], dict) else f", got {item['input']!r}"
            parts.append(f"{key}: {item['msg'].removeprefix('Value error, ')}{got}")
    return "; ".join(parts)


def _known_keys(cls: type[pydantic.BaseModel], prefix: str = "") -> list[str]:
    """List the dotted names of all fields, those of nested configurations included."""
    keys = []
    for name, field in cls.model_fields.items():
        keys.append(prefix + name)
        for part in _members(field.annotation):
            if isinstance(part, type) and issubclass(part, pydantic.BaseModel):
                keys += _known_keys(part, f"{prefix}{name}.")
    return keys


def _members(annotation: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the annotation itself."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return typing.get_args(annotation)
    return (annotation,)


def _leaf(key: str) -> str:
    """Return the end of a dotted name: a key may be known elsewhere in the tree (``lr`` as ``optim.lr``)."""
    return key.rpartition(".")[2]


def _siblings(key: str, known: list[str]) -> list[str]:
    """Return the known keys on the level of the unknown one."""
    prefix = key.rpartition(".")[0]
    return [name for name in known if name.rpartition(".")[0] == prefix]

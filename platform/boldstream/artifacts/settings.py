"""Settings and columns compared by name, for messages."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa


def differing_keys(theirs: dict[str, Any], ours: dict[str, Any], prefix: str = "") -> list[str]:
    """Say which settings differ between two resolved configurations, as ``key: theirs -> ours``."""
    found = []
    for key in sorted(theirs.keys() | ours.keys()):
        old, new = theirs.get(key), ours.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            found += differing_keys(old, new, f"{prefix}{key}.")
        elif old != new:
            found.append(f"{prefix}{key}: {_short(old)} -> {_short(new)}")
    return found


RETIRED: dict[str, tuple[str, ...]] = {"strategy": ("harmonize", "project_dim", "residualize")}
"""Settings that tables of earlier releases name though nothing in them follows from these: they listed what the adjust
room would do, as part of the recipe that made the vectors."""


def without_retired(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table's settings without those of earlier releases that nothing follows from."""
    found = dict(settings)
    for name, keys in RETIRED.items():
        if isinstance(found.get(name), dict):
            found[name] = {key: value for key, value in found[name].items() if key not in keys}
    return found


def differing_columns(theirs: pa.Schema, ours: pa.Schema) -> list[str]:
    """Say which columns differ between two schemas, whether Arrow's usual or large types hold them."""
    return differing_keys(_kinds(theirs), _kinds(ours), "column ")


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """Return a schema with Arrow's usual types for pyiceberg's large ones, and without its metadata."""
    return pa.schema([pa.field(f.name, _plain(f.type), nullable=f.nullable) for f in schema])


def _plain(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_large_string(kind):
        return pa.string()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(_plain(kind.value_type))
    return kind


def _kinds(schema: pa.Schema) -> dict[str, str]:
    return {
        field.name: "list" if "list" in str(field.type) else str(field.type).removeprefix("large_") for field in schema
    }


def _short(value: Any) -> str:
    """Return a value as it is printed in messages: digests and long lists are cut."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:20]}…"

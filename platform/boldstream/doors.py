"""Rooms open their doors late: workers import a room's inner files without all that its door needs on the driver."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def lazy_door(package: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """Return a module-level ``__getattr__`` (PEP 562) that imports a room's public names when they are asked for.

    Parameters
    ----------
    package : str
        The room's ``__name__``.
    names : mapping of str to str
        Inner module by public name.
    """

    def load(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{names[name]}"), name)

    return load

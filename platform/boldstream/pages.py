"""How a room's template becomes a page: one HTML file that needs nothing else."""

import importlib.resources
from typing import Any

import jinja2


def render_page(package: str, template: str, /, **values: Any) -> str:
    """Return a package's template filled in; a value that the template names and nobody gives is an error."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = importlib.resources.files(package).joinpath(template).read_text(encoding="utf-8")
    return environment.from_string(source).render(values)

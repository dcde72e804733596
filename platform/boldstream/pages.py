"""How a room's template becomes a page: one HTML file that needs nothing else."""

import importlib.resources
from typing import Any

import jinja2


def render_page(package: str, template: str, /, **values: Any) -> str:
    """Return a package's template filled in; a value that the template names and nobody gives is an error.

    The template may include and import others of its package.
    """
    files = importlib.resources.files(package)
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=jinja2.FunctionLoader(lambda name: files.joinpath(name).read_text(encoding="utf-8")),
    )
    return environment.get_template(template).render(values)

"""The page of a comparison: one HTML file that needs nothing else, and its picture beside it."""

import base64
from pathlib import Path

import boldstream
from boldstream.pages import render_page
from boldstream.table_diff import Diff, Version, made_of
from boldstream.tables.figures import draw_diff
from boldstream.tables.wording import diff_notes, diff_rows

NUMBERS = "numbers.json"
PICTURE = "diff.png"
MOST_LISTED = 200


def write_page(diff: Diff, folder: Path) -> None:
    """Write ``index.html`` and ``diff.png`` into a folder."""
    picture = draw_diff(diff)
    (folder / PICTURE).write_bytes(picture)
    first, second = _facts(diff.first), _facts(diff.second)
    page = render_page(
        "boldstream.tables",
        "diff.html.j2",
        diff=diff,
        notes=diff_notes(diff),
        rows=diff_rows(diff),
        facts=[(name, first.get(name, "-"), second.get(name, "-")) for name in {**first, **second}],
        picture=base64.b64encode(picture).decode(),
        most=MOST_LISTED,
        package=boldstream.__version__,
    )
    (folder / "index.html").write_text(page, encoding="utf-8")


def _facts(version: Version) -> dict[str, str]:
    manifest = version.manifest
    return {
        "where": version.ref.pointer,
        "sha256": manifest.digest[:12],
        "rows": str(manifest.rows),
        **made_of(manifest),
        "created": manifest.created_at,
        "MLflow run": manifest.mlflow_run_id or "none",
    }

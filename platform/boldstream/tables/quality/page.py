"""The page: one HTML file that needs nothing else, its picture and its numbers beside it."""

import base64
import json
from pathlib import Path

import boldstream
from boldstream.pages import render_page
from boldstream.table_diff import made_of
from boldstream.tables.quality.figures import draw_quality
from boldstream.tables.quality.lines import lines
from boldstream.tables.quality.measure import Quality
from boldstream.tables.quality.wording import findings, headline, scope

NUMBERS = "quality.json"
PICTURE = "quality.png"


def write_page(quality: Quality, folder: Path) -> None:
    """Write ``index.html``, ``quality.png`` and ``quality.json`` into a folder."""
    told = findings(quality)
    picture = draw_quality(quality)
    (folder / PICTURE).write_bytes(picture)
    page = render_page(
        "boldstream.tables.quality",
        "quality.html.j2",
        quality=quality,
        headline=headline(quality, told),
        findings=told,
        scope=scope(quality),
        lines=lines(quality),
        facts=_facts(quality),
        limits=_limits(quality),
        picture=base64.b64encode(picture).decode(),
        package=boldstream.__version__,
    )
    (folder / "index.html").write_text(page, encoding="utf-8")
    numbers = {
        "table": {"pointer": quality.version.ref.pointer, "digest": quality.version.ref.digest},
        "against": quality.against.ref.pointer if quality.against else None,
        "source": quality.source.ref.pointer if quality.source else None,
        "headline": headline(quality, told),
        "findings": [one._asdict() for one in told],
        "scope": scope(quality),
        "values": quality.values,
        "not_measured": quality.missing,
        "std": quality.std.tolist(),
        "eigenvalues": quality.eigenvalues.tolist(),
        "config": quality.config.model_dump(mode="json"),
    }
    text = json.dumps(numbers, indent=1, ensure_ascii=False, allow_nan=False)
    (folder / NUMBERS).write_text(f"{text}\n", encoding="utf-8")


def _facts(quality: Quality) -> list[tuple[str, str]]:
    manifest = quality.version.manifest
    facts = {
        "where": quality.version.ref.pointer,
        "sha256": manifest.digest[:12],
        **made_of(manifest),
        "adjusted from": quality.source.ref.pointer if quality.source else "",
        "created": manifest.created_at,
        "MLflow run": manifest.mlflow_run_id or "none",
    }
    return [(name, value) for name, value in facts.items() if value]


def _limits(quality: Quality) -> list[tuple[str, str, str]]:
    """Return every threshold with its value and what is said beyond it."""
    limits = quality.config.thresholds
    fields = type(limits).model_fields.items()
    return [(name, f"{getattr(limits, name):g}", field.description or "") for name, field in fields]

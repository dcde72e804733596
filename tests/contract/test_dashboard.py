"""The Grafana dashboard asks for metrics that somebody exports, by labels that they have."""

import ast
import importlib.util
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DASHBOARD = json.loads((ROOT / "deploy" / "observability" / "grafana-dashboard.json").read_text())
EXPRESSIONS = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
OF_NODES = {"instance"}  # Prometheus' own


def exported_by_us():
    """Return names and kinds of the metrics that the package makes, read from its code."""
    found = {}
    for path in (ROOT / "platform" / "boldstream").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
                name = node.args[0]
                if node.func.id in ("Counter", "Gauge", "Histogram") and isinstance(name, ast.Constant):
                    found[name.value] = node.func.id
    return found


def exported_by_ray():
    """Return names of the gauges of Ray's nodes, read from its reporter."""
    ray = Path(importlib.util.find_spec("ray").origin).parent
    reporter = (ray / "dashboard" / "modules" / "reporter" / "reporter_agent.py").read_text()
    return set(re.findall(r'Gauge\(\s*"(\w+)"', reporter))


OURS, RAYS = exported_by_us(), exported_by_ray()


def unknown(expression):
    """Return the metrics of an expression that nobody exports under that name."""
    wrong = []
    for name in re.findall(r"\b(?:ray|boldstream)_\w+", expression):
        own = name.removeprefix("ray_")
        stem = re.sub("_(bucket|sum|count)$", "", own)
        histogram = OURS.get(stem) == "Histogram" and stem != own
        other = own in RAYS or OURS.get(own) in ("Counter", "Gauge")
        if not name.startswith("ray_") or not (histogram or other):
            wrong.append(name)
    return wrong


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_expression__names_metrics_that_are_exported(expression):
    assert re.findall(r"\bray_\w+", expression)
    assert unknown(expression) == []


@pytest.mark.parametrize(
    "expression",
    [
        "rate(ray_boldstream_embed_scan_total[2m])",
        "rate(boldstream_embed_scans_total[2m])",
        "ray_boldstream_embed_encode_seconds",
        "ray_node_gpu_utilization",
        "ray_boldstream_embed_actor_busy_share_bucket",
    ],
)
def test_wrong_name__is_found(expression):
    assert unknown(expression)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_expression__groups_by_labels_that_are_there(expression):
    labels = {label.strip() for group in re.findall(r"by \(([^)]*)\)", expression) for label in group.split(",")}
    ours = {"table"} | ({"le"} if "_bucket" in expression else set())
    assert labels <= (
        ours if "boldstream" in expression else OF_NODES | ({"GpuIndex"} if "_g" in expression else set())
    )


def test_dashboard__shows_speed_failures_encoders_and_gpus():
    asked = " ".join(EXPRESSIONS)
    assert all(f"ray_{name}" in asked for name in OURS)
    assert "ray_node_gpus_utilization" in asked


def test_dashboard__is_of_the_source_that_is_provisioned():
    source = (ROOT / "deploy" / "observability" / "grafana-sources.yaml").read_text()
    uids = {panel["datasource"]["uid"] for panel in DASHBOARD["panels"]}
    assert uids == set(re.findall(r"uid: (\w+)", source))
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])

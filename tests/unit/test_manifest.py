import json

import pytest

from boldstream.artifacts.manifest import SCHEMA_VERSION, Manifest, Parent, package_versions
from boldstream.errors import ArtifactError
from boldstream.refs import CohortRef


def manifest(**values):
    known = {
        "kind": "cohorts",
        "name": "a",
        "version": "1",
        "config": {"atlas": "toy"},
        "config_hash": "0",
        "parents": [Parent.of(CohortRef("file:///w/cohorts/p", "2", "d"))],
        "rows": 3,
        "digest": "d",
        "content": {"roi_names": ["ü"]},
        "mlflow_run_id": None,
    }
    return Manifest.create(**known | values)


def test_manifest__comes_back_as_it_was_written():
    first = manifest()
    assert Manifest.from_json(first.model_dump_json(), where="x") == first
    assert (first.schema_version, first.parents[0].role) == (SCHEMA_VERSION, "cohort")
    assert first.created_at.endswith("+00:00")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "x: is no manifest .*; the artifact is not whole"),
        (b"{", "x: is no manifest"),
        (b"[1]", r"x: is no manifest \(holds a list\)"),
        (b"\xff\xfe", "x: is no manifest"),
        (b"{}", "x: is no manifest .* validation errors"),
        (manifest().model_dump_json().replace('"rows"', '"raws"').encode(), "x: is no manifest"),
        (
            json.dumps({**manifest().model_dump(), "schema_version": 3, "new_key": 1}).encode(),
            r"x: manifest has schema version 3, this boldstream .* knows up to 2; upgrade boldstream",
        ),
    ],
)
def test_manifest__refuses(text, message):
    with pytest.raises(ArtifactError, match=message) as caught:
        Manifest.from_json(text, where="x")
    assert "\n" not in str(caught.value)


def test_git_sha__can_be_given_by_the_environment(monkeypatch):
    from boldstream.artifacts.manifest import git_sha

    monkeypatch.setenv("BOLDSTREAM_GIT_SHA", "abc")
    git_sha.cache_clear()
    assert manifest().git_sha == "abc"
    git_sha.cache_clear()


def test_package_versions__name_what_results_depend_on():
    assert set(package_versions()) > {"boldstream", "ray", "torch", "numpy"}

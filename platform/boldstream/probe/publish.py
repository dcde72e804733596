"""Publishing what probes or transfers have found: parents, what the manifest tells, and the tables."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from boldstream.artifacts.manifest import Parent
from boldstream.artifacts.results import Results, ResultsKind, publish_results
from boldstream.probe.config import ProbeConfig
from boldstream.probe.material import Material
from boldstream.probe.targets import Target
from boldstream.refs import Ref
from boldstream.storage import Warehouse
from boldstream.tracking import JobRun


def publish_found(
    config: ProbeConfig,
    kind: ResultsKind,
    frames: Mapping[str, pd.DataFrame],
    words: tuple[str, list[str]],
    *,
    sides: Sequence[Material],
    targets: Mapping[str, Target],
    identity: dict[str, Any],
    content: dict[str, Any],
    run: JobRun,
) -> Results:
    """Publish results as a version.

    Parameters
    ----------
    frames : mapping of str to DataFrame
        As `artifacts.results` describes them.
    words : tuple
        The headline, and all sentences.
    sides : sequence of Material
        What was learnt from, then what else was predicted; all of it is a parent.
    targets : mapping of str to Target
        Of the scans that were predicted.
    identity : dict
        What results are of and how they are made.
    content : dict
        What the manifest tells besides.
    """
    parents = [Parent.of(table.ref) for side in sides for table in side.tables.values()]
    parents += [Parent.of(side.cohort.ref) for side in sides]
    headline, sentences = words
    told = {
        "tables": pointers(sides[0]),
        "cohort": pointer_of(sides[0].cohort.ref),
        "targets": {name: target.describe() for name, target in targets.items()},
        "folds": {name: {"id": one.folds.id, "scheme": one.folds.scheme} for name, one in targets.items()},
        "headline": headline,
        "sentences": sentences,
    }
    return publish_results(
        Warehouse.at(config.warehouse),
        config.output,
        kind,
        frames,
        config=config.model_dump(mode="json"),
        identity=identity,
        parents=list(dict.fromkeys(parents)),
        content=told | content,
        mlflow_run_id=run.run_id,
    )


def pointer_of(ref: Ref) -> dict[str, str]:
    """Return how manifests name an artifact."""
    return {"pointer": ref.pointer, "digest": ref.digest}


def pointers(side: Material) -> dict[str, dict[str, str]]:
    """Return how manifests name a side's tables."""
    return {name: pointer_of(table.ref) for name, table in side.tables.items()}

"""The probe room: choose scans, compute baselines, run trials, compare, and publish what it means."""

import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from boldstream.analysis.steps import Step
from boldstream.artifacts.cohort import Cohort
from boldstream.artifacts.embeddings import EmbeddingTable
from boldstream.artifacts.results import CONTESTS, KIND, SCORES, Results, find_results
from boldstream.cluster import connect
from boldstream.probe.compare import compare_all
from boldstream.probe.config import ATTENTION, ProbeConfig
from boldstream.probe.features import compute_features
from boldstream.probe.frames import make_frames
from boldstream.probe.material import Material, open_tables, read_material
from boldstream.probe.meter import TrialMeter
from boldstream.probe.methods import describe_methods, notes_of
from boldstream.probe.outcome import Outcome, is_done, read_outcome
from boldstream.probe.pictures import comparison_page, forest_plot
from boldstream.probe.plan import SOURCES, plan_trials, present_confounds, steps_of, target_material
from boldstream.probe.publish import publish_found
from boldstream.probe.spec import TrialSpec
from boldstream.probe.targets import read_target
from boldstream.probe.transfer.run import transfer_tables
from boldstream.probe.transfer.sides import target_config
from boldstream.probe.tuning import run_trials
from boldstream.probe.wording import write_sentences
from boldstream.progress import Progress
from boldstream.refs import ResultsRef
from boldstream.storage import Warehouse, remove_files
from boldstream.tracking import JobRun, job_run

logger = logging.getLogger(__name__)


def probe_table(config: ProbeConfig) -> ResultsRef:
    """Ask embedding tables for targets, beside baselines of the same scans on the same folds, and publish the results.

    A trial is one target, one representation and one head on the target's fold set: penalties, scaling and adjustment
    are fitted inside it, so nothing is fitted outside a training fold. Trials run side by side on Ray Tune; the numbers
    do not depend on how many at a time. A run that was stopped goes on with the same command: trials that are done are
    not run again. The same command on the same table versions gives the version that is there.

    Scans are probed one vector each: parts of a scan are averaged, all scans of a subject are in one fold.

    Raises
    ------
    EmbeddingsError, CohortError
        If a table or the cohort is not there or not whole.
    ConfigError
        If the tables have no such column, or are of different cohorts.
    ResultsError
        If a column is no target, scans are too few, or something cannot be fitted on them.
    OutputExistsError
        If results of this name were made with other settings.
    """
    tables, cohort = open_tables(config)
    steps = steps_of(config)
    warehouse = Warehouse.at(config.warehouse)
    unseen = open_tables(target_config(config)) if config.transfer.tables else None
    identity = _identity(config, tables, cohort, steps, unseen)
    with job_run("probe", config.output, config) as run:
        run.log_parent(cohort.ref, cohort.manifest.rows)
        for name, table in tables.items():
            run.log_parent(table.ref, table.manifest.rows)
            run.set_tags({f"parent.table.{name}": table.ref.pointer})
        for table in unseen[0].values() if unseen else ():
            run.log_parent(table.ref, table.manifest.rows)
        if found := find_results(warehouse, config.output, identity):
            logger.info("probe: results %s are of these tables already", found.label)
        elif config.transfer.is_asked:
            found = transfer_tables(config, read_material(config, tables, cohort), steps, identity, run)
        else:
            found = _probe(config, read_material(config, tables, cohort), steps, identity, run)
        _report(found, run)
    return found.ref


def _identity(
    config: ProbeConfig,
    tables: Mapping[str, EmbeddingTable],
    cohort: Cohort,
    steps: Sequence[Step],
    unseen: tuple[Mapping[str, EmbeddingTable], Cohort] | None,
) -> dict[str, Any]:
    """Return what results are of and how they are made, and of which rows."""
    told = config.identity() | {"tables": {name: table.ref.uri for name, table in tables.items()}}
    rows = {name: table.ref.digest for name, table in tables.items()} | {"cohort": cohort.ref.digest}
    if unseen is not None:
        told["transfer"] |= {"tables": {name: table.ref.uri for name, table in unseen[0].items()}}
        rows |= {f"unseen.{name}": table.ref.digest for name, table in unseen[0].items()}
        rows |= {"unseen.cohort": unseen[1].ref.digest}
    return {"config": told | {"adjust": [step.model_dump(mode="json") for step in steps]}, "rows": rows}


def _probe(
    config: ProbeConfig, material: Material, steps: Sequence[Step], identity: dict[str, Any], run: JobRun
) -> Results:
    import ray

    targets = {spec.name: read_target(spec, material.scans, config.folds) for spec in config.targets}
    confounds = present_confounds(config, material.scans)
    specs = [one for target in targets.values() for one in plan_trials(config, material, target, steps, confounds)]
    shared = {name: target_material(config, material, target, steps) for name, target in targets.items()}
    for target in targets.values():
        logger.info(
            "probe: %s (%s): %d scans of %d subjects, %d without a value; %s",
            target.name, target.kind, len(target.y), target.n_subjects, target.n_missing, target.folds.scheme,
        )  # fmt: skip
    folder = f"{KIND.location(Warehouse.at(config.warehouse), config.output)}/trials"
    connect(config.cluster)
    sources = {name: ray.put(vectors) for name, vectors in material.vectors.items()}
    sources |= {name + ATTENTION: ray.put(latents) for name, latents in material.latents.items()}
    kinds = {source for source in (SOURCES[name] for name in config.baselines) if source is not None}
    if kinds:
        logger.info("probe: computing %s of %d scans", " and ".join(sorted(kinds)), len(material.keys))
        sources |= compute_features(material.cohort, material.keys, kinds)
    outcomes = _run_trials(config, specs, sources, {name: ray.put(one) for name, one in shared.items()}, folder, run)
    predictions = {key: found.predictions for key, found in outcomes.items()}
    compared = compare_all(specs, predictions, {name: target.folds for name, target in targets.items()})
    frames = make_frames(specs, outcomes, targets, compared)
    found = publish_found(
        config,
        "probe",
        frames,
        write_sentences(frames[SCORES], frames[CONTESTS], notes_of(config, material)),
        sides=[material],
        targets=targets,
        identity=identity,
        content={
            "n_scans": len(material.keys),
            "n_sampled_from": material.n_sampled_from,
            "left_out": material.left_out,
            "methods": describe_methods(config, material, specs, steps),
        },
        run=run,
    )
    remove_files(folder)
    return found


def _run_trials(
    config: ProbeConfig,
    specs: Sequence[TrialSpec],
    sources: Mapping[str, Any],
    targets: Mapping[str, Any],
    folder: str,
    run: JobRun,
) -> dict[str, Outcome]:
    """Run what is not done, log each trial as a nested run, and return all outcomes by key."""
    outcomes: dict[str, Outcome] = {}
    todo = [spec for spec in specs if not is_done(folder, spec)]
    meter = TrialMeter()
    progress = Progress(run, "probe", len(todo), "trials", meter, quarantines=False)

    def read(spec: TrialSpec) -> Outcome:
        found = outcomes[spec.key] = read_outcome(folder, spec)
        told = {name: one.value for name, one in found.estimates.items()}
        told |= {f"{name}_low": one.low for name, one in found.estimates.items()}
        told |= {f"{name}_high": one.high for name, one in found.estimates.items()}
        told |= {"p": found.p, "n_dims": found.n_dims}
        named = ("target", "representation", "role", "head", "front", "folds_id", "permutations")
        params = {name: str(getattr(spec, name)) for name in named}
        numbers = {name: value for name, value in told.items() if value == value}
        run.log_child(spec.label, params, numbers, found.seconds)
        return found

    def done(spec: TrialSpec) -> None:
        meter.observe(read(spec).seconds)
        progress.add(1)

    for spec in specs:
        if spec not in todo:
            read(spec)
    logger.info("probe: %d of %d trials to run", len(todo), len(specs))
    if todo:
        run_trials(todo, sources, targets, folder, config.tune, done, lambda: progress.add(0, failed=1))
        progress.close()
    return outcomes


def _report(found: Results, run: JobRun) -> None:
    """Log metrics, the comparison as page, table and picture, and say the headline."""
    scores, contests, content = found.scores(), found.contests(), found.manifest.content
    run.log_metrics(_metrics(scores))
    picture = forest_plot(scores)
    page = comparison_page(scores, contests, content["headline"], content["sentences"], picture, found.label)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "comparison.html").write_text(page, encoding="utf-8")
        (folder / "forest.png").write_bytes(picture)
        scores.to_csv(folder / "comparison.csv", index=False)
        contests.to_csv(folder / "contests.csv", index=False)
        run.log_file(folder, "comparison")
    run.log_output(found.ref, found.manifest)
    run.tell(content["headline"])
    for sentence in content["sentences"]:
        logger.info("probe: %s", sentence)
    logger.info("probe: %s", content["headline"])


def _metrics(scores: pd.DataFrame) -> dict[str, float]:
    """Return primary scores as ``<metric>/<target>/<representation>/<head>``."""
    primary = scores[scores["primary"]]
    return {
        f"{row['metric']}/{row['target']}/{row['representation']}/{row['head']}": row["value"]
        for row in primary.to_dict("records")
        if row["value"] == row["value"]
    }

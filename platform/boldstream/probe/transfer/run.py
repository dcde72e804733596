"""Zero-shot transfer: what is learnt from some scans, asked of others that were not seen."""

import logging
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from boldstream.analysis.steps import Step
from boldstream.analysis.transfer_shift import Overlap, VectorShift, covariate_overlap, vector_shift
from boldstream.artifacts.results import CONTESTS, SCORES, Results
from boldstream.cluster import connect
from boldstream.errors import ResultsError
from boldstream.interrupts import raise_if_interrupted
from boldstream.probe.compare import compare_all
from boldstream.probe.config import ProbeConfig
from boldstream.probe.features import compute_features
from boldstream.probe.material import Material
from boldstream.probe.meter import TrialMeter
from boldstream.probe.methods import describe_methods, notes_of
from boldstream.probe.plan import SOURCES, plan_trials, present_confounds
from boldstream.probe.publish import pointer_of, pointers, publish_found
from boldstream.probe.spec import TrialSpec
from boldstream.probe.transfer.frames import Transfer, make_transfer_frames, scheme_of
from boldstream.probe.transfer.picture import draw_transfer
from boldstream.probe.transfer.sides import Half, read_halves, read_sides, target_config
from boldstream.probe.transfer.trial import UNCHANGED, TransferOutcome, run_transfer
from boldstream.probe.transfer.wording import write_transfer_sentences
from boldstream.progress import Progress
from boldstream.tracking import JobRun

COVARIATES = ("age", "sex", "site", "t_r", "mean_fd")
"""What cohorts are put beside each other by."""
WAIT_S = 5.0

logger = logging.getLogger(__name__)


def transfer_tables(
    config: ProbeConfig, material: Material, steps: Sequence[Step], identity: dict[str, Any], run: JobRun
) -> Results:
    """Learn every target from the source's scans, apply it to the unseen ones, and publish what came of it.

    Everything that is fitted is fitted to the source alone. Beside it stands what is learnt in the unseen cohort
    itself, by nested cross-validation on the same scans. Runs are short: one that was stopped begins anew.

    Raises
    ------
    ResultsError
        If scans are too few, or something cannot be fitted or scored.
    ConfigError
        If the unseen cohort's tables are of other models.
    """
    sides = read_sides(config, material)
    halves = read_halves(config, sides, steps)
    connect(config.cluster)
    inputs = [_inputs(config, side) for side in sides]
    made = _run_all(config, sides, halves, steps, inputs, run)
    compared = compare_all(
        [one.spec for one in made],
        {one.spec.key: one.outcome.predictions[UNCHANGED] for one in made},
        {target.target.name: target.target.folds for _, target in halves},
    )
    frames = make_transfer_frames(made, compared)
    overlaps = covariate_overlap(sides[0].scans, sides[1].scans, COVARIATES)
    shifts = _shifts(config, sides, inputs)
    notes = notes_of(config, material) + (notes_of(target_config(config), sides[1]) if config.transfer.tables else [])
    words = write_transfer_sentences(
        made, frames[SCORES], frames[CONTESTS], overlaps, shifts, list(dict.fromkeys(notes)), config.transfer
    )
    found = publish_found(
        config,
        "transfer",
        frames,
        words,
        sides=sides,
        targets={target.target.name: target.target for _, target in halves},
        identity=identity,
        content={
            "transfer": _content(sides, halves, made, overlaps, shifts, config),
            "methods": describe_methods(config, sides[0], [one.spec for one in made], steps)
            | {"fitted": "front and head: to all of the source's scans, to none of the unseen cohort's"},
        },
        run=run,
    )
    _log_picture(found, run)
    return found


def _inputs(config: ProbeConfig, side: Material) -> dict[str, Any]:
    """Put a side's vectors into the object store, and the features that baselines read."""
    import ray

    kinds = {source for source in (SOURCES[name] for name in config.baselines) if source is not None}
    vectors = {name: ray.put(values) for name, values in side.vectors.items()}
    return vectors | (compute_features(side.cohort, side.keys, kinds) if kinds else {})


def _shifts(
    config: ProbeConfig, sides: tuple[Material, Material], inputs: Sequence[Mapping[str, Any]]
) -> dict[str, VectorShift | None]:
    """Compare the sides' vectors, a table a task."""
    import ray

    subjects = [side.scans["subject"].to_numpy() for side in sides]
    compare = ray.remote(vector_shift)
    tasks = [compare.remote(*(one[name] for one in inputs), *subjects, seed=config.seed) for name in config.tables]
    return dict(zip(config.tables, ray.get(tasks), strict=True))


def _run_all(
    config: ProbeConfig,
    sides: tuple[Material, Material],
    halves: Sequence[tuple[Half, Half]],
    steps: Sequence[Step],
    inputs: Sequence[Mapping[str, Any]],
    run: JobRun,
) -> list[Transfer]:
    """Run the transfers side by side, and log each as a nested run."""
    import ray

    planned = []
    for source, target in halves:
        confounds = present_confounds(config, sides[0].scans)
        specs = plan_trials(config, sides[0], source.target, steps, confounds)
        least = min(len(split.train) for split in target.target.folds.splits())
        logger.info(
            "transfer: %s (%s): from %d scans of %d subjects to %d scans of %d subjects",
            source.target.name, source.target.kind, len(source.target.y), source.target.n_subjects,
            len(target.target.y), target.target.n_subjects,
        )  # fmt: skip
        planned += [(spec, source, target, least) for spec in specs]
    task = ray.remote(num_cpus=config.tune.cpus)(_one)
    meter = TrialMeter()
    progress = Progress(run, "transfer", len(planned), "trials", meter, quarantines=False)
    running = {}
    for at, (spec, source, target, least) in enumerate(planned):
        x, z = (None if spec.source is None else side[spec.source] for side in inputs)
        running[task.remote(spec, source, target, x, z, least)] = at
    done: dict[int, TransferOutcome] = {}
    while running:
        raise_if_interrupted()
        ready, _ = ray.wait(list(running), num_returns=1, timeout=WAIT_S)
        for ref in ready:
            at = running.pop(ref)
            found, seconds = ray.get(ref)
            if isinstance(found, str):
                raise ResultsError(f"{planned[at][0].label}: {found}")
            done[at] = found
            _log(planned[at][0], found, seconds, run)
            meter.observe(seconds)
            progress.add(1)
    progress.close()
    return [Transfer(*planned[at][:3], done[at]) for at in range(len(planned))]


def _one(
    spec: TrialSpec, source: Half, target: Half, x: Any, z: Any, least: int
) -> tuple[TransferOutcome | str, float]:
    """Run one transfer on a worker and say how long it took; what science refuses comes back as its words."""
    begun = time.monotonic()
    components = None if spec.components is None else min(spec.components, least - 1)
    try:
        found: TransferOutcome | str = run_transfer(spec, source, target, x, z, components)
    except ValueError as error:
        found = str(error)
    return found, time.monotonic() - begun


def _log(spec: TrialSpec, found: TransferOutcome, seconds: float, run: JobRun) -> None:
    told = {f"{name}/{version}": one.value for version, by in found.estimates.items() for name, one in by.items()}
    told |= {f"calibration_slope/{version}": one.slope for version, one in found.calibration.items()}
    told |= {f"calibration_in_the_large/{version}": one.in_the_large for version, one in found.calibration.items()}
    named = ("target", "representation", "role", "head", "front")
    params = {name: str(getattr(spec, name)) for name in named}
    run.log_child(spec.label, params, {name: value for name, value in told.items() if value == value}, seconds)


def _content(
    sides: tuple[Material, Material],
    halves: Sequence[tuple[Half, Half]],
    made: Sequence[Transfer],
    overlaps: Sequence[Overlap],
    shifts: Mapping[str, VectorShift | None],
    config: ProbeConfig,
) -> dict[str, Any]:
    return {
        "source": {source.target.name: source.target.describe() for source, _ in halves},
        "source_is": [one.describe() for one in config.transfer.source],
        "target_is": [one.describe() for one in config.transfer.target],
        "unseen_tables": pointers(sides[1]),
        "unseen_cohort": pointer_of(sides[1].cohort.ref),
        "overlap": [
            {name: getattr(one, name) for name in ("name", "outside", "source", "target", "n_missing")}
            for one in overlaps
        ],
        "shift": {name: None if one is None else one._asdict() for name, one in shifts.items()},
        "schemes": {f"{one.spec.target}/{one.spec.representation}/{one.spec.head}": scheme_of(one) for one in made},
    }


def _log_picture(found: Results, run: JobRun) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "transfer.png"
        path.write_bytes(draw_transfer(found.scores()))
        run.log_file(path, "comparison")

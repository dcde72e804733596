"""Trials side by side on Ray Tune; each writes its outcome itself, so one that is done is never run again."""

import contextlib
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from boldstream.errors import ResultsError
from boldstream.interrupts import raise_if_interrupted
from boldstream.probe.config import TuneSpec
from boldstream.probe.outcome import write_outcome
from boldstream.probe.spec import TrialSpec
from boldstream.probe.trial import run_trial

if TYPE_CHECKING:
    import ray

PROBLEM = "problem"
WORKER_DEATHS = 2
"""A trial whose worker dies (out of memory, a node that goes) is run again so often."""
QUIET = {
    # its own loggers write a folder of files a trial, which nobody reads
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # it would take Ctrl-C for a wish to save its state, and return as if all trials had been run
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
}

logger = logging.getLogger(__name__)


def probe_trial(values: dict[str, Any], sources: Any = None, targets: Any = None, folder: str = "") -> None:
    """Run one trial on a worker: big arrays are read where they lie in the object store."""
    import ray
    from ray import tune

    spec = TrialSpec.model_validate(values["trial"])
    x = None if spec.source is None else ray.get(sources[spec.source])
    try:
        found = run_trial(spec, ray.get(targets[spec.target]), x)
    except ValueError as error:
        # what science refuses; anything else is a fault, and keeps its traceback
        tune.report({PROBLEM: str(error)})
        return
    write_outcome(folder, spec, found)
    tune.report({PROBLEM: "", "seconds": found.seconds})


def run_trials(
    specs: Sequence[TrialSpec],
    sources: Mapping[str, "ray.ObjectRef"],
    targets: Mapping[str, "ray.ObjectRef"],
    folder: str,
    told: TuneSpec,
    done: Callable[[TrialSpec], None],
    failed: Callable[[], None],
) -> None:
    """Run trials that have no outcome yet.

    Parameters
    ----------
    sources, targets : mapping of str to ObjectRef
        Arrays by `TrialSpec.source`, and `TargetMaterial` by target.
    folder : str
        URI of the outcomes.
    done : callable
        Called with each trial that has its outcome.
    failed : callable
        Called when a trial has failed (its worker has died, say), whether or not it is run again.

    Raises
    ------
    ResultsError
        If a trial cannot be run on these scans.
    """
    watch, begun = TrialWatch(done, failed), time.monotonic()
    with _quiet_tune():
        _tune(specs, sources, targets, folder, told, watch)
    raise_if_interrupted()
    watch.tell()
    _tell_overhead(len(specs), watch.seconds, time.monotonic() - begun, told)


def _tell_overhead(n_trials: int, computed: float, taken: float, told: TuneSpec) -> None:
    """Say what it cost to have trials run by Tune: what of the places' time they did not compute."""
    import ray

    places = min(n_trials, told.max_concurrent or n_trials, max(1, int(ray.cluster_resources()["CPU"]) // told.cpus))
    logger.info(
        "probe: %d trials computed for %.1f s within %.1f s, %d at a time: %.2f s a trial for Tune and for waiting",
        n_trials, computed, taken, places, (places * taken - computed) / n_trials,
    )  # fmt: skip


class TrialWatch:
    """What is seen of the trials while they run; Tune drops errors of what it calls when a trial ends.

    Attributes
    ----------
    problem : str
        Of the first trial that cannot be run on these scans.
    seconds : float
        What trials that are done took to compute, in sum.
    """

    def __init__(self, done: Callable[[TrialSpec], None], failed: Callable[[], None]) -> None:
        self.done, self.failed, self.problem, self.seconds = done, failed, "", 0.0
        self._waiting: list[TrialSpec] = []

    def see(self, trial: dict[str, Any], problem: str, seconds: float = 0.0) -> None:
        """Take note of a trial that has ended."""
        self.seconds += seconds
        spec = TrialSpec.model_validate(trial)
        if problem:
            self.problem = self.problem or f"{spec.label}: {problem}"
        else:
            self._waiting.append(spec)

    def tell(self) -> None:
        """Tell of the trials that are done.

        Raises
        ------
        ResultsError
            If one cannot be run.
        """
        while self._waiting:
            self.done(self._waiting.pop(0))
        if self.problem:
            raise ResultsError(self.problem)


@contextlib.contextmanager
def _quiet_tune() -> Iterator[None]:
    """Keep Tune's own files and lines away; what it has to say of trials, `TrialWatch` says."""
    before = {name: os.environ.get(name) for name in QUIET}
    tune_logger = logging.getLogger("ray.tune")
    level = tune_logger.level
    tune_logger.setLevel(logging.CRITICAL)
    os.environ.update(QUIET)
    try:
        yield
    finally:
        tune_logger.setLevel(level)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _tune(
    specs: Sequence[TrialSpec],
    sources: Mapping[str, Any],
    targets: Mapping[str, Any],
    folder: str,
    told: TuneSpec,
    watch: TrialWatch,
) -> None:
    from ray import tune

    class Telling(tune.Callback):
        """Hand on what Tune tells, and heed Ctrl-C."""

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            told_last = trial.last_result
            watch.see(trial.config["trial"], told_last[PROBLEM], told_last.get("seconds", 0.0))

        def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            watch.failed()

        def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            watch.failed()

        def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
            raise_if_interrupted()
            if not watch.problem:
                watch.tell()

    class Stopping(tune.Stopper):
        """End all trials once one cannot be run."""

        def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
            return False

        def stop_all(self) -> bool:
            return bool(watch.problem)

    trainable = tune.with_parameters(probe_trial, sources=dict(sources), targets=dict(targets), folder=folder)
    with tempfile.TemporaryDirectory() as scratch:
        found = tune.Tuner(
            tune.with_resources(trainable, {"cpu": told.cpus}),
            param_space={"trial": tune.grid_search([spec.model_dump(mode="json") for spec in specs])},
            tune_config=tune.TuneConfig(
                max_concurrent_trials=told.max_concurrent,
                reuse_actors=True,
                trial_dirname_creator=lambda trial: str(trial.trial_id),
            ),
            # Tune's own record of the trials is thrown away: outcomes below the results say what is done
            run_config=tune.RunConfig(
                name="probe",
                storage_path=scratch,
                callbacks=[Telling()],
                stop=Stopping(),
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=WORKER_DEATHS),
            ),
        ).fit()
    if found.errors and not watch.problem:
        raise found.errors[0]

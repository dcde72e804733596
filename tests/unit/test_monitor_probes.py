import dataclasses

import numpy as np
import pytest

from boldstream.pretrain.monitor import Monitor
from boldstream.pretrain.task import ScanSet
from small_training import LENGTH, N_ROIS, SIZES, build_networks, training_task

N = 16


class MadeUp(Monitor):
    """Scans are noise, so nothing has to be read."""

    def _read(self, scans):
        return np.random.default_rng(0).normal(size=(len(scans.indices), LENGTH, N_ROIS)).astype(np.float32)


def scans_of(age, sex_code):
    return ScanSet(training_task().plan, np.arange(N), np.asarray(age, float), np.asarray(sex_code, float))


@pytest.mark.parametrize(
    ("age", "sex_code", "probed"),
    [
        (np.arange(N), np.arange(N) % 2, {"age", "sex"}),
        (np.arange(N), np.arange(N) < 2, {"age", "sex"}),
        (np.arange(N), np.arange(N) < 1, {"age"}),  # a penalty cannot be chosen with one of a class
        (np.arange(N), np.zeros(N), {"age"}),
        (np.full(N, 30.0), np.arange(N) % 2, {"sex"}),
        (np.where(np.arange(N) < 7, 30.0 + np.arange(N), np.nan), np.full(N, np.nan), set()),
    ],
)
def test_probes__are_of_targets_that_can_be_probed(age, sex_code, probed):
    task = training_task()
    task = dataclasses.replace(task, probed=scans_of(age, sex_code), monitored=scans_of(np.arange(N), np.arange(N) % 2))
    monitor = MadeUp(task, build_networks(task), measures=True)
    numbers = monitor._probe(np.random.default_rng(1).normal(size=(N, SIZES["embed_dim"])))
    assert {name.removeprefix("probe/").partition("_")[0] for name in numbers} == probed
    assert all(np.isfinite(value) for value in numbers.values())

"""The monitor's claim: pretrainings that were made to collapse raise an alarm, healthy ones do not."""

import pytest

from planted_people import OPTIM, alarms_after_training, task_of


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"objective": {"regularizer": "contrast", "weight": 0.3}},
        {"objective": {"regularizer": "vicreg", "weight": 0.1}},
    ],
    ids=["position targets", "contrast", "vicreg"],
)
def test_healthy_training__raises_no_alarm(values):
    alarms, numbers = alarms_after_training(task_of(**values))
    assert alarms == [], numbers


@pytest.mark.parametrize(
    "values",
    [
        # what the published code does
        {"objective": {"targets": "layer_norm"}, "initialisation": "reference"},
        # a target encoder that follows at once
        {
            "objective": {"targets": "layer_norm"},
            "initialisation": "reference",
            "optim": OPTIM | {"ema": 0.0, "final_ema": 0.0},
        },
        # a learning rate far too high
        {"objective": {"targets": "layer_norm"}, "optim": OPTIM | {"lr": 0.3, "ema": 0.9, "clip_norm": 100.0}},
        {"optim": OPTIM | {"lr": 3.0, "ema": 0.9, "clip_norm": 100.0}},
    ],
    ids=["published", "ema 0", "lr 0.3", "lr 3"],
)
def test_planted_collapse__raises_an_alarm(values):
    alarms, numbers = alarms_after_training(task_of(**values))
    assert any("mean_cosine" in alarm for alarm in alarms), numbers


def test_constant_encoder__raises_all_alarms():
    def silence(encoder):
        encoder.norm.weight.zero_()

    alarms, _ = alarms_after_training(task_of(steps=1), silence)
    said = " ".join(alarms)
    for name in ("feature_std", "subject_share", "rankme_centred", "sensitivity_phase", "sensitivity_zero"):
        assert f"{name} " in said


def test_position_only_encoder__raises_an_alarm():
    def ignore_the_input(encoder):
        encoder.patch_embed.proj.weight.zero_()

    alarms, numbers = alarms_after_training(task_of(steps=1), ignore_the_input)
    assert any("subject_share" in alarm and "position-only encoder" in alarm for alarm in alarms), numbers
    assert numbers["collapse/feature_std"] > 0.1

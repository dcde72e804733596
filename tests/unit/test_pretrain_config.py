import pytest

from boldstream.errors import ConfigError
from small_training import pretrain_config

CONTRAST = {"regularizer": "contrast"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": None}, "run.yaml: give either steps or epochs$"),
        ({"epochs": 2.0}, "give either steps or epochs"),
        ({"steps": -1}, "steps: Input should be greater than or equal to 0, got -1"),
        ({"steps": None, "epochs": 0}, "epochs: Input should be greater than 0, got 0"),
        (
            {"steps": 10, "optim": {"warmup_steps": 10}},
            r"optim.warmup_steps \(10\) must be below steps \(10\)",
        ),
        (
            {"optim": {"batch_size": 10}, "workers": {"count": 4}},
            r"optim.batch_size \(10\) is no multiple of workers.count \(4\) times optim.micro_batch \(empty\)",
        ),
        (
            {"optim": {"batch_size": 12, "micro_batch": 4}, "workers": {"count": 2}},
            r"optim.batch_size \(12\) is no multiple of workers.count \(2\) times optim.micro_batch \(4\), so workers",
        ),
        ({"optim": {"batch_size": 4}, "workers": {"count": 8}}, r"optim.batch_size \(4\) is no multiple of workers"),
        ({"optim": {"batch_size": 4, "micro_batch": 8}}, r"is no multiple of workers.count \(1\) times .* \(8\)"),
        ({"optim": {"batch_size": 4, "micro_batch": 0}}, "optim.micro_batch: Input should be greater than or equal"),
        (
            {"objective": CONTRAST, "windows_per_scan": 3},
            r"contrast compares 2 windows of a scan, so windows_per_scan \(3\) and optim.micro_batch \(4\) must",
        ),
        (
            {"objective": CONTRAST, "optim": {"batch_size": 6}, "workers": {"count": 2}},
            r"windows_per_scan \(2\) and optim.micro_batch \(3\) must be multiples of 2",
        ),
        ({"alias": "latest"}, "alias: 'latest' is no alias; use letters"),
        ({"alias": "v2"}, "alias: 'v2' is no alias"),
        ({"alias": "best model"}, "alias: 'best model' is no alias"),
        ({"holdout": 1.0}, "holdout: Input should be less than 1, got 1"),
        ({"workers": {"count": 0}}, "workers.count: Input should be greater than or equal to 1"),
        ({"optim": {"ema": 1.5}}, "optim.ema: Input should be less than or equal to 1"),
        ({"monitor": {"every_epochs": 0}}, "monitor.every_epochs: Input should be greater than 0"),
        ({"initialisation": "random"}, "initialisation: Input should be 'reference' or 'xavier', got 'random'"),
        ({"objective": {"targets": "centred"}}, "objective.targets: Input should be 'layer_norm' or 'position'"),
        ({"optim": {"lrr": 1}}, r"unknown key 'optim.lrr' \(did you mean 'optim.lr'\?\)"),
    ],
)
def test_pretrain_config__refuses(values, message):
    with pytest.raises(ConfigError, match=message) as caught:
        pretrain_config(**values)
    assert "\n" not in str(caught.value)


def test_pretrain_config__takes_the_untrained_twin_and_epochs():
    assert pretrain_config(steps=0, optim={"warmup_steps": 5}).steps == 0
    assert pretrain_config(steps=None, epochs=1.5).steps is None


def test_micro_batch__is_the_workers_share_where_it_is_not_given():
    assert pretrain_config(optim={"batch_size": 12}, workers={"count": 3}).micro_batch == 4
    assert pretrain_config(optim={"batch_size": 12, "micro_batch": 2}, workers={"count": 3}).micro_batch == 2


ELSEWHERE = {
    "workers": {"count": 2, "gpu": "no", "placement": "SPREAD"},
    "checkpoint": {"every_steps": 7, "storage": "s3://bucket/training"},
    "monitor": {"scans": 8, "on_collapse": "stop"},
    "cluster": {"object_store_gb": 2.0},
    "warehouse": "s3://bucket/warehouse",
    "log_every": 3,
    "alias": "trial",
    "fresh": True,
    "data_licence": "CC-BY",
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_identity__is_without_what_changes_no_weight(name):
    config = pretrain_config(**{name: ELSEWHERE[name]})
    assert name not in config.identity()
    assert config.config_hash() == pretrain_config().config_hash()


@pytest.mark.parametrize(
    "values",
    [
        {"objective": {"targets": "layer_norm"}},
        {"objective": {"regularizer": "vicreg"}},
        {"objective": {"regularizer": "vicreg", "weight": 0.5}},
        {"initialisation": "reference"},
        {"mask": {"policy": "reference"}},
        {"optim": {"batch_size": 4, "lr": 2e-3}},
        {"optim": {"batch_size": 4, "ema_schedule": "reference"}},
        {"holdout": 0.2},
        {"seed": 1},
        {"steps": 5},
        {"compute": {"precision": "bfloat16"}},
    ],
)
def test_identity__changes_with(values):
    hashes = {config.config_hash() for config in (pretrain_config(), pretrain_config(**values))}
    assert len(hashes) == 2

import re

import pytest

from boldstream.errors import ConfigError
from boldstream.probe import ProbeConfig

KNOWN = {"output": "p", "tables": {"trained": "t"}, "targets": ["age"]}


def read(**values):
    return ProbeConfig.from_mapping(KNOWN | values, where="run.yaml")


def test_targets__are_names_or_more():
    config = read(targets=["age", {"column": "fiq", "transform": "log"}, {"column": "dx", "classes": ["TC", "ASD"]}])
    assert [target.name for target in config.targets] == ["age", "log_fiq", "dx"]
    assert config.targets[2].classes == ("TC", "ASD")
    assert config.heads.of("continuous") == ("ridge",)
    assert config.heads.of("binary") == config.heads.of("multiclass") == ("logistic",)
    assert read(heads={"binary": ["svm"]}).heads.of("multiclass") == ("svm",)
    assert read(heads={"binary": ["svm"], "multiclass": ["knn"]}).heads.of("multiclass") == ("knn",)
    assert read(targets=[{"column": "dx", "classes": ["a", "b", "c"]}]).targets[0].classes == ("a", "b", "c")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"targets": []}, r"targets: name what to predict, in the YAML file: targets: \[age, sex\]"),
        ({"targets": ["age", "age"]}, "targets: 'age' is there twice"),
        ({"targets": [{"column": "a", "classes": ["x", "x"]}]}, "classes are two different values of a binary target"),
        (
            {"targets": [{"column": "a", "classes": ["x", "y", "x"]}]},
            r"more of a multiclass one, got \['x', 'y', 'x",
        ),
        ({"targets": [{"column": "a", "kind": "binary", "classes": ["x", "y", "z"]}]}, "and kind: binary"),
        ({"targets": [{"column": "a", "kind": "multiclass", "classes": ["x", "y"]}]}, "and kind: multiclass"),
        ({"targets": [{"column": "a", "kind": "binary", "transform": "log"}]}, "transform: log is for numbers"),
        ({"targets": [{"column": "a", "kind": "multiclass", "transform": "log"}]}, "transform: log is for numbers"),
        ({"tables": {"fc": "t"}}, "tables: 'fc' is the name of a baseline; choose another one"),
        ({"tables": {}}, "tables: Dictionary should have at least 1 item"),
        ({"tables": {"a b": "t"}}, "is no artifact name"),
        ({"heads": {"continuous": ["svm"]}}, "continuous: svm tells classes apart; use ridge, kernel_ridge, knn"),
        ({"adjust_baselines": True}, "adjust_baselines and unseen_site have no effect without adjust"),
        ({"unseen_site": "pooled"}, "adjust_baselines and unseen_site have no effect without adjust"),
        ({"attention": True, "adjust": "r.yaml"}, "attention pools latents that no step adjusts; ask for it without"),
        (
            {"attention": True, "tables": {"a_attention": "t"}},
            "names that end with '_attention' are those of attention",
        ),
        ({"adjust": "r.yaml", "folds": {"scheme": "leave_site_out"}}, "every test site is unseen: set unseen_site: po"),
    ],
)
def test_config__refuses_what_cannot_be_meant(values, message):
    with pytest.raises(ConfigError, match=f"^run.yaml: .*{message}"):
        read(**values)


def test_grids__reach_the_heads_that_they_are_for():
    grids = read(
        grids={
            "ridge_alphas": [0.1, 1],
            "kernel": "rbf",
            "kernel_widths": [2],
            "strengths": [1],
            "neighbours": [3],
            "epochs": [2],
            "hidden": 8,
        }
    ).grids
    assert grids.options("ridge") == {"alphas": (0.1, 1.0)}
    assert grids.options("kernel_ridge") == {"alphas": (0.1, 1.0), "kernel": "rbf", "widths": (2.0,)}
    assert grids.options("logistic") == grids.options("svm") == {"strengths": (1.0,)}
    assert grids.options("knn") == {"counts": (3,)}
    assert grids.options("mlp") == {"epochs": (2,), "hidden": 8}
    assert grids.options("mean") == {}
    assert read().grids.options("ridge") == {}


def test_identity__leaves_out_how_trials_are_run():
    one, other = read(), read(tune={"max_concurrent": 3, "cpus": 2}, warehouse="elsewhere")
    assert one.config_hash() == other.config_hash()
    assert read(permutations=9).config_hash() != one.config_hash()
    assert re.fullmatch("[0-9a-f]{64}", one.config_hash())

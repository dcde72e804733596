import inspect
import re
from pathlib import Path
from typing import Literal

import pydantic
import pytest
import yaml

from boldstream.adjust import AdjustConfig
from boldstream.analysis.collapse import CollapseThresholds
from boldstream.analysis.steps import AttentionStep, HarmonizeStep, Impute, ProjectStep, ResidualizeStep, ZscoreStep
from boldstream.analysis.targets import TargetSpec
from boldstream.cluster import ClusterConfig
from boldstream.config import Config
from boldstream.embed import EmbedConfig
from boldstream.encoders.brainjepa.config import BrainJEPAConfig
from boldstream.encoders.brainjepa.specs import MaskSpec, ObjectiveSpec, OptimSpec
from boldstream.encoders.windows import WindowSpec
from boldstream.errors import ConfigError
from boldstream.gradients import GradientConfig
from boldstream.import_weights import ImportWeightsConfig
from boldstream.ingest import IngestConfig
from boldstream.ingest.config import ColumnsConfig
from boldstream.nightly import NightlyConfig
from boldstream.nightly.config import GateConfig
from boldstream.pretrain import PretrainConfig
from boldstream.pretrain.config import CheckpointConfig, ComputeConfig, MonitorConfig, WorkersConfig
from boldstream.probe import ProbeConfig
from boldstream.probe.config import FoldSpec, Grids, Heads, TuneSpec
from boldstream.probe.transfer.config import Condition, TransferSpec
from boldstream.report import ReportConfig
from boldstream.shift import ShiftConfig
from boldstream.strategy import Strategy
from boldstream.synthesis import Effects, SyntheticSpec
from boldstream.tables.quality.config import QualityConfig, QualityThresholds

ROOT = Path(__file__).parents[2]
ROOMS = {
    "ingest": IngestConfig,
    "gradients": GradientConfig,
    "pretrain": PretrainConfig,
    "import_weights": ImportWeightsConfig,
    "embed": EmbedConfig,
    "adjust": AdjustConfig,
    "nightly": NightlyConfig,
    "probe": ProbeConfig,
    "report": ReportConfig,
    "shift": ShiftConfig,
    "strategies": Strategy,
}
PRETRAIN = {"output": "m", "cohort": "c", "gradient": "g", "steps": 10}


def write(tmp_path, text):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"optim": {"lrr": 1e-3}}, r"run.yaml: unknown key 'optim.lrr' \(did you mean 'optim.lr'\?\)$"),
        ({"lr": 1e-3}, r"unknown key 'lr' \(did you mean 'optim.lr'\?\)"),
        ({"warehose": "w"}, r"unknown key 'warehose' \(did you mean 'warehouse'\?\)"),
        ({"xyzzy": 1}, r"unknown key 'xyzzy' \(known keys: output, cohort, gradient, .*cluster\)"),
        ({"steps": "many"}, r"steps: Input should be a valid integer.*, got 'many'"),
        ({"steps": -1}, r"steps: Input should be greater than or equal to 0, got -1"),
        ({"optim": {"lr": float("inf")}}, r"optim.lr: Input should be a finite number, got inf"),
        ({"optim": {"warmup_steps": 10}}, r"run.yaml: optim.warmup_steps \(10\) must be below steps \(10\)"),
        ({"size": "huge"}, r"size: Input should be 'tiny', 'small', 'base' or 'large', got 'huge'"),
        ({"output": "a b"}, r"output: is no artifact name; use letters, digits, '-' and '_', .*, got 'a b'"),
        ({"output": "../x"}, r"output: is no artifact name"),
        ({"alias": "latest"}, r"alias: 'latest' is no alias"),
        ({"alias": "v3"}, r"alias: 'v3' is no alias"),
        ({"alias": "a b"}, r"alias: 'a b' is no alias"),
        ({"optim": [1]}, r"optim: Input should be a valid dictionary"),
    ],
)
def test_from_yaml__says_in_one_line_what_is_wrong(tmp_path, values, message):
    path = write(tmp_path, yaml.safe_dump(PRETRAIN | values))
    with pytest.raises(ConfigError, match=message) as caught:
        PretrainConfig.from_yaml(path)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(path))


IMPORT = {
    "output": "m",
    "weights": "w.pth",
    "gradient": "g.csv",
    "atlas": "a",
    "atlas_labels": "r.txt",
    "licence": "MIT",
}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, r"run.yaml: scaling robust needs statistics: .* authors never released theirs \(issues 2 and 18"),
        (
            {},
            r"fit them on your own cohort \(numpy.savez .*\), or choose scaling: zscore, on which the weights were not",
        ),
        (
            {"scaling": "zscore", "statistics": "s.npz"},
            "statistics are of scaling robust, scaling zscore has none; leave",
        ),
        ({"scaling": "zscore", "licence": " "}, "licence: String should have at least 1 character"),
        ({"scaling": "zscore", "licence": None}, "licence: Input should be a valid string"),
        ({"scaling": "zscore", "alias": "latest"}, "alias: 'latest' is no alias"),
        ({"scaling": "zscore", "num_heads": 0}, "num_heads: Input should be greater than or equal to 1, got 0"),
    ],
)
def test_import_weights_config__says_in_one_line_what_is_wrong(tmp_path, values, message):
    with pytest.raises(ConfigError, match=message) as caught:
        ImportWeightsConfig.from_yaml(write(tmp_path, yaml.safe_dump(IMPORT | values)))
    assert "\n" not in str(caught.value)


def test_import_weights_config__asks_for_a_licence(tmp_path):
    values = {key: value for key, value in IMPORT.items() if key != "licence"}
    with pytest.raises(ConfigError, match=r"run.yaml: missing key 'licence'$"):
        ImportWeightsConfig.from_yaml(write(tmp_path, yaml.safe_dump(values)))


def test_from_yaml__names_every_missing_key(tmp_path):
    with pytest.raises(ConfigError, match=r"missing key 'cohort'; missing key 'gradient'$"):
        PretrainConfig.from_yaml(write(tmp_path, "output: m\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("output: [1, 2", r"run.yaml: not valid YAML: while parsing .*line 1"),
        ("", "holds NoneType, not a mapping of keys to values"),
        ("- a\n- b\n", "holds list, not a mapping"),
        ("just words", "holds str, not a mapping"),
    ],
)
def test_from_yaml__refuses_what_is_no_mapping(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message) as caught:
        PretrainConfig.from_yaml(write(tmp_path, text))
    assert "\n" not in str(caught.value)


LAUGHS = "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}' if n else 'lol'] * 9)}]" for n in range(12))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{LAUGHS}\noutput: *a11\n", r"run.yaml: not valid YAML: alias \*a0: write the value itself.* line 2, column"),
        ("output: &name a\ncohort: *name\n", r"alias \*name: write the value itself, configurations know no aliases"),
        ("output: " + "[" * 20_000, "run.yaml: not valid YAML: lists or mappings are nested too deeply"),
        ("output: " + "a" * (1 << 20), "run.yaml: has 1048584 bytes; a configuration has at most 1048576"),
        ("output: 2026-13-45\n", "run.yaml: not valid YAML: month must be in 1..12"),
        ("output: " + "9" * 5000, "run.yaml: not valid YAML: Exceeds the limit"),
    ],
)
def test_from_yaml__refuses_what_would_grow_or_never_end(tmp_path, text, message):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        IngestConfig.from_yaml(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_from_yaml__takes_anchors_that_nothing_refers_to(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("output: &name a\ncohort: b\nmodel: c\nstrategy: d\n")
    assert EmbedConfig.from_yaml(path).output == "a"


def test_from_yaml__refuses_a_path_that_is_no_file(tmp_path):
    with pytest.raises(ConfigError, match=r"none.yaml: no such file \(working directory: "):
        PretrainConfig.from_yaml(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="is a folder; name a YAML file in it"):
        PretrainConfig.from_yaml(tmp_path)
    (tmp_path / "latin.yaml").write_bytes("output: Zürich".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"latin.yaml: cannot be read as text"):
        PretrainConfig.from_yaml(tmp_path / "latin.yaml")


def test_from_yaml__reads_what_pyyaml_takes_for_text(tmp_path):
    text = yaml.safe_dump(PRETRAIN) + "optim: {lr: 1e-3, start_lr: 5e-6}\ntarget_t_r: 2\n"
    assert isinstance(yaml.safe_load(text)["optim"]["lr"], str)
    config = PretrainConfig.from_yaml(write(tmp_path, text))
    assert (config.optim.lr, config.optim.start_lr, config.target_t_r) == (1e-3, 5e-6, 2.0)


def test_config__is_frozen():
    config = PretrainConfig(**PRETRAIN)
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        config.steps = 11
    assert config.steps == 10


def test_config_hash__goes_by_what_changes_the_result():
    config = PretrainConfig(**PRETRAIN)
    same = {"warehouse": "s3://b/w", "cluster": ClusterConfig(address="ray://x"), "log_every": 3, "alias": "other"}
    same |= {"fresh": True, "data_licence": "ours", "workers": WorkersConfig(count=2)}
    same |= {"checkpoint": CheckpointConfig(keep=9), "monitor": MonitorConfig(scans=3)}
    assert set(same) == config.non_identity
    assert config.model_copy(update=same).config_hash() == config.config_hash()
    assert PretrainConfig(**PRETRAIN | {"seed": 1}).config_hash() != config.config_hash()
    assert PretrainConfig(**PRETRAIN | {"optim": {"lr": 2e-3}}).config_hash() != config.config_hash()


@pytest.mark.parametrize("room", ROOMS)
def test_non_identity__names_fields_that_are_there(room):
    assert ROOMS[room].non_identity <= set(ROOMS[room].model_fields)


def test_config_hash__is_the_same_in_another_process_and_key_order():
    class Small(Config):
        b: Literal["x"] = "x"
        a: dict[str, float] = {}  # noqa: RUF012

    first, second = Small(a={"p": 1, "q": 2}), Small(a={"q": 2, "p": 1})
    assert first.config_hash() == second.config_hash()
    # pinned: manifests of released versions hold such hashes
    assert first.config_hash().startswith("30fc9a0ef43d")


COMMITTED = sorted((ROOT / "configs").rglob("*.yaml"))


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: str(path.relative_to(ROOT)))
def test_committed_yaml__loads(path):
    config = ROOMS[path.parent.name].from_yaml(path)
    assert len(path.read_text().splitlines()) <= 50
    if isinstance(config, Strategy):
        assert config.id == path.stem
    if isinstance(config, EmbedConfig | AdjustConfig):
        assert (ROOT / config.strategy).is_file()


def test_committed_yaml__is_there_for_every_room():
    assert {path.parent.name for path in COMMITTED} == set(ROOMS)


CLASSES = [
    *ROOMS.values(),
    ColumnsConfig,
    GateConfig,
    ClusterConfig,
    OptimSpec,
    ObjectiveSpec,
    WorkersConfig,
    ComputeConfig,
    CheckpointConfig,
    MonitorConfig,
    CollapseThresholds,
    MaskSpec,
    AttentionStep,
    ZscoreStep,
    HarmonizeStep,
    ProjectStep,
    ResidualizeStep,
    Impute,
    TargetSpec,
    Heads,
    Grids,
    Condition,
    TransferSpec,
    QualityConfig,
    QualityThresholds,
    FoldSpec,
    TuneSpec,
    WindowSpec,
    BrainJEPAConfig,
    SyntheticSpec,
    Effects,
]


@pytest.mark.parametrize("config_class", CLASSES, ids=lambda found: found.__name__)
def test_config_field__is_read_by_something_and_documented(config_class):
    definition = inspect.getsource(config_class)
    source = "\n".join(path.read_text() for path in (ROOT / "platform").rglob("*.py")).replace(definition, "")
    # in its own class, a validator or method may read a field
    source += "\n".join(re.findall(r"self\.\w+", definition))
    # read as a whole, by name: the participants columns, the mask's ranges, what is filled in
    read_by_name = {ColumnsConfig: "columns.model_dump()", MaskSpec: "getattr(self, name)"}
    read_by_name |= {Impute: "getattr(self.impute, name)"}
    for name, field in config_class.model_fields.items():
        read = re.search(rf"\.{name}\b", source) or read_by_name.get(config_class, "\0") in source + definition
        assert read, f"{config_class.__name__}.{name} is read nowhere"
        assert field.description, f"{config_class.__name__}.{name} has no docstring"

import importlib
import sys

import pandas as pd
import pytest

from boldstream.cli import DOORS, parse_config
from boldstream.demo import WALKS
from boldstream.demo.abide import bring_source, participants_of
from boldstream.errors import SourceError


def configs_of(walk):
    for step in walk.steps():
        room = importlib.import_module(f"boldstream.{step.job}")
        yield step.job, parse_config(getattr(room, DOORS[step.job][1]), step.arguments)


@pytest.mark.parametrize("name", WALKS)
def test_walks__name_commands_that_exist_and_end_in_a_report(name):
    walk = WALKS[name]
    found = list(configs_of(walk))
    assert {str(config.warehouse) for _, config in found} == {str(walk.folder / "warehouse")}
    job, report = found[-1]
    assert job == "report" and report.output == str(walk.folder / "report")
    made = {config.output for _, config in found[:-1]}
    assert {*report.tables.values(), *report.results, report.cohort} <= made


def test_participants_of__reads_the_codes_of_abide():
    table = pd.DataFrame(
        {
            "SUB_ID": [50642, 51211],
            "FILE_ID": ["CMU_a_0050642", "UCLA_1_0051211"],
            "SITE_ID": ["CMU", "UCLA_1"],
            "AGE_AT_SCAN": [33.0, 12.5],
            "SEX": [1, 2],
            "DX_GROUP": [1, 2],
            "func_mean_fd": [0.39, None],
        }
    )
    found = participants_of(table).set_index("participant_id")
    assert found.loc["sub-0050642", ["site", "age", "sex", "diagnosis", "mean_fd"]].tolist() == [
        "CMU", 33.0, "M", "ASD", 0.39,
    ]  # fmt: skip
    assert found.loc["sub-0051211", ["sex", "diagnosis"]].tolist() == ["F", "TC"]
    assert pd.isna(found.loc["sub-0051211", "mean_fd"])


def test_bring_source__without_abide_and_network_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with pytest.raises(SourceError, match=r"ABIDE is not in .*shared/data/abide and cannot be fetched \(.*network"):
        bring_source(tmp_path / "there")
    assert "ABIDE_pcp" in {path.name for path in (tmp_path / "there").iterdir()}
    assert sys.modules["nilearn"]

import json

import numpy as np
import pandas as pd
import pytest
from test_report import make_cohort, make_table, noise, own_vector

from boldstream.artifacts.cohort import open_cohort
from science.compare_tables import compare, compare_tables, identified, main, print_measures

# mlflow's and pyiceberg's own use of sqlalchemy
pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")

N, D = 80, 12


@pytest.fixture(scope="module")
def measures():
    """A representation of the people, one of nothing, and a noisy one; some people lack age, sex or site."""
    rng = np.random.default_rng(0)
    who = rng.normal(size=(N, D))
    age, sex = 30 + 5 * who[:, 0], np.where(who[:, 1] > 0, "M", "F").astype(object)
    people = pd.DataFrame({"age": age, "sex": sex, "site": rng.integers(0, 6, N).astype(str).astype(object)})
    people.loc[0, "age"], people.loc[1:2, "sex"], people.loc[3, "site"] = None, None, None
    models = {
        "trained": who + 0.2 * rng.normal(size=(2, N, D)),
        "untrained": rng.normal(size=(2, N, D)),
        "FC": who + 1.0 * rng.normal(size=(2, N, D)),
    }
    return {m.name: m for m in compare({k: v.astype(np.float32) for k, v in models.items()}, people, n=200)}


def test_compare__tells_a_good_representation_from_none(measures):
    assert [(name, m.n_subjects) for name, m in measures.items()] == [
        ("age R2", N - 2), ("age r", N - 2), ("sex AUC", N - 3), ("identification", N),
    ]  # fmt: skip
    for measure in measures.values():
        assert measure.estimates["trained"].value > 0.8
        assert measure.advantages["untrained"].low > 0
        assert measure.estimates["FC"].low < measure.estimates["FC"].value < measure.estimates["FC"].high
    assert measures["identification"].estimates["trained"].value == 1.0
    assert measures["identification"].estimates["untrained"].high < 0.1


def test_print_measures__says_whether_zero_is_excluded(measures, capsys):
    print_measures(list(measures.values()))
    *text, last = capsys.readouterr().out.splitlines()
    assert any("trained - untrained" in line and line.endswith("excludes 0") for line in text)
    found = json.loads(last)
    assert found["met"] is True
    assert found["ours"] == pytest.approx(measures["age R2"].estimates["trained"].value)
    assert found["ratio"] is None or found["baseline"] > 0


def test_identified__of_a_collapsed_half_is_nobody():
    halves = np.random.default_rng(0).normal(size=(2, 6, 5))
    halves[1] = 0.5
    np.testing.assert_array_equal(identified(halves), 0)


def test_compare_tables__reads_a_warehouse(tmp_path, monkeypatch, capsys):
    cohort, rows = make_cohort(tmp_path)
    make_table(tmp_path, "trained", cohort, rows, own_vector)
    make_table(tmp_path, "untrained", cohort, rows, noise, drop=[(rows[0]["scan_key"], 1)])
    make_table(tmp_path, "whole", cohort, rows, noise, parts=1)
    seen = {}
    monkeypatch.setattr("science.compare_tables.compare", lambda models, people, *, n: seen.update(models) or [people])
    (people,) = compare_tables(str(tmp_path), "demo", "trained", "untrained", quick=True)
    assert {name: values.shape for name, values in seen.items()} == {
        "trained": (2, 4, 8), "untrained": (2, 4, 8), "FC": (2, 4, 15),
    }  # fmt: skip
    assert people["subject"].tolist() == ["1", "2", "3", "4"]
    text = capsys.readouterr().out
    assert (
        "4 scans of 6 in the cohort: one each of 4 of the 4 subjects with both halves in both tables (1 further" in text
    )
    assert "untrained: 1 scans of the table lack a half" in text
    with pytest.raises(SystemExit, match=r"the tables' scans are in 1 part\(s\); embed them with parts: 2"):
        compare_tables(str(tmp_path), open_cohort("demo", str(tmp_path)).label, "whole", "whole", quick=True)


def test_main__wants_its_arguments(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["compare_tables.py", "--quick"])
    with pytest.raises(SystemExit):
        main()
    assert "--warehouse, --cohort, --trained, --untrained" in capsys.readouterr().err

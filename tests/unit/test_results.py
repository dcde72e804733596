import numpy as np
import pandas as pd
import pytest

from boldstream.artifacts.results import SCHEMAS, find_results, open_results, publish_results
from boldstream.errors import ConfigError, OutputExistsError, ResultsError
from boldstream.storage import Warehouse, local_path

ZERO = {"string": "x", "bool": True, "double": 0.5, "int64": 3}


def tables_of(**changed):
    found = {
        key: pd.DataFrame([{field.name: ZERO[str(field.type)] for field in schema}] * 2)
        for key, schema in SCHEMAS.items()
    }
    for name, value in changed.items():
        found["scores"][name] = value
    return found


@pytest.fixture
def warehouse(tmp_path):
    return Warehouse.at(str(tmp_path))


def publish(warehouse, tables=None, rows="a", seed=0):
    return publish_results(
        warehouse,
        "one",
        "probe",
        tables or tables_of(),
        config={"seed": seed},
        identity={"rows": rows, "config": {"seed": seed}},
        parents=[],
        content={"headline": "h", "pairs": (1, 2)},
        mlflow_run_id=None,
    )


def test_results__come_back_as_they_were(warehouse):
    made = publish(warehouse, tables_of(p=np.nan))
    found = open_results("one@1", warehouse.uri)
    assert str(found.ref) == f"results: {warehouse.uri}/results/one@1  # sha256 {made.ref.digest[:12]}"
    assert (found.label, found.manifest.kind, found.manifest.rows) == ("one@1", "probe", 2)
    assert found.manifest.content["headline"] == "h"
    pd.testing.assert_frame_equal(found.scores(), tables_of(p=np.nan)["scores"])
    assert found.scores()["p"].isna().all()
    assert found.predictions().columns.tolist() == SCHEMAS["predictions"].names
    assert found.contests()["verdict"].tolist() == ["x", "x"]


def test_version__is_found_again_by_what_it_is_of(warehouse):
    identity = {"rows": "a", "config": {"seed": 0}}
    assert find_results(warehouse, "one", identity) is None
    first = publish(warehouse)
    assert find_results(warehouse, "one", identity).ref == first.ref
    assert find_results(warehouse, "one", identity | {"rows": "b"}) is None
    assert publish(warehouse, rows="b").ref.version == "2"
    assert open_results("one", warehouse.uri).ref.version == "2"
    with pytest.raises(OutputExistsError, match=r"results 'one' exists .* was made with .*config.seed: 0 -> 1.*choose"):
        find_results(warehouse, "one", {"rows": "a", "config": {"seed": 1}})


def test_results__that_are_not_there_or_not_whole_are_refused(warehouse):
    with pytest.raises(ResultsError, match=r"no results 'one' \(.*has the versions: none\); make them with jobs/probe"):
        open_results("one", warehouse.uri)
    with pytest.raises(ConfigError, match="results: 'o ne' does not name an artifact"):
        open_results("o ne", warehouse.uri)
    folder = local_path(publish(warehouse).ref.uri) / "v1"
    scores = (folder / "scores.parquet").read_bytes()
    (folder / "scores.parquet").write_bytes(scores[:-1])
    with pytest.raises(ResultsError, match="v1 is not what its manifest describes; restore it"):
        open_results("one@1", warehouse.uri)
    (folder / "scores.parquet").unlink()
    with pytest.raises(ResultsError, match=r"v1 is not whole: .*no such file.*make them again"):
        open_results("one@1", warehouse.uri)
    (folder / "manifest.json").unlink()
    with pytest.raises(ResultsError, match="versions: none"):
        open_results("one@1", warehouse.uri)


def test_tables__have_their_columns(warehouse):
    wrong = tables_of(other=1)
    with pytest.raises(ResultsError, match="table of scores lacks columns or has others: other"):
        publish(warehouse, wrong)
    with pytest.raises(ResultsError, match=r"table of scores has a value of another kind: .*"):
        publish(warehouse, tables_of(n_scans="many"))
    assert not local_path(f"{warehouse.uri}/results").exists()


def test_two_runs_at_once__of_other_rows_do_not_pass_for_each_other(warehouse, tmp_path, monkeypatch):
    """Another run writes all files of the same version right after this one has written its own."""
    from boldstream.artifacts import folders

    other = Warehouse.at(str(tmp_path / "other"))
    theirs = local_path(publish(other, tables_of(value=0.1)).ref.uri) / "v1"
    write = folders.publish_bytes

    def overtaken(uri, data):
        write(uri, data)
        if uri.endswith("manifest.json"):
            for path in theirs.iterdir():
                write(f"{uri.rpartition('/')[0]}/{path.name}", path.read_bytes())

    monkeypatch.setattr(folders, "publish_bytes", overtaken)
    with pytest.raises(ResultsError, match="another run has published results one@1 at this moment, of other rows"):
        publish(warehouse)

import numpy as np
import pytest

from boldstream.artifacts.gradient import find_gradient, open_gradient, publish_gradient
from boldstream.artifacts.manifest import Parent
from boldstream.errors import GradientError, OutputExistsError
from boldstream.refs import CohortRef
from boldstream.storage import Warehouse, local_path


@pytest.fixture
def warehouse(tmp_path):
    return Warehouse.at(str(tmp_path / "w"))


@pytest.fixture
def gradient(warehouse):
    ref, _ = publish_gradient(
        warehouse,
        "g",
        np.array([[0.1, 1 / 3], [-2.5, 1e-17], [3, 4]]),
        atlas="toy",
        roi_names=("left", "mid, dle", 'ri"ght'),
        config={},
        identity={"n_components": 2},
        parents=[Parent.of(CohortRef("file:///w/cohorts/p", "2", "d"))],
        mlflow_run_id=None,
    )
    return ref


def test_gradient__comes_back_to_the_last_digit(gradient, warehouse):
    for pointer in ("g", "g@1", gradient.pointer):
        found = open_gradient(pointer, warehouse.uri)
        assert found.values.tolist() == [[0.1, 1 / 3], [-2.5, 1e-17], [3, 4]]
        assert found.roi_names == ("left", "mid, dle", 'ri"ght')
        assert found.ref == gradient
    assert find_gradient(warehouse, "g", {"n_components": 2}) == gradient
    assert find_gradient(warehouse, "other", {}) is None


def test_gradient__made_otherwise_is_refused(gradient, warehouse):
    with pytest.raises(OutputExistsError, match=r"gradient 'g' exists .* other settings \(n_components: 2 -> 3\)"):
        find_gradient(warehouse, "g", {"n_components": 3})


def test_gradient__that_is_not_whole_is_refused(gradient, warehouse):
    with pytest.raises(
        GradientError, match=r"no gradient 'other' \(.*manifest.json is missing\); make it with jobs/gra"
    ):
        open_gradient("other", warehouse.uri)
    with pytest.raises(GradientError, match="no gradient 'g@2'"):
        open_gradient("g@2", warehouse.uri)
    folder = local_path(gradient.uri)
    csv = folder / "gradient.csv"
    csv.write_text(csv.read_text().replace("-2.5", "2.5"))
    with pytest.raises(GradientError, match=r"gradient.csv is not the file that its manifest describes; make it again"):
        open_gradient("g", warehouse.uri)
    csv.unlink()
    with pytest.raises(GradientError, match=r"gradient.csv: no such file"):
        open_gradient("g", warehouse.uri)
    (folder / "manifest.json").write_text("[]")
    with pytest.raises(GradientError, match=r"is no manifest \(holds a list\)"):
        open_gradient("g", warehouse.uri)

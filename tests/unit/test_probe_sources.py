"""Transfer from several source cohorts: what may be learnt from together, and whose scan is whose."""

import numpy as np
import pytest

from boldstream.analysis.adjustment import Adjustment
from boldstream.analysis.folds import site_folds
from boldstream.analysis.heads.ridge import RidgeHead
from boldstream.analysis.steps import ResidualizeStep
from boldstream.errors import AtlasError, ConfigError, ResultsError
from boldstream.probe.config import ProbeConfig
from boldstream.probe.features import SeriesList, one_after_other
from boldstream.probe.material import open_tables, read_material
from boldstream.probe.spec import TrialSpec
from boldstream.probe.transfer.sides import read_halves, read_sides
from boldstream.probe.transfer.sources import open_further
from boldstream.probe.transfer.trial import run_transfer
from boldstream.probe.trial import ZSCORE
from reported import STRATEGY, make_cohort, make_table, own_vector

# mlflow's and pyiceberg's own use of sqlalchemy
pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")

N = 16


def people_of(name, site=("A", "B"), prefix=None, files=None):
    """People of a cohort, named after it unless a prefix is given, each with a file of their own."""

    def person(number):
        known = {"subject": f"{prefix or name}{number}", "age": 20.0 + number, "sex": "FM"[number % 2]}
        known |= {"site": site[number % len(site)] if site else None}
        return known | {"source_sha256": f"{files or name} {number}", "scan_key": f"sub-{number}"}

    return person


@pytest.fixture
def place(tmp_path):
    """Make cohorts with a table each, named alike."""

    def make(name, seed, *, width=None, cohort=None, regions="r", **values):
        table = {key: values.pop(key) for key in ("digest", "strategy", "adjustment", "parts") if key in values}
        made = cohort or make_cohort(
            tmp_path, name, seed, n_subjects=N, people=people_of(name, **values), regions=regions
        )
        rows = [row for row in made[1] if row.get("run") == "0"]
        vectors = lambda scan, part: own_vector(scan + 100 * seed, part)[:width]  # noqa: E731
        make_table(tmp_path, name if cohort is None else f"{name}-again", made[0], rows, vectors, **table)
        return made

    make.warehouse = str(tmp_path)
    return make


def config_of(place, sources=("two",), tables="far", **values):
    transfer = {"sources": [{"ours": name} for name in sources], "tables": {"ours": tables}} | values.pop(
        "transfer", {}
    )
    known = {"output": "t", "tables": {"ours": "one"}, "targets": ["age"], "baselines": ["mean"], "bootstrap": 100}
    known |= {"folds": {"n_folds": 3, "n_inner": 3, "n_repeats": 1}, "warehouse": place.warehouse, "transfer": transfer}
    return ProbeConfig.from_mapping(known | values, where="run.yaml")


def sides_of(place, **values):
    config = config_of(place, **values)
    return config, read_sides(config, read_material(config, *open_tables(config)))


def test_sources__are_learnt_from_together_each_site_being_its_cohorts(place):
    place("one", 1)
    place("two", 2, site=None)
    place("far", 3)
    config, (source, target) = sides_of(place)
    assert len(source.scans) == 2 * N
    assert len(target.scans) == N
    assert set(source.scans["site"]) == {"one: A", "one: B", "two"}
    assert source.keys[0] == "one: sub-0"
    assert source.scans["subject"].iloc[-1] == "two9"
    one, two = source.members
    np.testing.assert_array_equal(source.vectors["ours"], np.concatenate([one.vectors["ours"], two.vectors["ours"]]))
    assert one.keys == two.keys == sorted(one.keys)
    (half, asked), *_ = read_halves(config, (source, target), ())
    assert (half.target.n_subjects, half.target.n_sites, asked.target.n_subjects) == (2 * N, 3, N)
    assert [member.cohort.label for member in source.cohorts] == ["one@1", "two@1"]
    assert list(open_further(config)) == ["source-2", "unseen"]


def test_sources__conditions_are_on_every_cohort(place):
    for seed, name in enumerate(("one", "two", "far"), start=1):
        place(name, seed)
    young = {"source": [{"column": "age", "high": 27}], "target": [{"column": "age", "low": 28}]}
    _, (source, target) = sides_of(place, transfer=young)
    assert len(source.scans) == 2 * 8
    assert source.scans["age"].max() == 27
    assert target.scans["age"].min() == 28
    nobody = {"source": [{"column": "site", "values": ["C"]}]}
    with pytest.raises(ResultsError, match=r"transfer.source: no scan of one@1 is left \(site C\)"):
        sides_of(place, transfer=nobody)


def test_sources__of_one_name_are_refused_or_told_apart(place):
    place("one", 1)
    place("two", 2, prefix="one")
    place("far", 3, prefix="one")
    with pytest.raises(
        ResultsError,
        match=r"16 subject name\(s\) are in cohorts one@1 and two@1 \(one0, one1, one10 and 13 more\): one person",
    ):
        sides_of(place)
    config, (source, target) = sides_of(place, transfer={"other_people": True})
    assert source.scans["subject"].nunique() == 2 * N
    (half, asked), *_ = read_halves(config, (source, target), ())
    assert not set(half.people["subject"]) & set(asked.people["subject"])
    one = config_of(place, sources=("far",), tables="far", transfer={"other_people": True})
    with pytest.raises(ConfigError, match="far@1 is learnt from and applied to, and in one cohort a name is"):
        read_sides(one, read_material(one, *open_tables(one)))


def test_adjustment__is_fitted_to_the_sources_together_and_to_nobody_else(place):
    for seed, name in enumerate(("one", "two", "far"), start=1):
        place(name, seed)
    steps = (ResidualizeStep(step="residualize", covariates=("site",)),)
    config, sides = sides_of(place)
    (source, target), *_ = read_halves(config, sides, steps)
    spec = TrialSpec.model_validate(
        {"target": "age", "kind": "continuous", "representation": "ours", "role": "embedding", "source": "ours"}
        | {"head": "ridge", "options": {}, "steps": steps, "unseen_site": "pooled", "bootstrap": 100, "seed": 0}
        | {"standardise": True, "folds_id": "f", "inputs": ()}
    )
    x, z = (side.vectors["ours"] for side in sides)
    found = run_transfer(spec, source, target, x, z, None).predictions["unchanged"].predicted[:, 0]
    by_hand = Adjustment((*steps, ZSCORE), unseen_site="pooled")
    sites = [{"site": side.scans["site"].to_numpy()} for side in sides]
    inside = by_hand.fit(x, covariates=sites[0]).transform(x, covariates=sites[0])
    folds = site_folds(source.people, n_folds=3)
    head = RidgeHead().fit(inside, source.target.y, folds)
    np.testing.assert_allclose(found, head.predict(by_hand.transform(z, covariates=sites[1])), rtol=1e-6)
    assert len(np.unique(sites[0]["site"])) == 4


@pytest.mark.parametrize("where", ["two", "far"])
def test_scans__of_equal_files_are_one_scan_whatever_they_are_called(place, where):
    place("one", 1)
    for seed, name in enumerate(("two", "far"), start=2):
        place(name, seed, files="one" if name == where else None)
    expected = (
        rf"transfer: 16 scan\(s\) of cohorts one@1 and {where}@1 are of equal files \(sub-0 is sub-0, .* and 13 more"
    )
    with pytest.raises(ResultsError, match=expected):
        sides_of(place, transfer={"other_people": True})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"digest": "1"},
            "one@1 and two@1 have vectors of different models, models:/nowhere/1 and models",
        ),
        (
            {"strategy": STRATEGY | {"window": STRATEGY["window"] | {"length": 40}}},
            r"one@1 and two@1 are of different strategies \(strategy.window.length: 20 -> 40\)",
        ),
        ({"adjustment": "file:///a@1"}, "one@1 and two@1 are of different adjustments, none and file:///a@1: take the"),
        ({"width": 5}, "one@1 has vectors of 8 dimensions, two@1 of 5: embed both by one model version and strategy"),
    ],
)
def test_sources__of_another_space_are_refused_by_name(place, values, message):
    place("one", 1)
    place("two", 2, **values)
    place("far", 3)
    with pytest.raises(ConfigError, match=message):
        sides_of(place)


def test_sources__of_other_regions_are_refused(place):
    place("one", 1)
    place("two", 2, regions="q")
    place("far", 3)
    with pytest.raises(AtlasError, match=r"transfer.sources: cohort 'two@1' .*cohort 'one@1'"):
        sides_of(place)


def test_sources__are_of_different_cohorts(place):
    made = place("one", 1)
    place("one", 1, cohort=made)
    place("far", 3)
    with pytest.raises(ConfigError, match=r"one-again@1 and one@1 are of one cohort \(.*\); name each cohort once"):
        sides_of(place, sources=("one-again",))


def test_sources__that_lack_a_column_are_named(place):
    for seed, name in enumerate(("one", "two", "far"), start=1):
        place(name, seed)
    config = config_of(place, targets=["aeg"])
    with pytest.raises(ConfigError, match=r"transfer.sources \(two\): targets: the tables have no column 'aeg'"):
        open_further(config)


@pytest.mark.parametrize(
    ("transfer", "message"),
    [
        ({"sources": [{"ours": "x"}]}, "sources: learnt from several cohorts, what for?"),
        (
            {"sources": [{"other": "x"}], "tables": {"ours": "y"}},
            r"transfer.sources: name the same as in tables \(ours\)",
        ),
        ({"sources": [], "tables": {"ours": "y"}}, "transfer.sources: Tuple should have at least 1 item"),
    ],
)
def test_config__of_sources_that_cannot_be_meant_is_refused(transfer, message):
    known = {"output": "t", "tables": {"ours": "one"}, "targets": ["age"], "transfer": transfer}
    with pytest.raises(ConfigError, match=message):
        ProbeConfig.from_mapping(known, where="run.yaml")


def test_features__of_several_cohorts_follow_each_other():
    series = [[np.full((n, 2), n, np.float32) for n in lengths] for lengths in ([3, 2], [4])]
    parts = []
    for some in series:
        flat, lengths = np.concatenate([one.ravel() for one in some]), np.array([len(one) for one in some])
        parts.append(SeriesList(flat, lengths, 2))
    found = one_after_other(*parts)
    assert [one.tolist() for one in found] == [one.tolist() for some in series for one in some]
    np.testing.assert_array_equal(one_after_other(np.zeros((1, 2)), np.ones((1, 2))), [[0, 0], [1, 1]])

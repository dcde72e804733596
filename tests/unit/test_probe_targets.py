import numpy as np
import pandas as pd
import pytest

from boldstream.analysis.targets import TargetSpec
from boldstream.errors import ConfigError, ResultsError
from boldstream.probe.config import FoldSpec
from boldstream.probe.targets import check_column, read_target

N = 30
FOLDS = FoldSpec(n_folds=3, n_inner=3, n_repeats=1)


def scans_of(values, **columns):
    keys = [f"sub-{i:02d}" for i in range(len(values))]
    known = {"subject": keys, "site": ["A", "B", "C"] * (len(values) // 3) + ["A"] * (len(values) % 3)}
    return pd.DataFrame(known | {"value": values} | columns, index=pd.Index(keys, name="scan_key"))


def read(values, folds=FOLDS, columns=None, **spec):
    return read_target(TargetSpec(column="value", **spec), scans_of(values, **(columns or {})), folds)


def test_numbers__are_continuous_and_missing_ones_are_counted():
    values = np.linspace(1.0, 2.0, N)
    values[[3, 7]] = np.nan
    found = read(values)
    assert (found.kind, found.classes, found.n_missing, len(found.y)) == ("continuous", None, 2, N - 2)
    np.testing.assert_array_equal(found.y, values[~np.isnan(values)])
    assert 3 not in found.rows
    assert found.folds.keys == tuple(found.people["scan"])
    told = found.describe()
    assert (told["n_subjects"], told["n_sites"], told["mean"]) == (N - 2, 3, pytest.approx(1.5, abs=0.05))
    logged = read(values, transform="log")
    assert logged.name == "log_value"
    np.testing.assert_allclose(logged.y, np.log(found.y))


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        (["M", "F"] * 15, ("F", "M")),
        ([0, 1] * 15, ("0", "1")),
        ([2.0, 1.0] * 15, ("1", "2")),
        ([True, False] * 15, ("False", "True")),
    ],
)
def test_two_values__are_classes_in_sorted_order(values, classes):
    found = read(values)
    assert (found.kind, found.classes) == ("binary", classes)
    assert found.y.sum() == N / 2
    assert found.describe()["share_of_second"] == 0.5


def test_classes__that_are_named_leave_out_others_and_count_them():
    values = ["ASD", "TC", "other"] * 10
    values[0] = None
    found = read(values, classes=("TC", "ASD"))
    assert (found.n_missing, found.n_other, len(found.y)) == (1, 10, 19)
    assert found.y.sum() == 9
    assert read(["1", "3"] * 15, classes=("3", "1")).y[0] == 1


def test_three_classes__are_told_by_text_or_by_config():
    values = ["c", "a", "b"] * 10
    values[1] = None
    found = read(values)
    assert (found.kind, found.classes, found.n_missing) == ("multiclass", ("a", "b", "c"), 1)
    assert found.y[:3].tolist() == [2, 1, 2]
    told = found.describe()
    assert told["classes"] == ["a", "b", "c"]
    np.testing.assert_allclose(told["shares"], [9 / 29, 10 / 29, 10 / 29])
    assert read([1, 2, 3] * 10).kind == "continuous"
    coded = read([1, 2, 10] * 10, kind="multiclass")
    assert (coded.kind, coded.classes) == ("multiclass", ("1", "10", "2"))
    named = read([*values, *"dddd"], classes=("c", "a", "b"))
    assert (named.classes, named.n_other, named.y[:3].tolist()) == (("c", "a", "b"), 4, [0, 2, 0])


def test_many_classes__are_spread_evenly_over_folds():
    # more than ten codes are no numbers to be put into bins
    values = [f"class {i % 12}" for i in range(72)]
    found = read(values, columns={"site": "A"})
    counts = pd.crosstab(found.folds.outer[0], found.y)
    assert counts.shape == (3, 12)
    assert (counts == 2).all(axis=None)


def test_class__that_is_at_one_site_only_cannot_be_learnt_without_it():
    folds = FoldSpec(scheme="leave_site_out", n_inner=6)
    values = ["a", "b", "c"] * 10
    site = ["C" if value == "c" else "ABDEFG"[i // 3 % 6] for i, value in enumerate(values)]
    with pytest.raises(ResultsError, match=r"nobody of class 'c' \(10 scans\) is left .* an inner fold is held out"):
        read(values, folds, {"site": site})
    family = ["f" if value == "c" else f"f{i}" for i, value in enumerate(values)]
    relatives = FOLDS.model_copy(update={"family": "family"})
    with pytest.raises(ResultsError, match=r"nobody of class 'c' .* fold is held out .*take fewer or other folds"):
        read(values, relatives, {"family": family})


def test_target__that_is_the_site_is_seen_as_such():
    assert read(["A", "B", "C"] * 10).is_of_sites
    assert not read(["A", "B", "C", "C", "B", "A"] * 5).is_of_sites
    assert not read(["A", "B", "C"] * 10, columns={"site": None}).is_of_sites


def test_numbers_as_text__are_numbers():
    np.testing.assert_allclose(read([f"{n}.5" for n in range(N)]).y, np.arange(N) + 0.5)


@pytest.mark.parametrize(
    ("values", "spec", "message"),
    [
        ([None] * N, {}, "target 'value': none of 30 scans has a value in column 'value'"),
        (["a"] * N, {}, "all scans have the value 'a'; there is nothing to predict"),
        (["a"] * N, {"kind": "binary"}, "all scans are of one class, 'a'; there is nothing to tell"),
        (
            [f"w{i:02d}" for i in range(N)],
            {"transform": "log"},
            r"text of 30 values \(w00, w01, .* and 24 more\)",
        ),
        ([f"w{i:02d}" for i in range(N)], {}, r"of 30 of 30 classes .*'w00' has 1, 'w01' has 1, .* and 24 more; take"),
        (["a", "b", "c"] * 10, {"kind": "binary"}, r"has 3 values \(a, b, c\), not two classes; name two"),
        (["a", "b"] * 15, {"kind": "multiclass"}, r"has 2 values \(a, b\), not three and more; use kind: binary"),
        (["a"] * 30, {"kind": "multiclass"}, "all scans are of one class, 'a'; there is nothing to tell"),
        (["a", "b", "c"] * 10, {"classes": ("a", "b", "z")}, r"no scan has the value 'z' in column 'value' \(there: a"),
        (["a", "b"] * 15, {"classes": ("a", "z")}, r"no scan has the value 'z' in column 'value' \(there: a, b\)"),
        (np.arange(N) - 1.0, {"transform": "log"}, r"2 values of 'value' are 0 or less \(least: -1\) and have no log"),
        ([np.inf, *range(N - 1)], {}, "1 values are not finite"),
        ([1.5, 2.5, 3.5] + [None] * 27, {}, r"3 subjects with a value are too few for 3 folds .* \(at least 6\); take"),
        (
            ["a"] * 28 + ["b"] * 2,
            {},
            r"too few .* of 1 of 2 classes for 3 folds .*\(at least 4\): 'b' has 2; take",
        ),
        (["a", "b"] * 14 + ["c"] * 2, {}, r"too few subjects of 1 of 3 classes .*'c' has 2; .* or name the classes"),
    ],
)
def test_columns__that_are_no_target_are_refused(values, spec, message):
    with pytest.raises(ResultsError, match=message):
        read(values, **spec)


def test_leave_site_out__needs_sites():
    folds = FoldSpec(scheme="leave_site_out", n_inner=2)
    assert read(np.arange(N), folds).folds.scheme.startswith("leave-site-out, 3 sites")
    with pytest.raises(ResultsError, match="target 'value': no folds can be dealt: leave-site-out needs at least 3"):
        read(np.arange(N), folds, {"site": ["A", "B"] * 15})


def test_relatives__stay_together():
    family = [f"f{i // 2}" for i in range(N)]
    found = read(np.arange(N), FOLDS.model_copy(update={"family": "family"}), {"family": family})
    held = pd.Series(found.folds.outer[0]).groupby(np.array(family)).nunique()
    assert (held == 1).all()


def test_column__that_is_not_there_names_near_ones():
    with pytest.raises(ConfigError, match=r"targets: the tables have no column 'agee' \(did you mean 'age'\?\); a col"):
        check_column("agee", ["age", "sex"], "targets")
    with pytest.raises(ConfigError, match=r"no column 'weight' \(there: age, sex\)"):
        check_column("weight", ["sex", "age"], "targets")

import numpy as np
import pandas as pd
import pytest
from sklearn.preprocessing import StandardScaler

from boldstream.analysis.calibration import calibration_of_classes
from boldstream.analysis.folds import nested_folds, site_folds
from boldstream.analysis.heads.catalog import make_head
from boldstream.analysis.heads.prototypes import PrototypeHead
from boldstream.analysis.nested import METRICS, predict_nested, score
from boldstream.analysis.residualize import Residualizer
from boldstream.analysis.transfer import Side, calibration, degradation, on_folds_of, recalibrate, transfer
from boldstream.analysis.transfer_shift import covariate_overlap, extrapolated, far_share, vector_shift

D = 8
WEIGHT = np.random.default_rng(99).normal(size=D)


def people(n, name, *, seed=0, sites=("A", "B", "C"), offset=0.0, runs=1, classes=False):
    """A cohort's side: the target is linear in the vectors, which a scanner may offset."""
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(n), runs)
    x = rng.normal(size=(n, D))[who] + 0.1 * rng.normal(size=(n * runs, D))
    y = x @ WEIGHT + rng.normal(size=n)[who]
    scans = pd.DataFrame({"scan": [f"{name}-{i}" for i in range(n * runs)], "subject": [f"{name}{i}" for i in who]})
    scans["site"] = [sites[i % len(sites)] for i in who]
    return Side(x + offset, (y > 0).astype(int) if classes else y, scans)


def ridge():
    return make_head("ridge", "continuous")


def moved(side, **values):
    return side._replace(**values)


def test_transfer__does_not_look_at_the_targets_of_the_target_cohort():
    source, target = people(80, "s"), people(40, "t", seed=1, sites=("D",))
    found = transfer(source, target, ridge(), kind="continuous", front=StandardScaler())
    other = transfer(source, moved(target, y=target.y[::-1].copy()), ridge(), kind="continuous", front=StandardScaler())
    np.testing.assert_array_equal(found.unchanged.predicted, other.unchanged.predicted)
    np.testing.assert_array_equal(found.recentred.predicted, other.recentred.predicted)
    assert not np.array_equal(found.recalibrated.predicted, other.recalibrated.predicted)


def test_transfer__predicts_each_scan_by_itself():
    source, target = people(80, "s"), people(40, "t", seed=1)
    found = transfer(source, target, ridge(), kind="continuous", front=StandardScaler())
    half = Side(target.x[:20], target.y[:20], target.scans.iloc[:20])
    again = transfer(source, half, ridge(), kind="continuous", front=StandardScaler())
    np.testing.assert_allclose(found.unchanged.predicted[:20], again.unchanged.predicted)
    # what is recentred hangs on who else is there
    assert not np.allclose(found.recentred.predicted[:20], again.recentred.predicted)


def test_transfer__null_is_the_sources_mean():
    source, target = people(60, "s", runs=2), people(20, "t", seed=1)
    found = transfer(source, target, ridge(), kind="continuous")
    assert (found.unchanged.null == source.y.mean()).all()
    assert (found.n_train, found.n_train_subjects, found.n_inner) == (120, 60, 3)
    assert found.unchanged.folds_id.startswith("transfer-")
    assert set(found.versions) == {"unchanged", "recentred", "recalibrated"}


def test_recentred__forgives_an_offset_of_all_vectors():
    source = people(200, "s")
    plain, offset = (people(100, "t", seed=1, offset=shift) for shift in (0.0, 3.0))
    there, off = (transfer(source, side, ridge(), kind="continuous") for side in (plain, offset))
    np.testing.assert_allclose(off.recentred.predicted, there.recentred.predicted)
    assert score(off.unchanged, "continuous")["r2"] < score(off.recentred, "continuous")["r2"] - 0.3
    # who is ranked above whom is not touched by an offset, nor by a line
    assert score(off.unchanged, "continuous")["r"] == pytest.approx(score(there.unchanged, "continuous")["r"])


def test_recalibrated__mends_what_an_offset_did():
    source, target = people(300, "s"), people(150, "t", seed=1, offset=2.0)
    found = transfer(source, target, ridge(), kind="continuous")
    before, after = calibration(found.unchanged, "continuous"), calibration(found.recalibrated, "continuous")
    assert abs(before.in_the_large) > 0.5
    assert after.in_the_large == pytest.approx(0, abs=0.1)
    assert after.slope == pytest.approx(1, abs=0.1)


def test_recalibrated__never_sees_the_subject_itself():
    source, target = people(100, "s"), people(30, "t", seed=1, runs=2)
    found = transfer(source, target, ridge(), kind="continuous").unchanged
    first = recalibrate(found, target.scans, "continuous")
    fold = first.fold[:, 0]
    assert pd.Series(fold).groupby(target.scans["subject"]).nunique().eq(1).all()
    y = target.y.copy()
    y[fold == 0] *= 1.001  # so little that the strata, and with them the folds, stay
    changed = recalibrate(found._replace(y=y), target.scans, "continuous")
    assert np.array_equal(fold, changed.fold[:, 0])  # else other rows would have changed
    np.testing.assert_allclose(first.predicted[fold == 0], changed.predicted[fold == 0])
    assert not np.allclose(first.predicted[fold != 0], changed.predicted[fold != 0])


@pytest.mark.parametrize("name", ["logistic", "svm", "prototype", "knn", "ridge"])
def test_transfer__of_classes(name):
    source, target = people(300, "s", classes=True), people(200, "t", seed=1, classes=True, sites=("D", "E"))
    found = transfer(source, target, make_head(name, "binary"), kind="binary", front=StandardScaler())
    for predictions in found.versions.values():
        told = score(predictions, "binary")
        assert told["auroc"] > 0.8
        assert told["balanced_accuracy"] > 0.7
        assert 0 <= told["brier"] < 0.25
    assert calibration(found.recalibrated, "binary").error < 0.12


def test_transfer__takes_the_sources_order_of_classes():
    source, target = people(100, "s", classes=True), people(60, "t", seed=1, classes=True)
    ill = np.array(["well", "ill"])
    words = [moved(side, y=ill[side.y]) for side in (source, target)]
    numbers = transfer(source, target, make_head("logistic", "binary"), kind="binary")
    texts = transfer(*words, make_head("logistic", "binary"), kind="binary")
    # "ill" sorts before "well", so the second class is the other one
    np.testing.assert_allclose(texts.unchanged.probability, 1 - numbers.unchanged.probability, atol=1e-4)


def test_transfer__fits_the_front_to_the_source_with_its_covariates():
    source, target = people(80, "s"), people(40, "t", seed=1)
    rng = np.random.default_rng(0)
    beside = [pd.DataFrame({"mean_fd": rng.gamma(2, 0.1, len(side.y))}) for side in (source, target)]
    pair = [side._replace(covariates=one) for side, one in zip((source, target), beside, strict=True)]
    front = Residualizer(("mean_fd",))
    found = transfer(*pair, ridge(), kind="continuous", front=front)
    fitted = Residualizer(("mean_fd",)).fit(source.x, covariates=beside[0])
    by_hand = ridge().fit(fitted.transform(source.x, covariates=beside[0]), source.y, site_folds(source.scans))
    wanted = by_hand.predict(fitted.transform(target.x, covariates=beside[1]))
    np.testing.assert_allclose(found.unchanged.predicted[:, 0], wanted)


def test_degradation__compares_with_the_targets_own_folds():
    source, target = people(200, "s"), people(100, "t", seed=1)
    found = transfer(source, target, ridge(), kind="continuous").unchanged
    own = predict_nested(
        target.x, target.y, nested_folds(target.scans, target.y, n_repeats=2), ridge(), kind="continuous"
    )
    told = degradation(found, own, "continuous", units=target.scans["subject"], n=200)
    assert told.second == pytest.approx(score(own, "continuous")["r2"])
    assert told.first == pytest.approx(METRICS["continuous"]["r2"](*on_folds_of(found, own).arrays))
    assert told.verdict in ("not told apart", "better")
    bad = transfer(source, people(100, "t", seed=1, offset=3.0), ridge(), kind="continuous").unchanged
    assert degradation(bad, own, "continuous", units=target.scans["subject"], n=200).verdict == "worse"
    with pytest.raises(ValueError, match="predictions are of different targets, or of scans in another order"):
        degradation(found._replace(y=found.y[::-1]), own, "continuous", units=target.scans["subject"])


def test_recalibrate__of_too_few_is_none():
    source = people(60, "s", classes=True)
    few = people(4, "t", seed=1, classes=True)
    assert transfer(source, few, make_head("logistic", "binary"), kind="binary").recalibrated is None
    one = people(30, "t", seed=1, classes=True)._replace(y=np.array([1] + [0] * 29))
    assert transfer(source, one, make_head("logistic", "binary"), kind="binary").recalibrated is None


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"y": np.zeros(3)}, "continuous", r"the target cohort's target has shape \(3,\), there are 20 scans"),
        ({"y": np.full(20, np.nan)}, "continuous", "the target cohort's target is missing in 20 rows"),
        ({"y": np.array(["a"] * 20)}, "binary", r"both cohorts need the same two classes, got \[0, 1\] and \['a'\]"),
        ({"scans": people(20, "s").scans}, "continuous", r"20 subject name\(s\) are in both cohorts \(s0, s1, s10\)"),
    ],
)
def test_transfer__refuses_what_does_not_fit(change, kind, message):
    source = people(20, "s", classes=kind == "binary")
    target = moved(people(20, "t", seed=1, classes=kind == "binary"), **change)
    with pytest.raises(ValueError, match=message):
        transfer(source, target, make_head("ridge", kind), kind=kind)


def test_transfer__refuses_relatives_in_both_and_a_target_that_does_not_vary():
    source, target = people(20, "s"), people(20, "t", seed=1)
    for side in (source, target):
        side.scans["family"] = [None] * 19 + ["F1"]
    with pytest.raises(ValueError, match=r"1 family name\(s\) are in both cohorts \(F1\)"):
        transfer(source, target, ridge(), kind="continuous")
    with pytest.raises(ValueError, match="the source cohort's target does not vary"):
        transfer(source._replace(y=np.ones(20)), people(20, "t"), ridge(), kind="continuous")


def test_site_folds__keep_sites_and_their_subjects_whole():
    scans = people(60, "s", sites=tuple("ABCDEFG"), runs=2).scans
    labels = site_folds(scans, n_folds=3)
    assert sorted(set(labels)) == [0, 1, 2]
    assert pd.Series(labels).groupby(scans["site"]).nunique().eq(1).all()
    shuffled = scans.sample(frac=1, random_state=0)
    np.testing.assert_array_equal(site_folds(shuffled, n_folds=3), labels[shuffled.index])
    travelled = scans.assign(site=scans["site"].where(scans.index != 0, "B"))  # the first subject: sites A and B
    labels = site_folds(travelled, n_folds=3)
    assert len(set(labels[travelled["site"].isin(["A", "B"])])) == 1
    alone = site_folds(scans.assign(site="A"), n_folds=4)
    assert len(set(alone)) == 4
    assert pd.Series(alone).groupby(scans["subject"]).nunique().eq(1).all()
    assert len(set(site_folds(scans.drop(columns="site")))) == 5


def test_prototypes__are_the_classes_means():
    side = people(200, "s", classes=True)
    head = PrototypeHead().fit(side.x, side.y, site_folds(side.scans))
    np.testing.assert_allclose(head.prototypes_, [side.x[side.y == label].mean(axis=0) for label in (0, 1)])
    nearest = np.argmin([np.square(side.x - one).sum(axis=1) for one in head.prototypes_], axis=0)
    np.testing.assert_array_equal(head.predict(side.x), nearest)
    np.testing.assert_allclose(head.decision_function(head.prototypes_), [-0.5, 0.5])
    chance = head.predict_proba(side.x)
    np.testing.assert_allclose(chance.sum(axis=1), 1)
    assert calibration_of_classes(side.y, chance[:, 1]).error < 0.12
    words = np.array(["no", "yes"])
    np.testing.assert_array_equal(PrototypeHead().fit(side.x, words[side.y]).predict(side.x), words[nearest])


def test_prototypes__refuse_folds_with_one_class_and_numbers():
    x = np.random.default_rng(0).normal(size=(6, 2))
    with pytest.raises(ValueError, match="the rows outside an inner fold have one class only"):
        PrototypeHead().fit(x, [0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 1])
    with pytest.raises(ValueError, match="prototype tells classes apart, the target is continuous"):
        make_head("prototype", "continuous")


def test_overlap__of_numbers_and_levels():
    source = pd.DataFrame({"age": np.arange(20.0, 61), "site": ["A", "B"] * 20 + ["A"], "t_r": 2.0, "iq": np.nan})
    target = pd.DataFrame(
        {"age": [10.0, 30.0, 40.0, np.nan], "site": ["A", "C", "C", None], "t_r": [2.0, 2.0, 2.5, 2.5], "iq": 100.0}
    )
    found = {one.name: one for one in covariate_overlap(source, target, ["age", "site", "t_r", "iq", "sex"])}
    assert set(found) == {"age", "site", "t_r"}
    assert found["age"].outside == pytest.approx(1 / 3)
    assert found["age"].rows.tolist() == [True, False, False, False]
    assert found["age"].n_missing == 1
    assert found["age"].source == "21 to 59, median 40"
    assert found["site"].outside == pytest.approx(2 / 3)
    assert found["site"].target == "C (2), A (1)"
    assert found["t_r"].outside == 0.5
    many = pd.DataFrame({"site": list("ABCDEFG")})
    assert covariate_overlap(many, many, ["site"])[0].source.endswith("and 2 more")


def test_vector_shift__is_chance_between_people_drawn_alike_and_sees_an_offset():
    source, alike, off = people(150, "s", runs=2), people(100, "t", seed=1), people(100, "t", seed=1, offset=2.0)
    none, some = (
        vector_shift(source.x, side.x, source.scans["subject"], side.scans["subject"]) for side in (alike, off)
    )
    assert 0.35 < none.told_apart < 0.65
    assert none.p_value > 0.05
    assert some.told_apart > 0.95
    assert (some.p_value, some.largest > 1) == (0.001, True)
    assert some.far > 0.5
    assert vector_shift(source.x, alike.x[:4], source.scans["subject"], alike.scans["subject"][:4]) is None


def test_far__is_one_in_twenty_of_people_drawn_alike():
    found = []
    for seed in range(30):
        source, target = people(150, "s", runs=2, seed=100 + seed), people(100, "t", seed=seed)
        found.append(far_share(source.x, target.x, source.scans["subject"]))
    assert np.mean(found) == pytest.approx(0.05, abs=0.015)
    assert np.quantile(found, [0.05, 0.95]) == pytest.approx([0.01, 0.1], abs=0.03)


def test_extrapolated__counts_what_is_outside_all_that_was_learnt_from():
    assert extrapolated([0.0, 1.0, 2.0, 5.0], [1.0, 3.0]) == 0.5

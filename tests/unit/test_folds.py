import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boldstream.analysis.folds import FoldSet, leave_site_out, nested_folds


def people(n=120, n_sites=4, seed=0):
    """Scans, two of every fifth subject; families of up to three; sites."""
    rng = np.random.default_rng(seed)
    subject = np.concatenate([np.arange(n), np.arange(0, n, 5)])
    family = np.where(subject % 4 < 3, subject // 4, -1)
    site = rng.integers(0, n_sites, n)[subject]
    return pd.DataFrame(
        {
            "scan": [f"scan-{i}" for i in range(len(subject))],
            "subject": [f"sub-{i}" for i in subject],
            "family": [None if name < 0 else f"fam-{name}" for name in family],
            "site": [f"site-{name}" for name in site],
        }
    )


def age_of(scans):
    number = scans["subject"].str[4:].astype(int).to_numpy()
    return 20.0 + np.random.default_rng(1).normal(size=number.max() + 1)[number]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 5), st.integers(2, 4), st.integers(1, 2), st.integers(30, 60))
def test_nested_folds__keep_relatives_together_and_use_every_scan(seed, n_folds, n_inner, n_repeats, n):
    scans = people(n, seed=seed)
    folds = nested_folds(scans, age_of(scans), n_folds=n_folds, n_inner=n_inner, n_repeats=n_repeats, seed=seed)
    family = scans["family"].fillna(scans["subject"]).to_numpy()
    subject = scans["subject"].to_numpy()
    tested = np.zeros(len(scans), dtype=int)
    for split in folds.splits():
        tested[split.test] += 1
        assert sorted([*split.train, *split.test]) == list(range(len(scans)))
        assert set(split.inner) == set(range(n_inner))
        for names in (family, subject):
            assert not set(names[split.train]) & set(names[split.test])
            for label in range(n_inner):
                inside, rest = split.train[split.inner == label], split.train[split.inner != label]
                assert not set(names[inside]) & set(names[rest])
    assert (tested == n_repeats).all()


@settings(max_examples=20, deadline=None)
@given(st.randoms(use_true_random=False))
def test_nested_folds__do_not_depend_on_the_order_of_rows(random):
    scans = people(60)
    order = list(range(len(scans)))
    random.shuffle(order)
    mixed = scans.iloc[order].reset_index(drop=True)
    first, second = nested_folds(scans, age_of(scans)), nested_folds(mixed, age_of(mixed))
    np.testing.assert_array_equal(first.outer[:, order], second.outer)
    np.testing.assert_array_equal(first.inner[:, :, order], second.inner)


def test_nested_folds__follow_from_their_seed():
    scans = people()
    first, again, other = (nested_folds(scans, age_of(scans), seed=seed) for seed in (0, 0, 1))
    assert first.id == again.id != other.id
    assert first.id.startswith("folds-")
    assert first.scheme == (
        "1 x 5 folds, 5 inner, by subject and family, stratified by target x site, seed 0; 144 scans in 60 groups"
    )
    repeated = nested_folds(scans, age_of(scans), n_repeats=2)
    np.testing.assert_array_equal(repeated.outer[0], first.outer[0])
    assert (repeated.outer[0] != repeated.outer[1]).any()
    assert repeated.n_repeats == 2


def test_nested_folds__spread_target_and_site_evenly():
    rng = np.random.default_rng(0)
    n = 400
    scans = pd.DataFrame({"scan": np.arange(n), "subject": np.arange(n), "site": rng.choice(["a", "b", "c"], n)})
    rare = np.where(rng.random(n) < 0.1, "ill", "well")
    fold = nested_folds(scans, rare).outer[0]
    for values in (rare, scans["site"].to_numpy()):
        for value in np.unique(values):
            counts = np.bincount(fold[values == value], minlength=5)
            assert counts.max() - counts.min() <= 1, (value, counts)
    age = rng.normal(size=n)
    means = [age[nested_folds(scans, age).outer[0] == k].mean() for k in range(5)]
    chance = np.std([age[rng.permutation(n)[:80]].mean() for _ in range(200)])
    assert np.std(means) < chance


def test_leave_site_out__holds_whole_sites_out_and_chooses_for_others():
    scans = people()
    alone = scans[scans["family"].isna()]
    folds = leave_site_out(alone)
    site = alone["site"].to_numpy()
    held = [set(site[split.test]) for split in folds.splits()]
    assert [len(names) for names in held] == [1] * 4
    for split in folds.splits():
        assert not set(site[split.test]) & set(site[split.train])
        assert [len(set(site[split.train][split.inner == label])) for label in range(3)] == [1, 1, 1]
    assert folds.scheme.startswith("leave-site-out, 4 sites, 3 inner folds of whole sites, seed 0")
    for split in leave_site_out(alone, n_inner=2).splits():
        of = [set(site[split.train][split.inner == label]) for label in range(2)]
        assert not of[0] & of[1]
        assert len(of[0] | of[1]) == 3


def test_fold_set__catches_the_same_subject_in_two_folds():
    folds = nested_folds(people())
    twice = int(np.flatnonzero(folds.groups == folds.groups[0])[-1])
    outer, inner = folds.outer.copy(), folds.inner.copy()
    outer[0, twice] = (outer[0, twice] + 1) % 5
    with pytest.raises(ValueError, match="outer folds of repeat 0 part what belongs together: scan-0"):
        dataclasses.replace(folds, outer=outer)
    fold = (folds.outer[0, 0] + 1) % 5
    inner[0, fold, twice] = (inner[0, fold, twice] + 1) % 5
    with pytest.raises(ValueError, match=f"inner folds of outer fold {fold} part what belongs together: scan-0"):
        dataclasses.replace(folds, inner=inner)


def test_fold_set__refuses_what_is_no_nested_fold_set():
    folds = nested_folds(people())
    with pytest.raises(ValueError, match="scan a is in the fold set twice"):
        dataclasses.replace(folds, keys=("a",) * len(folds.keys))
    with pytest.raises(ValueError, match="folds do not fit 1 scans"):
        dataclasses.replace(folds, keys=("a",))
    with pytest.raises(ValueError, match="not of exactly the rows it trains on"):
        dataclasses.replace(folds, inner=np.abs(folds.inner))
    with pytest.raises(ValueError, match=r"outer folds of repeat 0 are \[0\] of 5"):
        dataclasses.replace(folds, outer=np.zeros_like(folds.outer))


@pytest.mark.parametrize(
    ("change", "target", "message"),
    [
        ({"subject": None}, None, "folds need a column 'subject'; there are scan, family, site"),
        ({"subject": [None] * 144}, None, "'subject' is missing in 144 rows"),
        ({}, [1.0], r"the target has shape \(1,\), there are 144 scans"),
        ({}, [np.nan] * 144, "the target is missing in 144 rows"),
        ({"family": ["one"] * 144}, None, "1 groups of relatives are too few for 5 folds"),
        ({"family": [f"f{i % 5}" for i in range(120)] + [f"f{i % 5}" for i in range(0, 120, 5)]}, None,
         "4 groups of relatives are too few for 5 folds"),
    ],
)  # fmt: skip
def test_nested_folds__refuse(change, target, message):
    scans = people()
    for name, values in change.items():
        scans = scans.drop(columns=name) if values is None else scans.assign(**{name: values})
    with pytest.raises(ValueError, match=message):
        nested_folds(scans, target)


def test_nested_folds__refuse_numbers():
    with pytest.raises(ValueError, match="1 repeats of 1 folds with 5 inner ones; at least 1, 2 and 2"):
        nested_folds(people(), n_folds=1)


@pytest.mark.parametrize(
    ("site", "message"),
    [
        (None, "leave-site-out needs the site of every scan"),
        (["a", "b"] * 3, r"at least 3 sites \(one to test, two to choose in\), got \['a', 'b'\]"),
        (list("aabbcc"), r"s0 \(or relatives\) was scanned at a, b; leave-site-out would train on who is tested"),
    ],
)
def test_leave_site_out__refuses(site, message):
    scans = pd.DataFrame({"scan": list("uvwxyz"), "subject": ["s0", "s1", "s0", "s2", "s3", "s4"], "site": site})
    with pytest.raises(ValueError, match=message):
        leave_site_out(scans)


def test_fold_set__digest_is_of_its_content():
    folds = nested_folds(people())
    same = FoldSet("by hand", folds.keys, folds.groups, folds.outer, folds.inner)
    assert same.digest == folds.digest
    assert dataclasses.replace(folds, keys=tuple(reversed(folds.keys))).digest != folds.digest

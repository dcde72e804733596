import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from boldstream.analysis.splits import draw_subjects, hold_out

SUBJECTS = st.lists(st.integers(0, 10**6).map(str), min_size=2, max_size=60, unique=True)
SEEDS = st.integers(0, 2**31)
ROWS = st.lists(st.integers(0, 12).map(str), min_size=1, max_size=60)


@settings(deadline=None)
@given(subjects=SUBJECTS, share=st.floats(0.001, 0.99), seed=SEEDS, data=st.data())
def test_hold_out__takes_the_share_two_at_least_in_any_order(subjects, share, seed, data):
    found = hold_out(subjects, share, seed)
    assert found <= set(subjects)
    assert len(found) == max(2, round(share * len(subjects)))
    assert hold_out(data.draw(st.permutations(subjects)), share, seed) == found


@settings(deadline=None)
@given(subjects=SUBJECTS, seed=SEEDS)
def test_hold_out__of_none_is_empty(subjects, seed):
    assert hold_out(subjects, 0.0, seed) == set()


@settings(deadline=None)
@given(subjects=SUBJECTS, seed=SEEDS)
def test_hold_out__grows_with_the_share(subjects, seed):
    assert hold_out(subjects, 0.2, seed) <= hold_out(subjects, 0.5, seed)


def test_hold_out__differs_by_seed_and_holds_everybody_out_equally_often():
    subjects = [f"{i:02d}" for i in range(20)]
    counts = np.zeros(20)
    for seed in range(400):
        counts[[int(subject) for subject in hold_out(subjects, 0.25, seed)]] += 1
    # 400 times 5 of 20: 100 each, standard deviation 8.7
    assert abs(counts - 100).max() < 4 * 8.7
    assert counts.std() > 0


def test_hold_out__hardly_changes_when_a_subject_is_added():
    subjects = [str(i) for i in range(40)]
    before, after = hold_out(subjects, 0.25, 0), hold_out([*subjects, "new"], 0.25, 0)
    assert len(before - after) <= 1


@settings(deadline=None)
@given(rows=ROWS, most=st.integers(1, 70), seed=SEEDS, data=st.data())
def test_draw_subjects__takes_them_until_their_rows_are_too_many(rows, most, seed, data):
    drawn = draw_subjects(rows, most, seed)
    left = [name for name in draw_subjects(rows, len(rows), seed) if name not in drawn]
    n_rows = sum(name in drawn for name in rows)
    assert len(set(drawn)) == len(drawn)
    assert n_rows <= most
    assert not left or n_rows + rows.count(left[0]) > most
    assert draw_subjects(data.draw(st.permutations(rows)), most, seed) == drawn


@settings(deadline=None)
@given(rows=ROWS, new=st.lists(st.integers(13, 25).map(str), max_size=60), most=st.integers(1, 70), seed=SEEDS)
def test_draw_subjects__is_only_pushed_out_by_new_ones(rows, new, most, seed):
    before = draw_subjects(rows, most, seed)
    after = [name for name in draw_subjects(rows + new, most, seed) if name in set(rows)]
    assert after == before[: len(after)]


def test_draw_subjects__draws_as_earlier_releases_did():
    # results that are published were probed on these: the same command has to find the same people
    rows = [f"{i:02d}" for i in range(12) for _ in range(2)]
    assert draw_subjects(rows, 9, 0) == ["02", "05", "01", "07"]
    assert draw_subjects(rows, 9, 1) == ["06", "02", "05", "07"]

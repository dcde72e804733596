from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boldstream.pretrain import plan as plan_module
from boldstream.pretrain.plan import window_key, window_starts
from small_training import window_plan

GROUPS = st.lists(st.integers(1, 5), min_size=1, max_size=6)
SHAPES = st.tuples(st.integers(1, 2), st.integers(1, 3)).map(
    lambda pair: {"views": pair[0], "windows": pair[0] * pair[1]}
)


CHUNKS = {"a_group": 1, "some_groups": 6000, "all": plan_module.CHUNK_BYTES}


@pytest.fixture(scope="module", params=CHUNKS)
def chunk(request):
    """Let chunks hold one row group, some of them, or all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan_module, "CHUNK_BYTES", CHUNKS[request.param])
        yield request.param


in_any_chunks = pytest.mark.usefixtures("chunk")


def made(groups, shape, seed=0):
    return window_plan(tuple(groups), windows_per_scan=shape["windows"], views=shape["views"], seed=seed)


def sequence(plan, start, stop):
    """Return (scan, window) at every position, and check that the parts tile the interval."""
    found = []
    for part in plan.parts(start, stop):
        assert part.position == start + len(found)
        assert part.first < part.last
        scans, windows = plan.shuffled(part.epoch, part.number)
        assert part.last <= len(scans)
        found += zip(scans[part.first : part.last].tolist(), windows[part.first : part.last].tolist(), strict=True)
    assert len(found) == stop - start
    return found


@in_any_chunks
@settings(deadline=None)
@given(groups=GROUPS, shape=SHAPES, seed=st.integers(0, 5), epoch=st.integers(0, 3))
def test_epoch__visits_every_window_of_every_scan_once(groups, shape, seed, epoch):
    plan = made(groups, shape, seed)
    n = plan.windows_per_epoch
    found = Counter(sequence(plan, epoch * n, (epoch + 1) * n))
    assert found == Counter((scan, window) for scan in range(sum(groups)) for window in range(shape["windows"]))


@in_any_chunks
@settings(deadline=None)
@given(groups=GROUPS, shape=SHAPES, data=st.data())
def test_parts__of_any_interval_are_those_of_the_whole_sequence(groups, shape, data):
    plan, again = made(groups, shape), made(groups, shape)
    n = 3 * plan.windows_per_epoch
    whole = sequence(plan, 0, n)
    start = data.draw(st.integers(0, n))
    stop = data.draw(st.integers(start, n))
    assert sequence(again, start, stop) == whole[start:stop]
    assert sequence(plan, start, stop) == whole[start:stop]


def test_parts__of_an_empty_interval_are_none():
    assert list(window_plan().parts(5, 5)) == []


@in_any_chunks
@settings(deadline=None)
@given(groups=GROUPS, shape=SHAPES, seed=st.integers(0, 3), epoch=st.integers(0, 3))
def test_chunks__keep_row_groups_together_and_hold_every_scan_once(groups, shape, seed, epoch):
    plan = made(groups, shape, seed)
    chunks = plan.chunks(epoch)
    assert sorted(np.concatenate(chunks).tolist()) == list(range(sum(groups)))
    of_scan = {scan: number for number, scans in enumerate(chunks) for scan in scans.tolist()}
    assert [len({of_scan[scan] for scan in group.tolist()}) for group in plan.row_groups] == [1] * len(groups)
    assert np.diff(plan.starts(epoch)).tolist() == [len(scans) * shape["windows"] for scans in chunks]


def test_row_groups__end_where_the_file_or_the_group_changes():
    # the last group of one file and the first of the next have the same number
    plan = window_plan((2, 1, 3), file=np.array([0, 0, 1, 1, 1, 2]), group=np.array([0, 1, 1, 1, 2, 2]))
    assert [group.tolist() for group in plan.row_groups] == [[0], [1], [2, 3], [4], [5]]


def test_chunks__hold_as_many_row_groups_as_fit(chunk):
    # a group has 4 scans, a scan one window or two of 16 x 6 float32: 1536 or 3072 bytes
    for windows, some in ((1, [12, 8]), (2, [4] * 5)):
        sizes = [len(scans) for scans in window_plan((4,) * 5, windows_per_scan=windows).chunks(0)]
        assert sizes == {"a_group": [4] * 5, "some_groups": some, "all": [20]}[chunk]


@in_any_chunks
@settings(deadline=None, max_examples=50)
@given(groups=GROUPS, seed=st.integers(0, 3), half=st.integers(1, 3))
def test_views__of_a_scan_follow_each_other_at_even_positions(groups, seed, half):
    plan = made(groups, {"views": 2, "windows": 2 * half}, seed)
    found = sequence(plan, 0, 2 * plan.windows_per_epoch)
    for (scan, window), (other, following) in zip(found[0::2], found[1::2], strict=True):
        assert scan == other
        assert (window % 2, following) == (0, window + 1)


@in_any_chunks
def test_order__depends_on_seed_and_epoch_alone():
    plan = window_plan((4, 4, 4))
    n = plan.windows_per_epoch
    first = sequence(plan, 0, n)
    assert first == sequence(window_plan((4, 4, 4)), 0, n)
    assert first != sequence(plan, n, 2 * n)
    assert first != sequence(window_plan((4, 4, 4), seed=1), 0, n)
    assert [scan for scan, _ in first] != sorted(scan for scan, _ in first)


@in_any_chunks
@settings(deadline=None, max_examples=30)
@given(groups=GROUPS, shape=SHAPES, data=st.data())
def test_scans_at__names_the_scans_of_positions(groups, shape, data):
    plan = made(groups, shape)
    n = 2 * plan.windows_per_epoch
    positions = data.draw(st.lists(st.integers(0, n - 1), max_size=4))
    whole = sequence(plan, 0, n)
    assert plan.scans_at(positions) == [f"sub-{whole[position][0]:02d}" for position in positions]


SEEDS = {"seed": st.integers(0, 2**31), "epoch": st.integers(0, 1000), "scan_key": st.text("ab0-", max_size=8)}


@settings(deadline=None)
@given(spare=st.integers(0, 300), n_windows=st.integers(1, 8), **SEEDS)
def test_window_starts__lie_within_and_repeat(seed, epoch, scan_key, spare, n_windows):
    starts = window_starts(seed, epoch, scan_key, spare, n_windows)
    assert starts.shape == (n_windows,)
    assert starts.min() >= 0
    assert starts.max() <= spare
    np.testing.assert_array_equal(starts, window_starts(seed, epoch, scan_key, spare, n_windows))


def test_window_starts__are_uniform_and_reach_both_ends():
    drawn = np.concatenate([window_starts(0, epoch, f"sub-{i}", 4, 10) for epoch in range(10) for i in range(10)])
    counts = np.bincount(drawn, minlength=5)
    # 1000 draws over 5: 200 each, standard deviation 12.6
    assert len(counts) == 5
    assert abs(counts - 200).max() < 4 * 12.7


@pytest.mark.parametrize("other", [(1, 0, "sub-a"), (0, 1, "sub-a"), (0, 0, "sub-b")])
def test_window_starts__differ_by_seed_epoch_and_scan(other):
    assert window_starts(0, 0, "sub-a", 10**6, 4).tolist() != window_starts(*other, 10**6, 4).tolist()


@settings(deadline=None)
@given(window=st.integers(0, 1000), **SEEDS)
def test_window_key__is_a_signed_64_bit_integer(seed, epoch, scan_key, window):
    key = window_key(seed, epoch, scan_key, window)
    assert np.array([key], dtype=np.int64)[0] == key == window_key(seed, epoch, scan_key, window)


def test_window_key__differs_by_seed_epoch_scan_and_window():
    keys = {
        window_key(seed, epoch, scan_key, window)
        for seed in range(5)
        for epoch in range(12)
        for scan_key in ("sub-1", "1 sub-1", "sub-11")
        for window in range(12)
    }
    assert len(keys) == 5 * 12 * 3 * 12

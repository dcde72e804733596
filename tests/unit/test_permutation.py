from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boldstream.errors import AtlasError
from boldstream.parcellation.atlas import Atlas
from boldstream.parcellation.label_table import read_label_table
from boldstream.parcellation.label_volume import read_label_volume
from boldstream.parcellation.network_order import component_spread, network_order
from boldstream.parcellation.permutation import (
    Ordering,
    apply_permutation,
    check_permutation,
    fix_first,
    permutation_between,
    read_permutation,
    reorder_columns,
    select_regions,
)
from schaefer import AFFINE, bricks, in_7, names_7, names_17, order_17, renumbered, volume

SHARED = Path(__file__).parents[2].parent / "shared/data/atlas"
STEM = "Schaefer2018_400Parcels_7Networks_order_Tian_Subcortex_S3"
ABC = Atlas("abc", ("a", "b", "c"))

# centres of some parcels of the 17-network order, as CBIG publishes them for the 2 mm volume (number, x, y, z)
PUBLISHED = """
281 16 -46 74, 282 40 -4 52, 289 40 6 -16, 300 10 -44 54, 306 42 46 14, 309 34 22 -8, 313 14 24 -20, 319 28 -2 -40,
324 50 -28 -26, 329 24 10 58, 335 4 2 30, 345 34 16 56, 356 8 -44 20, 366 4 -20 36, 372 18 64 16, 376 50 8 -32,
385 48 -64 22, 389 22 -18 -28, 391 48 16 -20, 400 62 -40 22
"""


def test_permutation_between__finds_the_same_parcels_under_other_numbers():
    seven, seventeen = volume(in_7(), names_7()), volume(bricks(400), names_17())
    order = permutation_between(seven, seventeen)
    np.testing.assert_array_equal(order, order_17())
    np.testing.assert_array_equal(permutation_between(seventeen, seven), np.argsort(order_17()))
    np.testing.assert_array_equal(permutation_between(seven, seven), np.arange(400))


@given(st.permutations(range(20)), st.integers(0, 100))
def test_permutation_between__survives_labels_with_gaps_and_frayed_edges(numbers, seed):
    data = bricks(20)
    other = renumbered(data, np.array(numbers) * 3 + 7)
    rim = np.random.default_rng(seed).choice(np.flatnonzero(data), 1)  # one voxel of a region's eight: a Dice of 0.93
    other.ravel()[rim] = 0
    a = volume(other, [f"r{i}" for i in range(20)])
    a = type(a)(a.atlas, tuple(i * 3 + 7 for i in range(20)), a.data, a.affine)
    np.testing.assert_array_equal(permutation_between(a, volume(data, [f"s{i}" for i in range(20)])), numbers)


def test_permutation_between__refuses_other_parcels():
    a = volume(bricks(6), [f"r{i}" for i in range(6)], name="a")
    shifted = np.roll(bricks(6), 1, axis=2)
    with pytest.raises(
        AtlasError,
        match=r"atlases 'a' and 'b': 6 of 6 regions have no counterpart; worst 'r\d', which overlaps 'r\d' best, by a "
        r"Dice of 0.50 \(at least 0.8\): not the same parcels",
    ):
        permutation_between(a, volume(shifted, a.atlas.roi_names, name="b"))
    merged = volume(renumbered(bricks(6), [1, 2, 3, 4, 5, 5]), a.atlas.roi_names[:5], name="b")
    with pytest.raises(AtlasError, match=r"have 6 and 5 regions: not the same parcels"):
        permutation_between(a, merged)
    merged = volume(renumbered(bricks(7), [1, 2, 3, 4, 5, 5, 6]), a.atlas.roi_names, name="b")
    with pytest.raises(AtlasError, match=r"2 of 6 regions have no counterpart; worst 'r5', .* Dice of 0.00"):
        permutation_between(a, merged)


def test_permutation_between__refuses_another_grid():
    a = volume(bricks(6), [f"r{i}" for i in range(6)])
    moved = AFFINE.copy()
    moved[0, 3] = 1
    for other in (volume(bricks(6), a.atlas.roi_names, moved), volume(np.pad(bricks(6), 1), a.atlas.roi_names)):
        with pytest.raises(AtlasError, match=r"are not on the same grid .* take both in the same space and resolution"):
            permutation_between(a, other)


def test_apply_permutation__moves_labels_with_names():
    seven = volume(in_7(), names_7(), name="seven")
    target = Atlas("seventeen", names_17())
    found = apply_permutation(seven, order_17(), target)
    assert found.atlas == target
    assert found.notes == ("regions permuted from the order of seven to that of seventeen",)
    assert found.data is seven.data
    for j in (0, 17, 399):
        np.testing.assert_array_equal(found.data == found.labels[j], bricks(400) == j + 1)
    assert apply_permutation(seven, order_17(), target, note="n").notes == ("n",)


@given(st.permutations(range(6)))
def test_reorder_columns__is_what_apply_permutation_does(numbers):
    order = np.array(numbers)
    a = volume(bricks(6), [f"r{i}" for i in range(6)])
    moved = apply_permutation(a, order, Atlas("b", tuple(f"s{i}" for i in range(6))))
    signal = np.arange(100, 107)[a.data]
    series = np.array([[signal[a.data == label].mean() for label in a.labels]], dtype=np.float32)
    found = reorder_columns(series, order)
    assert found.flags.c_contiguous
    assert found[0].tolist() == [signal[moved.data == label].mean() for label in moved.labels]
    np.testing.assert_array_equal(reorder_columns(found, np.argsort(order)), series)


def test_reorder_columns__refuses_another_number_of_regions():
    with pytest.raises(AtlasError, match=r"a series of shape \(9, 4\) cannot take an order of 3 regions"):
        reorder_columns(np.zeros((9, 4), dtype=np.float32), np.arange(3))


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ([0, 1], r"x: has shape \(2,\), the atlas 3 regions"),
        ([0, 1, 3], r"x: 3 is no region; a permutation counts from 0 to 2"),
        ([0, -1, 2], r"x: -1 is no region"),
        ([0, 2, 2], r"x: is no permutation, 2 stands 2 times and 1 never"),
    ],
)
def test_check_permutation__refuses(order, message):
    with pytest.raises(AtlasError, match=message):
        check_permutation(np.array(order), 3, where="x")


def test_read_permutation__takes_numpy_and_text_from_0_or_1(tmp_path):
    np.save(tmp_path / "a.npy", np.array([2, 0, 1], dtype=np.int16))
    (tmp_path / "b.txt").write_text("2\n0\n1\n")
    (tmp_path / "c.txt").write_text("3 1 2")
    for name in ("a.npy", "b.txt", "c.txt"):
        found = read_permutation(tmp_path / name, 3)
        assert (found.dtype, found.tolist()) == (np.int64, [2, 0, 1])
        assert read_permutation(tmp_path / name, 5, n_fixed=2).tolist() == [0, 1, 4, 2, 3]
    (tmp_path / "d.txt").write_text("0 1 4 2 3")
    assert read_permutation(tmp_path / "d.txt", 5, n_fixed=2).tolist() == [0, 1, 4, 2, 3]
    assert fix_first(np.array([1, 0]), 1).tolist() == [0, 2, 1]


def test_read_permutation__refuses_what_is_none(tmp_path):
    np.save(tmp_path / "float.npy", np.array([2.0, 0, 1]))
    np.save(tmp_path / "square.npy", np.eye(3, dtype=int))
    np.savez(tmp_path / "zip.npz", np.arange(3))
    (tmp_path / "zip.npz").rename(tmp_path / "zip.npy")
    for name in ("float.npy", "square.npy", "zip.npy"):
        with pytest.raises(AtlasError, match=rf"{name}: a permutation is one list of whole numbers"):
            read_permutation(tmp_path / name, 3)
    (tmp_path / "words.txt").write_text("one two three")
    (tmp_path / "huge.txt").write_text("99999999999999999999999 1 2")
    (tmp_path / "cut.npy").write_bytes((tmp_path / "square.npy").read_bytes()[:150])
    (tmp_path / "pk.npy").write_bytes(b"PK\x03\x04 no archive")
    for name in ("words.txt", "huge.txt", "cut.npy", "pk.npy", "absent.npy"):
        with pytest.raises(AtlasError, match=rf"{name}: cannot be read as a permutation \("):
            read_permutation(tmp_path / name, 3)
    with pytest.raises(AtlasError, match=r"o.csv: a permutation comes in a .npy or .txt file, not '.csv'"):
        read_permutation(tmp_path / "o.csv", 3)
    (tmp_path / "short.txt").write_text("0 1")
    with pytest.raises(AtlasError, match=r"short.txt: has shape \(2,\), the atlas 3 regions"):
        read_permutation(tmp_path / "short.txt", 3, n_fixed=2)
    (tmp_path / "twice.txt").write_text("0 2 2")
    with pytest.raises(AtlasError, match=r"twice.txt: is no permutation, 2 stands 2 times and 1 never"):
        read_permutation(tmp_path / "twice.txt", 5, n_fixed=2)


def ordering(order, source=None, target=None):
    return Ordering(order, Atlas("7n", source or names_7()), Atlas("17n", target or names_17()), "note")


def test_ordering__refuses_a_permutation_that_is_turned_round():
    assert ordering(order_17()).note == "note"
    with pytest.raises(
        AtlasError,
        match=r"order of '17n' from '7n': only \d\d% of the regions stay in their network, 8\d% with the inverse: the "
        r"permutation is turned round. .*give numpy.argsort of it",
    ):
        ordering(np.argsort(order_17()))


def test_ordering__refuses_regions_that_become_others():
    with pytest.raises(
        AtlasError, match=r"makes '7Networks_RH_\S+' region 200, '17Networks_LH_\S+': not the same part"
    ):
        ordering(across())
    with pytest.raises(AtlasError, match=r"makes 'b' region 1, 'a', which the source has elsewhere"):
        Ordering(np.array([1, 0, 2]), ABC, ABC, "")
    with pytest.raises(AtlasError, match=r"makes 'HIP-rh' region 1, '17Networks_LH_VisCent_1': not the same part"):
        Ordering(np.array([0]), Atlas("s", ("HIP-rh",)), Atlas("t", ("17Networks_LH_VisCent_1",)), "")
    with pytest.raises(AtlasError, match=r"order of '17n' from '7n': 399 regions cannot become 400"):
        ordering(order_17(), source=names_7()[:-1])
    with pytest.raises(AtlasError, match=r"order of '17n' from '7n': is no permutation"):
        ordering(order_17() // 2)


def across():
    """Return the right permutation with the last region of the left hemisphere and the first right one exchanged."""
    order = order_17()
    order[[199, 200]] = order[[200, 199]]
    return order


@pytest.mark.parametrize(
    ("names", "networks"),
    [
        (names_7(), 7),
        (names_17(), 17),
        (["LH_Vis_1", "RH_Cont_1"], 7),
        (["LH_VisCent_1"], 17),
        (["HIP-rh", "Schaefer_17Networks_LH_Limbic_OFC_1"], 17),
        (["CC200-001", "LH_Nothing_1"], None),
    ],
)
def test_network_order__reads_schaefers_names(names, networks):
    assert network_order(Atlas("a", tuple(names))) == networks


def test_network_order__refuses_both_in_one_atlas():
    with pytest.raises(AtlasError, match=r"atlas 'a': names of 7 networks \('LH_Vis_1'\) and of 17 \('LH_VisCent_1'\)"):
        network_order(Atlas("a", ("LH_VisCent_1", "LH_Vis_1")))


def test_component_spread__is_the_mean_distance_from_the_centre():
    data = np.zeros((9, 1, 1), dtype=np.int32)
    data[[0, 2, 8], 0, 0] = 1, 2, 3
    names = ["17Networks_LH_ContA_IPS_1", "17Networks_LH_ContA_IPS_2", "17Networks_LH_ContA_PFCl_1"]
    assert component_spread(volume(data, names)) == pytest.approx(2.0)  # 0 and 4 mm, the third is alone
    assert component_spread(volume(data, ["a", "b", "c"])) is None


@pytest.mark.skipif(not SHARED.exists(), reason="../shared/data/atlas is not there")
def test_permutation__of_what_labs_have_puts_parcels_where_the_publisher_says():
    seven = read_label_volume(
        SHARED / f"{STEM}_MNI152NLin6Asym_2mm.nii.gz", name="a", labels_table=SHARED / f"{STEM}_label.txt"
    )
    names = read_label_table(SHARED / f"{STEM.replace('_7N', '_17N')}_label.txt").names
    order = read_permutation(SHARED / "schaefer400_17to7.npy", 450, n_fixed=50)
    found = apply_permutation(seven, order, Atlas("b", names))
    for entry in PUBLISHED.split(","):
        number, *place = map(int, entry.split())
        voxels = np.argwhere(found.data == found.labels[49 + number])
        centre = voxels.mean(axis=0) @ found.affine[:3, :3].T + found.affine[:3, 3]
        assert np.abs(centre - place).max() < 2, (number, centre)
    assert component_spread(found) == pytest.approx(12.0, abs=0.1)
    assert component_spread(apply_permutation(seven, np.arange(450), Atlas("b", names))) == pytest.approx(18.9, abs=0.1)
    cortex = select_regions(found, 50)
    np.testing.assert_array_equal(permutation_between(select_regions(seven, 50), cortex), order[50:] - 50)
    with pytest.raises(AtlasError, match=r"only 53% of the regions stay in their network, 86% with the inverse"):
        apply_permutation(seven, fix_first(np.argsort(order[50:] - 50), 50), Atlas("b", names))

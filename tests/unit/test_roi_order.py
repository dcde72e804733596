from pathlib import Path

import numpy as np
import pytest

from boldstream.errors import AtlasError, GradientError
from boldstream.parcellation.atlas import Atlas
from boldstream.parcellation.roi_order import NETWORKS_17, Homotopy, check_names, check_order, homotopy
from released import gradient, roi_names

SHARED = Path(__file__).parents[3] / "shared/data/atlas"
NAMES = roi_names()
NUMBERS = [f"roi-{i}" for i in range(450)]


def atlas(names=None):
    return Atlas(name="a", roi_names=tuple(names or NAMES))


def check(names=None, values=None):
    return check_order(atlas(names), gradient() if values is None else values, where="g.csv")


def test_homotopy__tells_the_released_order_from_the_cortex_first():
    values = gradient()
    found = homotopy(values)
    assert found.first > 0.85
    assert found.last < 0.3
    assert found.verdict == "right"
    turned = homotopy(np.roll(values, -50, axis=0))
    assert turned.verdict == "reversed"
    assert turned.last == found.first
    assert homotopy(np.random.default_rng(0).normal(size=(450, 30))).verdict == "undecidable"


@pytest.mark.parametrize(
    ("first", "last", "verdict"),
    [
        (0.918, 0.289, "right"),
        (0.289, 0.918, "reversed"),
        (0.95, 0.9, "undecidable"),
        (0.6, 0.1, "undecidable"),
        (0.1, 0.6, "undecidable"),
    ],
)
def test_homotopy__goes_by_its_thresholds(first, last, verdict):
    assert Homotopy(first, last).verdict == verdict


def test_homotopy__is_pearsons_correlation():
    values = gradient(seed=3)
    wanted = np.mean([np.corrcoef(values[i], values[i + 25])[0, 1] for i in range(25)])
    assert homotopy(values).first == pytest.approx(wanted)
    assert homotopy(np.ones((450, 30))) == Homotopy(0.0, 0.0)


def test_check_order__of_the_released_order_remarks_nothing():
    found = check()
    assert (found.homotopy.verdict, found.n_silent, found.remarks) == ("right", 0, ())


def test_check_order__refuses_the_cortex_first_by_rows_alone():
    with pytest.raises(
        GradientError,
        match=r"g.csv: rows i and i\+25 correlate -?0\.\d{3} in the first 50 rows and 0\.9\d{2} in the last; the "
        r"reference's gradient has 0.918 and 0.289. The subcortex is last; .*move the last 50 rows to the "
        r"top; move the region names with them",
    ):
        check(NUMBERS, np.roll(gradient(), -50, axis=0))
    with pytest.raises(GradientError, match=r"move the last 50 rows to the top; the names have that order already"):
        check(NAMES, np.roll(gradient(), -50, axis=0))


def test_check_order__with_silent_names_says_what_rests_on_the_rows():
    (remark,) = check(NUMBERS).remarks
    assert remark.startswith("450 of 450 region names (first 'roi-0') are neither Tian's nor Schaefer's")
    assert "rests on the homotopic test alone" in remark
    assert "nothing tells whether the cortex is in 17-network order" in remark


def test_check_order__where_the_rows_do_not_tell():
    values = np.random.default_rng(0).normal(size=(450, 30))
    (remark,) = check(NAMES, values).remarks
    assert remark.endswith("The rows do not show where the subcortex is; only the names vouch for it")
    with pytest.raises(GradientError, match=r"do not show that the subcortex is first, and 450 region names do not"):
        check(NUMBERS, values)


def test_check_order__of_another_atlas_says_that_it_was_not_checked():
    found = check_order(atlas(NAMES[:200]), gradient()[:200], where="g.csv")
    assert found.homotopy is None
    assert "the order of the 200 regions was not checked" in found.remarks[0]


def swapped(i, j):
    names = list(NAMES)
    names[i], names[j] = names[j], names[i]
    return names


SEVEN = [*NAMES[:50], *(f"7Networks_{side}_Vis_{i}" for side in ("LH", "RH") for i in range(200))]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (SEVEN, r"atlas 'a': 400 names are of Schaefer's 7-network order \(region 51 is '7Networks_LH_Vis_0'\)"),
        ([name.replace("7Networks_", "") for name in SEVEN], r"400 names are of .* takes the 17-network order; .*reor"),
        (NAMES[50:] + NAMES[:50], r"100 names stand in the wrong block; region 1 is '17Networks_LH_VisCent_1' but has"),
        (NAMES[50:] + NUMBERS[:50], r"50 names stand in the wrong block; region 1 .* has to be subcortical \(Tian S3"),
        (NUMBERS[:400] + NAMES[:50], r"50 names .*; region 401 is 'THA-00-rh' but has to be cortical \(Schaefer\)"),
        (NAMES[25:50] + NAMES[:25] + NAMES[50:], r"region 1, 'THA-00-lh', is out of Tian's order: 25 regions of the"),
        (swapped(30, 31), r"region 31, 'THA-06-lh', is out of Tian's order: .*then the same of the left"),
        (swapped(60, 90), r"not in their order: region 62, '17Networks_LH_VisCent_12', comes after '17Networks_LH_So"),
        (NAMES[:50] + NAMES[250:] + NAMES[50:250], r"region 251, '17Networks_LH_VisCent_1', comes after '17Networks_"),
    ],
)
def test_check_names__refuses_another_order(names, message):
    with pytest.raises(AtlasError, match=message) as caught:
        check_names(atlas(names))
    assert "\n" not in str(caught.value)


def test_check_names__takes_names_without_their_prefix_and_returns_silent_ones():
    assert check_names(atlas()) == []
    assert check_names(atlas([name.replace("17Networks_", "") for name in NAMES])) == []
    assert check_names(atlas([*NUMBERS[:50], *NAMES[50:]])) == NUMBERS[:50]


@pytest.mark.parametrize("n", [7, 17])
def test_check_names__on_the_published_label_files(n):
    path = SHARED / f"Schaefer2018_400Parcels_{n}Networks_order_Tian_Subcortex_S3_label.txt"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    published = atlas(path.read_text().splitlines()[::2])
    if n == 17:
        assert check_names(published) == []
        mapping = np.load(SHARED / "schaefer400_17to7.npy")
        cortex = np.empty(400, dtype=object)
        cortex[mapping] = published.roi_names[50:]
        with pytest.raises(AtlasError, match="17 networks but not in their order"):
            check_names(atlas([*published.roi_names[:50], *cortex]))
    else:
        with pytest.raises(AtlasError, match="400 names are of Schaefer's 7-network order"):
            check_names(published)


def test_networks__are_seventeen():
    assert len(set(NETWORKS_17)) == 17

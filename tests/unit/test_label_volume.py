import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nilearn.image import resample_to_img

from boldstream.errors import AtlasError
from boldstream.parcellation.atlas import Atlas, numbered_atlas
from boldstream.parcellation.label_table import read_label_table
from boldstream.parcellation.label_volume import LabelVolume, read_label_volume
from schaefer import bricks

AFFINE = np.array([[-2.0, 0, 0, 10], [0, 2, 0, -20], [0, 0, 3, -30], [0, 0, 0, 1]])
FEW = np.array([0, 1, 2, 2, 5, 0, 1, 1], dtype=np.int16).reshape(2, 2, 2)
SHARED = Path(__file__).parents[2].parent / "shared/data/atlas"


def write(path, data, slope=None, affine=AFFINE):
    """Write an image of labels as it is; with a slope, labels come as stored / slope."""
    image = nibabel.Nifti1Image(data, affine, dtype=data.dtype)
    if slope:
        image.header.set_slope_inter(slope, 0)
    image.to_filename(path)
    return path


def table(path, text):
    path.write_text(text)
    return path


def volume(data=FEW, names=("a", "b", "c"), labels=(1, 2, 5), affine=AFFINE, **more):
    return LabelVolume(Atlas("t", names), labels, np.asarray(data, dtype=np.int32), affine, **more)


@pytest.mark.parametrize("kind", ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8", ">i2", ">f4"])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_read_label_volume__takes_every_type_of_whole_numbers(tmp_path, kind, ending):
    found = read_label_volume(write(tmp_path / f"t{ending}", FEW.astype(kind)), name="t")
    assert found.data.dtype == np.int32
    np.testing.assert_array_equal(found.data, FEW)
    np.testing.assert_array_equal(found.affine, AFFINE)
    assert (found.labels, found.atlas.roi_names, found.n_rois) == ((1, 2, 5), ("T-1", "T-2", "T-5"), 3)
    assert (found.space, found.notes) == (None, ())


@pytest.mark.parametrize(
    ("kind", "slope"), [("i2", None), ("f4", None), ("u2", None), ("u1", 2), ("i2", 0.1), ("i1", 4)]
)
def test_read_label_volume__keeps_450_labels_apart(tmp_path, kind, slope):
    wanted = bricks(450)
    if kind in ("u1", "i1"):  # what a byte can only hold by a slope: fewer labels, some beyond 127 and 255
        wanted = np.where(wanted % slope == 0, np.minimum(wanted, 120 * slope), 0)
    stored = np.rint(wanted / (slope or 1)).astype(kind)
    found = read_label_volume(write(tmp_path / "a.nii.gz", stored, slope), name="a")
    np.testing.assert_array_equal(found.data, wanted)
    assert found.labels == tuple(np.unique(wanted)[1:])
    assert found.labels[-1] > 127


def test_label_volume__survives_nilearns_resampling_with_450_labels(tmp_path):
    found = read_label_volume(write(tmp_path / "a.nii", bricks(450).astype(np.float32)), name="a")
    image = found.image()
    assert image.get_data_dtype() == np.int32
    finer = nibabel.Nifti1Image(np.zeros([2 * n for n in found.data.shape]), AFFINE @ np.diag([0.5, 0.5, 0.5, 1]))
    for target in (image, finer):
        resampled = resample_to_img(image, target, interpolation="nearest")
        labels = np.unique(np.asanyarray(resampled.dataobj))
        np.testing.assert_array_equal(labels, np.arange(451))
    image.to_filename(tmp_path / "again.nii")
    assert read_label_volume(tmp_path / "again.nii", name="a").digest == found.digest


@settings(max_examples=25, deadline=None)
@given(st.sets(st.integers(1, 2**31 - 1), min_size=1, max_size=8))
def test_read_label_volume__keeps_any_labels(tmp_path_factory, labels):
    data = np.array([0, *labels], dtype=np.int64).reshape(1, 1, -1)
    path = write(tmp_path_factory.mktemp("any") / "x.nii", data)
    found = read_label_volume(path, name="x")
    assert found.labels == tuple(sorted(labels))
    np.testing.assert_array_equal(found.data, data)


def test_read_label_volume__names_cc200_as_the_numbered_atlas(tmp_path):
    found = read_label_volume(write(tmp_path / "cc200.nii.gz", bricks(200)), name="cc200")
    assert found.atlas == numbered_atlas("cc200")


def test_read_label_volume__takes_one_volume_in_four_dimensions(tmp_path):
    found = read_label_volume(write(tmp_path / "a.nii", FEW[..., None]), name="a")
    np.testing.assert_array_equal(found.data, FEW)


@pytest.mark.parametrize(
    ("name", "space"),
    [
        ("tpl-MNI152NLin2009cAsym_atlas-x_dseg.nii.gz", "MNI152NLin2009cAsym"),
        ("sub-1_space-T1w_dseg.nii", "T1w"),
        ("Schaefer2018_400Parcels_7Networks_order_Tian_Subcortex_S3_MNI152NLin6Asym_2mm.nii.gz", "MNI152NLin6Asym"),
        ("CC200.nii.gz", None),
    ],
)
def test_read_label_volume__reads_the_space_from_the_files_name(tmp_path, name, space):
    assert read_label_volume(write(tmp_path / name, FEW), name="a").space == space
    assert read_label_volume(tmp_path / name, name="a", space="mine").space == "mine"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.ones((2, 2, 2, 3)), r"a.nii: has shape \(2, 2, 2, 3\), an image of labels has three dimensions"),
        (np.ones((2, 2)), r"has shape \(2, 2\)"),
        (FEW * 1.5, r"4 voxels are no whole numbers, first 1.5: no image of labels, or one that was resampled"),
        (FEW - np.int16(1), r"2 voxels have negative labels, lowest -1"),
        (FEW * np.int16(0), r"has no label, all voxels are 0"),
        (np.where(FEW, FEW, np.nan), r"2 voxels are NaN or infinite"),
        (FEW * np.int64(2**31), r"label 10737418240 is larger than int32 holds"),
        (FEW.astype(np.complex64), r"holds complex64, not numbers"),
    ],
)
def test_read_label_volume__refuses_other_images(tmp_path, data, message):
    with pytest.raises(AtlasError, match=message):
        read_label_volume(write(tmp_path / "a.nii", data), name="a")


def test_read_label_volume__refuses_what_cannot_be_read(tmp_path):
    with pytest.raises(AtlasError, match=r"a.nii: is not there"):
        read_label_volume(tmp_path / "a.nii", name="a")
    with pytest.raises(AtlasError, match=r"a.mgz: volume atlases come in .nii or .nii.gz files"):
        read_label_volume(tmp_path / "a.mgz", name="a")
    table(tmp_path / "b.nii", "no image" * 100)
    with pytest.raises(AtlasError, match=r"b.nii: cannot be read as an image \("):
        read_label_volume(tmp_path / "b.nii", name="a")
    whole = write(tmp_path / "c.nii.gz", np.random.default_rng(0).integers(0, 9, (20, 20, 20))).read_bytes()
    (tmp_path / "c.nii.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(AtlasError, match=r"c.nii.gz: cannot be read as an image \("):
        read_label_volume(tmp_path / "c.nii.gz", name="a")
    (tmp_path / "d.nii.gz").write_bytes(gzip.compress(gzip.decompress(whole)[:1000]))
    with pytest.raises(AtlasError, match=r"d.nii.gz: cannot be read as an image \("):
        read_label_volume(tmp_path / "d.nii.gz", name="a")


def test_read_label_volume__refuses_an_image_without_a_place(tmp_path):
    image = nibabel.Nifti1Image(FEW, None)
    image.to_filename(tmp_path / "a.nii")
    with pytest.raises(AtlasError, match=r"does not say where the voxels are \(qform and sform codes are 0\)"):
        read_label_volume(tmp_path / "a.nii", name="a")
    image = nibabel.Nifti1Image(FEW, AFFINE)
    image.header.set_sform(np.diag([2.0, 2, 0, 1]), code=1)
    image.header.set_qform(None, code=0)
    nibabel.Nifti1Image(FEW, None, image.header).to_filename(tmp_path / "b.nii")
    with pytest.raises(AtlasError, match=r"b.nii: its affine cannot be inverted"):
        read_label_volume(tmp_path / "b.nii", name="a")


TABLES = {
    "bids.tsv": "index\tname\tcolor\n0\tBackground\t#000\n5\tc\t#111\n1\ta\t#222\n2\tb\t#333\n",
    "xcpd.tsv": "label\tindex\na\t1\nb\t2\nc\t5\n",
    "both.csv": "name,label\na,1\nb,2\nc,5\n",
    "plain.csv": "1,a\n2,b\n5,c\n",
    "names.csv": "name\na\nb\nc\n",
    "alone.tsv": "a\nb\nc\n",
    "names.txt": "a\nb\nc\n\n",
    "schaefer.txt": "1\ta\t120\t18\t131\t0\n2\tb\t1\t2\t3\t0\n5\tc\t1\t2\t3\t0\n",
    "freesurfer.txt": "# No. Label\n0 Unknown 0 0 0 0\n1  a  1 2 3 0\n2  b  1 2 3 0\n\n5  c  1 2 3 0\n",
    "workbench.txt": "a\n1 205 213 230 255\nb\n2 164 251 213 255\nc\n5 1 2 3 255\n",
}


@pytest.mark.parametrize("name", TABLES)
def test_read_label_volume__takes_every_table_of_names(tmp_path, name):
    labels = table(tmp_path / name, TABLES[name])
    found = read_label_volume(write(tmp_path / "a.nii", FEW), name="t", labels_table=labels)
    assert found.atlas == Atlas("t", ("a", "b", "c"))
    assert found.labels == (1, 2, 5)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.tsv", "index\tname\n1\ta\n2\tb\n", r"does not go with the image: the table has no name for label 5$"),
        ("t.tsv", "index\tname\n1\ta\n2\tb\n4\tx\n5\tc\n", r"t.tsv: .*: \S+a.nii has no voxel of 4 'x'$"),
        ("t.csv", "0,a\n1,b\n2,c\n", r"the table has no name for label 5"),
        ("t.csv", "1,a\n3,b\n4,c\n", r"has no voxel of 3 'b', 4 'c'; the table has no name for label 2, 5"),
        ("t.txt", "a\nb\n", r"t.txt: has 2 names for the 3 labels \(1 to 5\) of \S+a.nii; give a table with the"),
        ("t.csv", "one,a\n2,b\n", r"t.csv: index 'one' of region 'a' is no whole number"),
        ("t.csv", "1,a\n1,b\n", r"index 1 stands twice, for 'a' and 'b'"),
        ("t.csv", "1,a\n2,b,x\n", r"lines have \[2, 3\] columns; give as many in each"),
        ("t.csv", "region,x,y\na,1,2\n", r"has no columns 'index' and 'name' \(columns: region, x, y\)"),
        ("t.csv", "index,name\n0,Background\n", r"t.csv: names no region"),
        ("t.txt", "", r"t.txt: names no region"),
        ("t.csv", "1,a\n2,a\n5,c\n", r"region 'a' stands twice"),
        ("t.json", "{}", r"region names come in .txt, .csv or .tsv files, not '.json'"),
    ],
)
def test_read_label_volume__refuses_a_table_of_other_labels(tmp_path, name, text, message):
    with pytest.raises(AtlasError, match=message):
        read_label_volume(write(tmp_path / "a.nii", FEW), name="t", labels_table=table(tmp_path / name, text))


def test_read_label_volume__lists_ten_of_many_labels(tmp_path):
    labels = table(tmp_path / "t.csv", "\n".join(f"{i},r{i}" for i in range(1, 20)))
    with pytest.raises(AtlasError, match=r"no name for label 20, 21, 22, 23, 24, 25, 26, 27, 28, 29 and 11 more"):
        read_label_volume(write(tmp_path / "a.nii", bricks(40)), name="t", labels_table=labels)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"names": ("a", "b")}, r"atlas 't' has 2 region names for 3 labels"),
        ({"labels": (1, 2, 2)}, r"labels must be positive and stand once each"),
        ({"labels": (0, 1, 2)}, r"labels must be positive and stand once each"),
        ({"data": FEW[0]}, r"labels by voxel are int32 \(2, 2\), not int32 \(X, Y, Z\)"),
        ({"affine": np.eye(3)}, r"the affine has shape \(3, 3\), not \(4, 4\)"),
    ],
)
def test_label_volume__refuses_parts_that_do_not_go_together(more, message):
    with pytest.raises(AtlasError, match=message):
        volume(**more)


def test_label_volume__refuses_a_narrower_type_of_labels():
    with pytest.raises(AtlasError, match=r"labels by voxel are uint8 \(2, 2, 2\), not int32"):
        LabelVolume(Atlas("t", ("a", "b", "c")), (1, 2, 5), FEW.astype(np.uint8), AFFINE)


def test_label_volume__has_a_digest_of_all_that_decides_a_series():
    same = volume(names=("x", "y", "z"), affine=np.where(AFFINE == 0, -0.0, AFFINE), space="s", notes=("n",))
    digest = volume().digest
    assert same.digest == digest
    assert len(digest) == 64
    moved = AFFINE.copy()
    moved[0, 3] += 1
    others = [
        volume(labels=(2, 1, 5)),
        volume(data=FEW[::-1]),
        volume(data=FEW.reshape(1, 4, 2)),
        volume(affine=moved),
    ]
    assert len({digest, *(other.digest for other in others)}) == 5


@pytest.mark.skipif(not SHARED.exists(), reason="../shared/data/atlas is not there")
def test_read_label_volume__of_what_labs_have():
    stem = "Schaefer2018_400Parcels_7Networks_order_Tian_Subcortex_S3"
    for name, space in (
        (f"{stem}_MNI152NLin6Asym_2mm.nii.gz", "MNI152NLin6Asym"),
        (f"{stem}_3T_MNI152NLin2009cAsym_2mm.nii.gz", "MNI152NLin2009cAsym"),
    ):
        found = read_label_volume(SHARED / name, name="a", labels_table=SHARED / f"{stem}_label.txt")
        assert found.labels == tuple(range(1, 451))
        assert found.atlas.roi_names[49:51] == ("aGP-lh", "7Networks_LH_Vis_1")
        assert found.space == space
    assert len(read_label_table(SHARED / "Tian_Subcortex_S3_3T_label.txt").names) == 50
    assert read_label_volume(SHARED / "CC200.nii.gz", name="cc200").atlas == numbered_atlas("cc200")
    many = read_label_volume(SHARED / "CC400.nii.gz", name="cc400")
    assert (many.n_rois, many.labels[-1], many.atlas.roi_names[-1]) == (392, 400, "CC400-400")
